# %% [markdown]
# # Aberrations that views tell
#
# A wavefront that is bent moves each view by the slope of its part of the pupil. The fit finds
# astigmatism, coma and trefoil by the agreement of the refocused views.

# %%
import torch

import optics
import serenet
from serenet.simulation.scenes import tubes_and_bubbles

microscope = optics.presets["nnum13"].with_middle_depths(21)
truth = torch.from_numpy(tubes_and_bubbles(1, microscope))
added = {"astigmatism": 0.2}
found = {}
for name, aberrations in (("none", None), ("astigmatism 0.2", added)):
    psf = optics.phase_space_psf(microscope, size=99, aberrations=aberrations)
    clean = optics.sample_views(
        optics.LightFieldOperator(psf).forward(truth), microscope.lateral_scale
    )
    views = optics.add_camera_noise(
        clean.clamp(min=0), photons=500, read_noise=3, generator=torch.Generator().manual_seed(0)
    )
    found[name] = serenet.fit_aberrations(views, microscope)
    print(f"put in: {name}; found: astigmatism {found[name]['astigmatism']:.3f} waves rms")

# %%
from matplotlib import pyplot as plt  # noqa: E402

figure, panel = plt.subplots(figsize=(7, 3), layout="constrained")
for offset, (name, values) in zip((-0.2, 0.2), found.items(), strict=True):
    panel.bar([i + offset for i in range(len(values))], list(values.values()), 0.4, label=name)
panel.set_xticks(range(len(values)), list(values), rotation=20)
panel.set_ylabel("waves rms")
panel.legend(title="put into the views")
figure.savefig("06_aberrations.png", dpi=80)
