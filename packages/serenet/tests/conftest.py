"""A small microscope, random weights, and the command line, for every test of this package."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from optics import phase_space_psf, presets, write_psf
from serenet import build_model, cli, save_checkpoint

SMALL_DEPTHS = slice(46, 55)
SMALL_SIZE = 39


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self):
        """The one line for the user."""
        lines = [line for line in self.err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture(scope="session")
def small_microscope():
    """The nnum13 microscope with 9 planes around the focus."""
    whole = presets["nnum13"]
    return whole.with_depths(whole.depths_um[SMALL_DEPTHS])


@pytest.fixture(scope="session")
def small_psf(tmp_path_factory, small_microscope):
    """PSF file of `small_microscope`."""
    path = tmp_path_factory.mktemp("psf") / "small.h5"
    write_psf(path, phase_space_psf(small_microscope, size=SMALL_SIZE), small_microscope)
    return path


@pytest.fixture(scope="session")
def random_model():
    """Make a network of lively random weights whose output is positive on noise."""

    def make(name, seed=0, **arguments) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        model = build_model(name, **arguments)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.normal_(0, 0.1, generator=generator)
                else:
                    # Keeps the values' size from layer to layer.
                    gain = math.sqrt(2 / parameter[0].numel())
                    parameter.normal_(0, gain, generator=generator)
            noise = torch.rand((1, model.n_views, 7, 9, 9), generator=generator)
            last = list(model.parameters())[-1]
            values = model.enlarged(500 * noise)
            # LeakyReLU shrinks what is negative.
            last -= 11 * values.min()
        return model.eval()

    return make


@pytest.fixture(scope="session")
def weights(tmp_path_factory, random_model):
    """Checkpoints of random weights by the model's name."""
    folder = tmp_path_factory.mktemp("weights")
    for name, views in {"serenet": 49, "serenetup5": 81, "fserenet": 49}.items():
        save_checkpoint(folder / f"{name}.pth", random_model(name, inChannels=views))
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture
def light_field():
    """Make views (A, h, w) in camera counts: smooth, different, on a pedestal of 100."""

    def make(n_views=49, height=24, width=21, seed=0):
        generator = np.random.default_rng(seed)
        a, y, x = np.meshgrid(
            np.arange(n_views), np.arange(height), np.arange(width), indexing="ij"
        )
        views = 300 * np.sin(0.7 * y + 0.1 * a) ** 2 * np.cos(0.5 * x - 0.2 * a) ** 2
        return (100 + views + generator.normal(0, 3, views.shape)).astype(np.float32)

    return make


@pytest.fixture
def views_file(tmp_path, light_field):
    """A light field on disk, (49, 24, 21)."""
    path = tmp_path / "views.tif"
    tifffile.imwrite(path, light_field())
    return path


@pytest.fixture
def serenet(run_here):
    """Run ``serenet`` with these arguments in this process."""
    return lambda *arguments: Outcome(*run_here(cli.main, "serenet", *arguments))


@pytest.fixture
def contents():
    """Return all names in a folder, hidden ones too; none if it is not there."""

    def names(folder: Path) -> list[str]:
        return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))

    return names
