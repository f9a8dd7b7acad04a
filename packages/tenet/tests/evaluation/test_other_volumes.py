"""Volumes of other programs, other networks and folds, measured in one table."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from scipy.stats import t as student

from scopekit.errors import UserError
from scopekit.images.files import write_volume
from tenet.config.files import load_config
from tenet.evaluation.other_volumes import OtherVolumes, parse_others
from tenet.network.jnet import JNet

HOW = ("--config", "tuned.json", "--out", "out", "--device", "cpu")
LABELS = ("labels/0000_labelx.npy", "labels/0001_labelx.npy")


def rows(path):
    with path.open() as handle:
        return list(csv.DictReader(handle))


def bead(centre, radius=3.0):
    """A ball on the grid of the results, and its volume in um^3."""
    z, y, x = np.ogrid[:24, :20, :20]
    inside = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2
    return inside.astype(np.float32), inside.sum() * 0.2**3


def write_beads(folder, ending="", names=("s00", "s01", "s02"), scale=100.0):
    """Write beads of growing radius as another program would; return their volumes."""
    folder.mkdir()
    volumes = []
    for n, name in enumerate(names):
        volume, um3 = bead((12, 10, 10), 3 + n)
        write_volume(folder / f"{name}{ending}.tif", scale * volume, (0.2,) * 3, overwrite=False)
        volumes.append(um3)
    return volumes


def test_beads_of_other_programs_stand_beside_ours(tenet, work):
    care, rl = write_beads(work / "care", "_CARE"), write_beads(work / "rl", scale=0.01)
    done = tenet(
        "evaluate", "beads", "stacks", *HOW, "--radius-um", 0.7,
        "--volumes", "CARE=care", "--volumes", "RL (other)=rl",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = rows(work / "out" / "beads_scores.csv")
    for method, volumes in (("CARE", care), ("RL (other)", rl)):
        (at_half,) = (row for row in scores if (row["method"], row["threshold"]) == (method, "0.5"))
        assert float(at_half["volume_um3_mean"]) == pytest.approx(np.mean(volumes), rel=1e-4)
        assert at_half["volume_um3_number"] == "3"
        assert float(at_half["sphericity_mean"]) > 0.9
        assert f"{method} " in done.stdout
    page = (work / "out" / "beads_report.html").read_text()
    assert "RL (other)" in page
    assert "<h2>Distributions</h2>" in page
    assert (work / "out" / "beads_violins.png").read_bytes().startswith(b"\x89PNG")
    settings = yaml.safe_load((work / "out" / "beads.yaml").read_text())
    assert settings["volumes"] == {"CARE": "care", "RL (other)": "rl"}


def test_a_bead_alone_counts_though_the_border_cuts_it(tenet, work):
    (work / "care").mkdir()
    volume, um3 = bead((12, 10, 18))
    write_volume(work / "care" / "s00.tif", volume, (0.2,) * 3, overwrite=False)
    done = tenet("evaluate", "beads", "stacks/s00.npy", *HOW, "--volumes", "CARE=care/s00.tif")
    assert done.returncode == 0, done.stderr
    (row,) = (r for r in rows(work / "out" / "beads_scores.csv") if r["method"] == "CARE")
    assert (row["volume_um3_number"], float(row["volume_um3_mean"])) == ("1", pytest.approx(um3))
    (one,) = (r for r in rows(work / "out" / "beads_objects.csv") if r["method"] == "CARE")
    assert one["touches_border"] == "True"


def test_simulations_of_other_programs(tenet, work):
    (work / "neuro").mkdir()
    for n in range(2):
        truth = np.load(work / f"labels/{n:04d}_labelx.npy")[0]
        tifffile.imwrite(work / "neuro" / f"{n:04d}.tif", (1000 * truth).astype(np.uint16))
    done = tenet("evaluate", "simulation", *LABELS, *HOW, "--volumes", "Neuroclear=neuro")
    assert done.returncode == 0, done.stderr
    (best,) = (
        row
        for row in rows(work / "out" / "simulation_scores.csv")
        if (row["method"], row["best"]) == ("Neuroclear", "1")
    )
    assert float(best["iou_mean"]) == 1
    assert best["mse_z_number"] == "0"  # it tells no brightness


@pytest.mark.parametrize(
    ("kind", "made", "message"),
    [
        (("beads", "stacks"), None, "care: no such file or folder; check what CARE wrote"),
        (("beads", "stacks"), ["s00", "s01"], "care: no file of CARE for the image s02"),
        (
            ("beads", "stacks"),
            ["s00_a", "s00_b", "s01", "s02"],
            "care: 2 files of CARE for the image s00",
        ),
        (("simulation",), ["s00"], "CARE: made of which images? give their labels"),
    ],
)
def test_what_is_missing_is_told_before_anything_is_computed(
    tenet, work, monkeypatch, kind, made, message
):
    monkeypatch.setattr("tenet.evaluation.methods.enhance_into", None)
    if made is not None:
        write_beads(work / "care", names=made)
    refused = tenet("evaluate", *kind, *HOW, "--volumes", "CARE=care")
    assert refused.returncode == 2
    assert message in refused.stderr
    assert not (work / "out").exists()


def test_a_volume_of_another_shape_is_not_read(tmp_path, monkeypatch):
    write_beads(tmp_path / "care", names=["s1"])
    monkeypatch.setattr("tenet.data.recordings.RecordingFile.planes", None)
    with pytest.raises(UserError, match=r"\(24, 20, 20\) voxels, the result has \(20, 20, 20\)"):
        OtherVolumes("CARE", tmp_path / "care").read("s1", (20, 20, 20))


def test_volumes_are_those_of_their_image_and_whole(tmp_path):
    folder = tmp_path / "care"
    write_beads(folder, names=["s1", "s10", "s1_x"])
    other = OtherVolumes("CARE", folder)
    assert other.find("s1").name == "s1.tif"
    assert other.find("s10").name == "s10.tif"
    with pytest.raises(UserError, match=r"\(24, 20, 20\) voxels, the result has \(20, 20, 20\)"):
        other.read("s1", (20, 20, 20))
    volume = bead((12, 10, 10))[0]
    volume[3, 3, 3] = np.nan
    np.save(folder / "bad.npy", volume)
    with pytest.raises(UserError, match=r"bad\.npy: holds NaN"):
        other.read("bad", volume.shape)
    assert parse_others(["A=b=c"]) == (OtherVolumes("A", Path("b=c")),)
    with pytest.raises(UserError, match="care: give NAME=FOLDER"):
        parse_others(["care"])


def test_several_networks_are_compared_in_one_table(tenet, work):
    done = tenet(
        "evaluate", "simulation", LABELS[0], *HOW, "--also", "small.json=model/small.pt",
        "--also", "tuned.json=model/small.pt",
    )  # fmt: skip
    assert done.returncode == 2
    assert "small: two methods of that name" in done.stderr
    shutil.copy(work / "tuned.json", work / "ablation.json")
    model = JNet(load_config("tuned.json").params)
    torch.save(model.state_dict(), work / "model" / "ablation.pt")
    done = tenet("evaluate", "simulation", LABELS[0], *HOW, "--also", "ablation.json")
    assert done.returncode == 0, done.stderr
    found = {row["method"]: row for row in rows(work / "out" / "simulation_images.csv")}
    assert set(found) == {"tenet", "ablation"}
    assert found["tenet"]["mse"] != found["ablation"]["mse"]
    assert found["ablation"]["mse_z"]
    alone = tenet(
        "evaluate", "simulation", LABELS[0], "--config", "ablation.json", "--out", "alone",
        "--device", "cpu",
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    (row, *_) = rows(work / "alone" / "simulation_images.csv")
    assert row["mse"] == found["ablation"]["mse"]
    settings = yaml.safe_load((work / "out" / "simulation.yaml").read_text())
    assert settings["models"] == {"ablation": "model/ablation.pt"}


def test_networks_for_other_voxels_are_refused(tenet, work, write_config):
    coarse = load_config(write_config("coarse", params__res_lateral=0.3)).params
    torch.save(JNet(coarse).state_dict(), work / "model" / "coarse.pt")
    refused = tenet("evaluate", "beads", "stacks", *HOW, "--also", "coarse.json")
    assert refused.returncode == 2
    assert "compare networks for the same recordings" in refused.stderr


@pytest.fixture
def folds(work):
    """Two folds: their recordings, and the weights that were fine-tuned without them."""
    for fold, names in (("1", ["s00", "s01"]), ("2", ["s02", "s00"])):
        (work / f"stacks{fold}").mkdir()
        for name in names:
            shutil.copy(work / "stacks" / f"{name}.npy", work / f"stacks{fold}")
        torch.manual_seed(int(fold))
        model = JNet(load_config("tuned.json").params)
        torch.save(model.state_dict(), work / "model" / f"tuned_cv_{fold}.pt")
    return work


def test_folds_are_pooled_each_with_its_weights(tenet, folds):
    given = ("evaluate", "microglia", "stacks", "--config", "tuned.json", "--device", "cpu")
    each = {}
    for fold in ("1", "2"):
        done = tenet(*given, "--fold", fold, "--out", f"out{fold}")
        assert done.returncode == 0, done.stderr
        each[fold] = rows(folds / f"out{fold}" / "microglia_images.csv")
    done = tenet(*given, "-cv", "1", "--fold", "2", "--out", "out")
    assert done.returncode == 0, done.stderr
    images = rows(folds / "out" / "microglia_images.csv")
    assert [row["image"] for row in images] == [
        "fold1_s00", "fold1_s01", "fold2_s00", "fold2_s02",
    ]  # fmt: skip
    values = [float(row["reconstruction_mse"]) for row in images]
    alone = [float(row["reconstruction_mse"]) for fold in each.values() for row in fold]
    assert values == pytest.approx(alone)
    assert values[0] != values[2]  # the same image by other weights
    scores = {row["method"]: row for row in rows(folds / "out" / "microglia_scores.csv")}
    assert set(scores) == {"tenet", "tenet, fold 1", "tenet, fold 2"}
    pooled = scores["tenet"]
    assert pooled["reconstruction_mse_number"] == "4"
    assert float(pooled["reconstruction_mse_mean"]) == pytest.approx(np.mean(values), rel=1e-4)
    half = student.ppf(0.975, 3) * np.std(values, ddof=1) / 2
    assert float(pooled["reconstruction_mse_ci95"]) == pytest.approx(half, rel=1e-3)
    assert scores["tenet, fold 2"]["reconstruction_mse_number"] == "2"
    settings = yaml.safe_load((folds / "out" / "microglia.yaml").read_text())
    assert settings["weights"] == ["model/tuned_cv_1.pt", "model/tuned_cv_2.pt"]
    assert settings["folds"] == ["1", "2"]


def test_folds_without_inputs_are_those_of_the_configuration(tenet, folds):
    done = tenet("evaluate", "microglia", *HOW, "--fold", "1", "--fold", "2")
    assert done.returncode == 0, done.stderr
    images = rows(folds / "out" / "microglia_images.csv")
    # What validates: the last of each folder's two.
    assert [row["image"] for row in images] == ["fold1_s01", "fold2_s02"]


def test_another_network_has_the_weights_of_each_fold_too(tenet, folds):
    for name in ("ablation.json", "model/ablation.pt"):
        shutil.copy(folds / name.replace("ablation", "tuned"), folds / name)
    for fold, other in (("1", "2"), ("2", "1")):
        weights = folds / "model" / f"tuned_cv_{other}.pt"
        shutil.copy(weights, folds / "model" / f"ablation_cv_{fold}.pt")
    errors = {}
    for config, also in (("tuned", ("--also", "ablation.json")), ("ablation", ())):
        how = ("--config", f"{config}.json", "--out", config, "--device", "cpu", *also)
        done = tenet("evaluate", "microglia", "stacks", *how, "--fold", 1, "--fold", 2)
        assert done.returncode == 0, done.stderr
        images = rows(folds / config / "microglia_images.csv")
        errors[config] = {(r["method"], r["image"]): r["reconstruction_mse"] for r in images}
    for image in ("fold1_s00", "fold1_s01", "fold2_s00", "fold2_s02"):
        found = errors["tuned"]["ablation", image]
        assert found == errors["ablation"]["tenet", image]
        assert found != errors["tuned"]["tenet", image]
    settings = yaml.safe_load((folds / "tuned" / "microglia.yaml").read_text())
    expected = {"ablation": ["model/ablation_cv_1.pt", "model/ablation_cv_2.pt"]}
    assert settings["models"] == expected


def test_what_aligns_is_told_once_for_all_folds(tenet, folds, write_config):
    write_config("tuned", align_model="none")
    done = tenet("evaluate", "microglia", *HOW, "--fold", 1, "--fold", 2, "--align")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("slices are aligned by the network that ships") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fold", "3"), "tuned_cv_3.pt: no such file; run tenet finetune tuned on fold 3 first"),
        (("--fold", "1", "--checkpoint", "model/tuned.pt"), "each fold has its own weights"),
        (("stacks/s00.npy", "--fold", "1"), "stacks/s00.npy: a file; give folders"),
        (("--fold", "1", "--also", "tuned.json=model/small.pt"), "give tuned.json alone"),
        (
            ("--fold", "1", "--also", "small.json"),
            "small_cv_1.pt: no such file; run tenet finetune",
        ),
        (
            ("--fold", "1", "-cv", "2", "--fold", "1"),
            "fold 1: named twice, its images would count twice",
        ),
    ],
)
def test_mistakes_with_folds(tenet, folds, options, message):
    refused = tenet("evaluate", "beads", *options, *HOW)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert not (folds / "out").exists()
