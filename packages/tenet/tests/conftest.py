"""A configuration small enough to run in seconds, what it learns from, and the command line."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenet.cli import app as cli
from tenet.config.files import load_config
from tenet.data.small_phantom import tubes_and_solids
from tenet.network.jnet import JNet

SHAPE = (24, 20, 20)  # of labels
CROPS = {"size": [24, 20, 20], "cropsize": [16, 16, 16], "scale": 4, "mask": True}
SMALL = {
    "pretrained_model": "small",
    "params": {
        "hidden_channels_list": [4, 8],
        "nblocks": 1,
        "size_x": 7,
        "size_y": 7,
        "size_z": 20,
        "NA": 0.7,
        "wavelength": 0.9,
        "ns": 1.4,
        "ng0": 1.5,
        "ng": 1.5,
        "ni0": 1.33,
        "ni": 1.33,
        "ti0": 150,
        "tg0": 170,
        "tg": 170,
        "res_lateral": 0.2,
        "res_axial": 0.8,
        "pZ": 0,
        "bet_z": 1.0,
        "bet_xy": 2.0,
        "blur_mode": "gaussian",
        "nipsf_loss_target": 1e-3,
        "mid": 8,
        "scale": 4,
    },
    "pretrain_dataset": CROPS
    | {"folderpath": "labels", "I": 4, "low": 0, "high": 2, "mask_size": [1, 3, 3], "mask_num": 2},
    "pretrain_val_dataset": CROPS
    | {"folderpath": "labels", "I": 2, "low": 2, "high": 3, "mask": False, "seed": 7},
    "pretrain_loop": {"batch_size": 2, "n_epochs": 3, "lr": 1e-3},
    "train_dataset": CROPS | {"folderpath": "stacks", "I": 4, "train": True},
    "val_dataset": CROPS | {"folderpath": "stacks", "I": 2, "train": False, "mask": False},
    "test_dataset": {"test_images": ["09"]},
    "train_loop": {"n_epochs": 3, "lr": 1e-3, "ewc": True},
}


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Return ``write_config(name="small", **changes)``, ``section__key=value`` for one key."""

    def write(name: str = "small", **changes: Any) -> Path:
        content = copy.deepcopy(SMALL)
        for place, value in changes.items():
            section, _, key = place.partition("__")
            if key:
                content.setdefault(section, {})[key] = value
            else:
                content[section] = value
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture
def golden() -> Callable[[str], Any]:
    """Return ``golden(name)``: values that were computed elsewhere."""
    return lambda name: np.load(Path(__file__).parent / "golden" / f"{name}.npz")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of labels (3), and of recordings of others (5); not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("labels", "stacks"):
        (folder / name).mkdir()
    for n in range(3):
        x, z = tubes_and_solids(n, SHAPE)
        np.save(folder / "labels" / f"{n:04d}_labelx.npy", x[None])
        np.save(folder / "labels" / f"{n:04d}_labelz.npy", z[None])
    rng = np.random.default_rng(0)
    for n in range(5):
        _, z = tubes_and_solids(100 + n, SHAPE)
        stack = z.reshape(6, 4, 20, 20).mean(axis=1) + 0.05 * rng.random((6, 20, 20))
        np.save(folder / "stacks" / f"s{n:02d}.npy", stack.astype(np.float32))
    return folder


@pytest.fixture
def work(
    tmp_path: Path,
    small_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    write_config: Callable[..., Path],
) -> Path:
    """Return the working folder: configurations, random weights, labels (3), recordings (3)."""
    monkeypatch.chdir(tmp_path)
    write_config()
    params = load_config(write_config("tuned")).params
    (tmp_path / "model").mkdir()
    torch.manual_seed(0)
    for name in ("small", "tuned"):
        torch.save(JNet(params).state_dict(), tmp_path / "model" / f"{name}.pt")
    shutil.copytree(small_data / "labels", tmp_path / "labels")
    left_out = shutil.ignore_patterns("s03.npy", "s04.npy")
    shutil.copytree(small_data / "stacks", tmp_path / "stacks", ignore=left_out)
    return tmp_path


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def tenet(run_here: Callable[..., tuple[int, str, str]]) -> Callable[..., Outcome]:
    """Run ``tenet`` with these arguments in this process, which has PyTorch loaded already."""
    return lambda *arguments: Outcome(*run_here(cli.main, "tenet", *arguments))
