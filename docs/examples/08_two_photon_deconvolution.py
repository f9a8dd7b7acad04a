# %% [markdown]
# # Deconvolution of a two-photon stack
#
# Richardson-Lucy with total variation and the PSF of the configuration, straight to the finer
# planes: no training, and the one that a network has to beat.

# %%
import tenet
from tenet.data.small_phantom import tubes_and_solids
from tenet.demo import image_of

model = tenet.load_model("demo_pretrain")
truth, brightness = tubes_and_solids(seed=5, shape=(96, 96, 96))
image = image_of(brightness, model, seed=0)[0, 0]

# %%
from scopekit.metrics import correlation  # noqa: E402

results = {"image": image.repeat_interleave(4, 0).numpy()}
for iterations in (10, 40):
    results[f"{iterations} iterations"] = tenet.rl_tv(image.numpy(), "demo", iterations=iterations)
for name, volume in results.items():
    print(f"{name}: correlation with the true brightness {correlation(brightness, volume):.3f}")

# %%
from matplotlib import pyplot as plt  # noqa: E402

figure, panels = plt.subplots(1, 4, figsize=(12, 3.3), layout="constrained")
for panel, (name, volume) in zip(panels, {**results, "truth": brightness}.items(), strict=True):
    panel.imshow(volume.max(1), cmap="magma")
    panel.set_title(f"{name}, from the side", fontsize=9)
    panel.set_axis_off()
figure.savefig("08_two_photon_deconvolution.png", dpi=80)
