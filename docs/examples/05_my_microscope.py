# %% [markdown]
# # What the parameters of a microscope do
#
# The pixel of the volume is `pitch / n_num / magnification`; how far a view shifts with depth
# follows from its direction. Here one parameter at a time is changed, as if it had been written
# down wrongly, and the PSF of an oblique view at 5 um defocus shows what the program would believe.

# %%
import numpy as np
from matplotlib import pyplot as plt

import optics

right = optics.presets["nnum13"]
wrong = {
    "as it is": {},
    "magnification 40": {"magnification": 40.0},
    "focal length 3000 um": {"microlens_focal_length_um": 3000.0},
    "index 1.33, NA 1.2": {"refractive_index": 1.33, "numerical_aperture": 1.2},
}

# %%
figure, panels = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
for panel, (name, change) in zip(panels, wrong.items(), strict=True):
    microscope = optics.LightFieldMicroscope.model_validate(
        right.model_dump() | change | {"depths_um": (0.0, 5.0), "views": (84, 88)}
    )
    psf = optics.phase_space_psf(microscope, size=131)
    moved = (optics.psf_shift(psf)[1, 1] - optics.psf_shift(psf)[1, 0]).numpy()
    um = float(np.hypot(*moved)) * microscope.pixel_um
    print(f"{name}: voxel {microscope.pixel_um:.3f} um, the view moves {um:.2f} um in 5 um")
    panel.imshow(psf[1, 1] ** 0.5, cmap="magma")
    panel.set_title(name, fontsize=9)
    panel.set_axis_off()
figure.savefig("05_my_microscope.png", dpi=80)
