# %% [markdown]
# # A network, and physics on top
#
# The network that ships with the demo was trained for three minutes on simulated scenes of this
# kind. It takes a fraction of a second. 25 updates by the optics follow. They sharpen fine lines,
# and noise near the border too: in this scene the correlation falls a little, in
# [thicker ones](../comparison.md#at-full-size) it rises.

# %%
import time

import torch

import optics
import serenet
from serenet.simulation.scenes import tubes_and_bubbles

microscope = optics.presets["nnum13"].with_middle_depths(41)
truth = tubes_and_bubbles(3, microscope)
psf = optics.phase_space_psf(microscope, size=99)
clean = optics.sample_views(
    optics.LightFieldOperator(psf).forward(torch.from_numpy(truth)), microscope.lateral_scale
)
views = optics.add_camera_noise(
    clean.clamp(min=0), photons=500, read_noise=3, generator=torch.Generator().manual_seed(0)
)
views = views.clamp(min=0)  # read noise goes below 0, counts do not

# %%
model = serenet.load_checkpoint("demo")
started = time.process_time()
volume = serenet.reconstruct(views, model, microscope)
print(f"network: {time.process_time() - started:.1f} s")

# %%
refined = serenet.refine(volume, views, psf, 25, microscope=microscope)
for name, result in (("network", volume), ("refined", refined)):
    score = serenet.compare(torch.from_numpy(truth), result)
    print(f"{name}: correlation {score.correlation:.3f}, PSNR {score.psnr_db:.1f} dB")
serenet.draw({"truth": truth, "network": volume, "refined": refined}, microscope.voxel_um).save(
    "03_network_and_refinement.png"
)
