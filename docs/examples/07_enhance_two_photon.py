# %% [markdown]
# # Enhance a two-photon stack and measure the objects
#
# A phantom of tubes and solids is imaged with blur and noise; the network that ships finds its
# structure, four times finer along z, and the objects in it are measured.

# %%
import tenet
from tenet.data.small_phantom import tubes_and_solids
from tenet.demo import image_of
from tenet.metrics import scores_of

model = tenet.load_model("demo_pretrain")
truth, brightness = tubes_and_solids(seed=5, shape=(96, 96, 96))
image = image_of(brightness, model, seed=0)[0, 0].numpy()
print("image (z, y, x):", image.shape, "truth:", truth.shape)

# %%
found = tenet.enhance(model, image, voxel_um=model.recorded_voxel_um, value_range=(0, 1))
scores = scores_of(found.structure, truth, model.params.threshold)
print(f"overlap with the truth (IoU): {scores['iou']:.3f}")
labels = tenet.label_objects(found.structure, model.params.threshold)
for one in tenet.measure_objects(labels, found.voxel_um, found.brightness)[:5]:
    print(f"object {one.label}: {one.volume_um3:.1f} um^3, sphericity {one.sphericity:.2f}")

# %%
from matplotlib import pyplot as plt  # noqa: E402

shown = {"image": image, "structure": found.structure, "truth": truth}
figure, panels = plt.subplots(2, 3, figsize=(9, 6), layout="constrained")
for column, (name, volume) in enumerate(shown.items()):
    panels[0, column].imshow(volume.max(0), cmap="magma")
    panels[0, column].set_title(f"{name}: from above")
    panels[1, column].imshow(volume.max(1), cmap="magma", aspect=96 / len(volume))
    panels[1, column].set_title("from the side")
for panel in panels.ravel():
    panel.set_axis_off()
figure.savefig("07_enhance_two_photon.png", dpi=80)
