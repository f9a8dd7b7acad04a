# %% [markdown]
# # Deconvolve views
#
# Deconvolution needs the optics alone, no training. One iteration is a sweep over all views; after
# three little is to be gained, and noise grows.

# %%
import time

import torch

import optics
import serenet
from serenet.simulation.scenes import tubes_and_bubbles

microscope = optics.presets["nnum13"].with_middle_depths(21)
truth = tubes_and_bubbles(0, microscope)
psf = optics.phase_space_psf(microscope, size=99)
clean = optics.sample_views(
    optics.LightFieldOperator(psf).forward(torch.from_numpy(truth)), microscope.lateral_scale
)
views = optics.add_camera_noise(
    clean.clamp(min=0), photons=500, read_noise=3, generator=torch.Generator().manual_seed(0)
)
views = views.clamp(min=0).numpy()  # read noise goes below 0, counts do not

# %%
volumes = {"truth": truth}
for iterations in (1, 3):
    started = time.process_time()
    found = serenet.deconvolve(views, psf.numpy(), iterations, microscope=microscope)
    name = f"{iterations} sweep{'s' if iterations > 1 else ''}"
    volumes[name] = found
    took = time.process_time() - started
    print(f"{name}: correlation {serenet.compare(truth, found).correlation:.3f}, {took:.1f} s")

# %% [markdown]
# Total variation smooths what noise made, and fine detail with it.

# %%
smooth = serenet.deconvolve(views, psf.numpy(), 3, tv=0.01, microscope=microscope)
volumes["3 sweeps, tv 0.01"] = smooth
print(f"with tv 0.01: correlation {serenet.compare(truth, smooth).correlation:.3f}")
serenet.draw(volumes, microscope.voxel_um).save("02_deconvolve_views.png")
