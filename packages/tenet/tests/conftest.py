"""A configuration small enough to run in seconds, and the command line."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tenet.cli import app as cli

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
