# %% [markdown]
# # Make a light field
#
# A volume of tubes and bubbles, the 49 views that the 63x / 1.4 microscope records of it, with the
# noise of 500 photons in the brightest pixel. Simulated views have a truth, so every method can be
# judged by them.

# %%
import torch

import optics
import serenet
from serenet.simulation.scenes import tubes_and_bubbles

microscope = optics.presets["nnum13"].with_middle_depths(21)
volume = tubes_and_bubbles(0, microscope)
print("volume (z, y, x):", volume.shape, "voxels, um:", [round(s, 3) for s in microscope.voxel_um])

# %% [markdown]
# The PSF of each view comes from wave optics: one image for each of the 21 planes. A view sees the
# volume from its own side, so the planes are shifted against each other: that shift is all that
# tells depth.

# %%
psf = optics.phase_space_psf(microscope, size=99)
shift = optics.psf_shift(psf)
print("PSF (views, planes, y, x):", tuple(psf.shape))
print(f"an outer view moves by {shift[-1, 0].abs().max():.1f} voxels from first plane to focus")

# %% [markdown]
# The camera adds noise. Shifted back for each depth and averaged, the views show that depth sharp
# and all others blurred: what one sees before any reconstruction.

# %%
clean = optics.sample_views(
    optics.LightFieldOperator(psf).forward(torch.from_numpy(volume)), microscope.lateral_scale
)
views = optics.add_camera_noise(
    clean.clamp(min=0), photons=500, read_noise=3, generator=torch.Generator().manual_seed(0)
)
refocused = serenet.decompose(views, shift / microscope.lateral_scale).mean(0)
refocused = torch.nn.functional.interpolate(refocused[None], volume.shape[1:], mode="bilinear")[0]
picture = serenet.draw({"truth": volume, "refocused views": refocused}, microscope.voxel_um)
picture.save("01_make_a_light_field.png")
print("views (view, y, x):", tuple(views.shape))
