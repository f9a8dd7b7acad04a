# %% [markdown]
# # A recorded vesicle, from the camera frame on
#
# One frame of a light-field microscope, `serenet samples get guv`: a shell 27 um across. To be
# quick it is deconvolved here in 13 planes by one sweep; [the whole story](../guv.md) has 53 and
# three.

# %%
import numpy as np
import tifffile
from matplotlib import pyplot as plt

import serenet
from serenet.samples.files import sample_folder

folder = sample_folder("guv")
microscope = serenet.load_microscope(folder / "guv.yaml")
raw = tifffile.imread(folder / "light_field.tif").astype(np.float32)
flat = tifffile.imread(folder / "radiometry_frame.tif").astype(np.float32)
views = serenet.rectify(raw, flat, microscope)
print("views (view, lens row, lens column):", views.shape)

# %% [markdown]
# Every view is the sample from another side, one pixel a lens. The network and the deconvolution
# use those within two thirds of the aperture.

# %%
few = microscope.with_depths([float(z) for z in range(-18, 19, 3)])
used = serenet.subtract_background(views[list(few.views)])
volume = serenet.deconvolve(used, few, 1)
print("volume (z, y, x):", volume.shape, "voxels, um:", [round(s, 3) for s in few.voxel_um])

# %%
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
left.imshow(raw[150:290, 150:290], cmap="gray")
left.set_title("camera frame, a part: lenses")
middle.imshow(views[few.central_view], cmap="magma")
middle.set_title("the central view")
right.imshow(volume[6], cmap="magma", vmax=np.quantile(volume[6], 0.998))
right.set_title("the plane in focus")
for panel in (left, middle, right):
    panel.set_axis_off()
figure.savefig("04_recorded_vesicle.png", dpi=80)
