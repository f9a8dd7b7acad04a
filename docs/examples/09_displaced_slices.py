# %% [markdown]
# # Slices that breathing displaced
#
# The small network that ships estimates how far each slice was moved, and moves it back; it never
# paints. A drift of the whole stack stays as it was recorded.

# %%
import numpy as np
from matplotlib import pyplot as plt
from scipy import ndimage

import tenet

rng = np.random.default_rng(2)
blobs = ndimage.gaussian_filter(rng.normal(size=(24, 96, 96)), (4, 4, 4))
stack = np.clip(blobs / blobs.max(), 0, None).astype(np.float32)
moved = 2.5 * np.sin(np.arange(24) / 2)[:, None] * np.array([1.0, 0.6])
shaken = np.stack([ndimage.shift(p, s, mode="nearest") for p, s in zip(stack, moved, strict=True)])

# %%
aligned, shifts = tenet.align(shaken)


def left_over(values):
    return float(np.sqrt(np.square(values - values.mean(0)).sum(1).mean()))


print(f"displaced by {left_over(moved):.2f} pixels rms; left over {left_over(moved - shifts):.2f}")

# %%
figure, panels = plt.subplots(1, 3, figsize=(10, 2), layout="constrained")
volumes = {"displaced": shaken, "aligned": aligned, "truth": stack}
for panel, (name, volume) in zip(panels, volumes.items(), strict=True):
    panel.imshow(volume[:, 48], cmap="magma", aspect=2)
    panel.set_title(f"{name}: from the side")
    panel.set_axis_off()
figure.savefig("09_displaced_slices.png", dpi=80)
