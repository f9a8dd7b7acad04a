"""``tenet evaluate`` and the classes for notebooks, with a network of random weights."""

import base64
import csv
import inspect
import math
import re
from functools import partial

import numpy as np
import pytest
import tifffile
import torch
import yaml

import tenet as package
from scopekit.errors import UserError
from scopekit.images.files import write_volume
from scopekit.outputs import claimed
from tenet.cli import evaluate as cli_evaluate
from tenet.config.files import load_config
from tenet.evaluation import baselines
from tenet.evaluation import run as evaluation_run
from tenet.evaluation.kinds import Beads, Microglia, Simulation
from tenet.evaluation.samples import recorded_samples
from tenet.evaluation.setting import EvaluationOptions
from tenet.network.jnet import JNet

SHAPE = (24, 20, 20)
LABELS = ("labels/0000_labelx.npy", "labels/0001_labelx.npy")
PNG = b"\x89PNG"


def rows(path):
    with path.open() as handle:
        return list(csv.DictReader(handle))


def test_simulation(tenet, work):
    done = tenet(
        "evaluate", "simulation", *LABELS, "--config", "tuned.json", "--out", "out",
        "--baselines", "--iterations", 3, "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (work / "out").iterdir()}
    pictures = {f"simulation_000{n}.png" for n in range(2)}
    tables = {"simulation_scores.csv", "simulation_images.csv"}
    others = {f"simulation_{what}.png" for what in ("psf", "thresholds", "violins")}
    others.add("simulation_report.html")
    assert names == {*pictures, *tables, *others, "simulation.yaml"}

    scores = rows(work / "out" / "simulation_scores.csv")
    assert {row["method"] for row in scores} == {"tenet", "RL-TV", "interpolation"}
    for method in ("tenet", "RL-TV", "interpolation"):
        own = [row for row in scores if row["method"] == method]
        (best,) = (row for row in own if row["best"] == "1")
        assert float(best["iou_mean"]) == max(float(row["iou_mean"]) for row in own)
        assert best["iou_number"] == "2"
        assert f"{method} " in done.stdout
    images = rows(work / "out" / "simulation_images.csv")
    given = [float(r["iou"]) for r in images if (r["method"], r["threshold"]) == ("tenet", "0.5")]
    (mean,) = (
        row["iou_mean"] for row in scores if (row["method"], row["threshold"]) == ("tenet", "0.5")
    )
    assert float(mean) == pytest.approx(np.mean(given), abs=1e-5)

    page = (work / "out" / "simulation_report.html").read_text()
    embedded = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(embedded) == 5
    assert all(base64.b64decode(content).startswith(PNG) for content in embedded)
    assert "http" not in page
    settings = yaml.safe_load((work / "out" / "simulation.yaml").read_text())
    assert settings["weights"] == "model/tuned.pt"


def test_beads_that_fill_the_image_are_none(tenet, work):
    config = load_config(work / "tuned.json")
    model = JNet(config.params)
    for tail in (model.postx, model.postz):
        for parameter in tail.parameters():
            torch.nn.init.zeros_(parameter)
    torch.save(model.state_dict(), work / "grey.pt")
    tifffile.imwrite(work / "s.tif", np.random.default_rng(0).random((6, 20, 20), np.float32))
    done = tenet(
        "evaluate", "beads", "s.tif", "--config", "tuned.json", "--checkpoint",
        "grey.pt", "--out", "out", "--radius-um", 1, "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = rows(work / "out" / "beads_scores.csv")
    # Structure is 0.5 everywhere: no bead is free of the border.
    assert {row["volume_um3_number"] for row in scores} == {"0"}
    assert not any(row["best"] == "1" for row in scores)
    # The ideal is the volume of a bead of that radius.
    assert (
        "<td>ideal</td><td></td><td></td><td>4.189</td>"
        in (work / "out" / "beads_report.html").read_text()
    )
    why = "tenet: no beads at threshold 0.5: 1 objects touch the border or are too small"
    assert why in done.stdout
    assert why in (work / "out" / "beads_report.html").read_text()
    assert not (work / "out" / "beads_objects.csv").exists()


def test_microglia_lists_objects_in_um(tenet, work):
    done = tenet(
        "evaluate", "microglia", "stacks/s00.npy", "--config", "tuned.json", "--out", "out",
        "--threshold", 0.45, "--baselines", "--iterations", 2, "--device", "cpu", "--align",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    objects = rows(work / "out" / "microglia_objects.csv")
    images = rows(work / "out" / "microglia_images.csv")
    assert len(images) == 3
    assert {row["touches_border"] for row in objects} <= {"True", "False"}
    assert any(float(row["mean_brightness"]) > 0 for row in objects if row["method"] == "tenet")
    for image in images:
        own = [
            row
            for row in objects
            if (row["image"], row["method"]) == (image["image"], image["method"])
        ]
        assert len(own) == float(image["objects"])
        # Voxels of 0.2 um in all directions; specks are no objects.
        volume = sum(float(row["volume_um3"]) for row in own)
        assert volume <= float(image["segmented_fraction"]) * math.prod(SHAPE) * 0.008 * 1.0001
    assert "microglia_thresholds.png" not in {path.name for path in (work / "out").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["beads", "missing.tif"], "missing.tif: no such file"),
        (["beads", "flat.npy"], "flat.npy: constant"),
        (["microglia", "labels.txt"], "labels.txt: "),
        (
            ["beads", "labels"],
            "0000_labelx.npy is a label of datagen, not a recording: use 'tenet ev",
        ),
        (["beads", "stacks", "--value-range", "3", "1"], "--value-range 3 1: give the lower value"),
        (
            ["beads", "stacks/s00.npy", "--value-range", "5", "9"],
            "all lie outside --value-range 5 9",
        ),
        (["simulation", "labels", "--value-range", "0", "1"], "--value-range: labels are imaged"),
        (["simulation", "stacks"], "stacks: no label"),
        (["simulation", "labels", "--images", "one"], "one: 1 images of 3 labels"),
        (["beads", "stacks", "--checkpoint", "none.pt"], "none.pt: no such file"),
    ],
)
def test_mistakes_end_in_one_line_and_leave_nothing(tenet, work, arguments, message):
    np.save(work / "flat.npy", np.ones((4, 8, 8)))
    (work / "labels.txt").write_text("")
    (work / "one").mkdir()
    np.save(work / "one" / "a.npy", np.random.default_rng(0).random((6, 20, 20)))
    refused = tenet("evaluate", *arguments, "--config", "tuned.json", "--out", "out")
    assert refused.returncode == 2
    assert message in refused.stderr
    assert refused.stderr.count("error:") == 1
    assert not (work / "out").exists()


def test_nothing_is_replaced_unasked(tenet, work):
    (work / "out").mkdir()
    (work / "out" / "beads_report.html").write_text("mine")
    command = ("evaluate", "beads", "stacks", "--config", "tuned.json", "--out", "out")
    refused = tenet(*command)
    assert refused.returncode == 2
    assert "add --overwrite" in refused.stderr
    assert (work / "out" / "beads_report.html").read_text() == "mine"


@pytest.mark.parametrize("kind", [Beads(), Microglia(), Simulation()])
def test_a_second_evaluation_into_one_folder_is_told(work, kind):
    options = EvaluationOptions("tuned.json", work / "out", device="cpu")
    if isinstance(kind, Simulation):
        evaluate, inputs = evaluation_run.evaluate_simulation, LABELS[0]
    else:
        evaluate = partial(evaluation_run.evaluate_recordings, kind)
        inputs = "stacks/s00.npy"
    told = pytest.raises(UserError, match=f"out/{kind.name}: another run")
    with claimed(work / "out" / kind.name), told:
        evaluate([work / inputs], options)
    assert list((work / "out").iterdir()) == []


def test_other_voxels_are_told(work, capsys):
    path = work / "s.tif"
    recording = np.random.default_rng(0).random((6, 20, 20)).astype(np.float32)
    write_volume(path, recording, (1.0, 0.2, 0.2), overwrite=False)
    params = load_config("tuned.json").params
    list(recorded_samples([path], params))
    told = " ".join(capsys.readouterr().err.split())
    assert "s.tif: voxels of 1 x 0.2 x 0.2 um" in told
    assert "the configuration has 0.8 x" in told
    write_volume(path, recording, (0.8, 0.2, 0.2), overwrite=True)
    list(recorded_samples([path], params))
    assert "voxels of" not in capsys.readouterr().err


def test_a_best_threshold_at_the_end_of_the_scan_is_told(tenet, work, monkeypatch):
    monkeypatch.setattr(evaluation_run, "THRESHOLDS", (0.5, 0.9))
    done = tenet("evaluate", "simulation", LABELS[0], "--config", "tuned.json", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert (
        "tenet: best threshold is the end of the scan: images may be in another scale"
        in done.stdout
    )
    monkeypatch.setattr(evaluation_run, "THRESHOLDS", (0.0, 0.5, 1.0))
    command = ("--threshold", 0.4, "--config", "tuned.json", "--out", "again")
    done = tenet("evaluate", "simulation", LABELS[0], *command)
    best = [r for r in rows(work / "again" / "simulation_scores.csv") if r["best"] == "1"]
    assert ("end of the scan" in done.stdout) == (best[0]["threshold"] in ("0", "1"))


def test_bad_files_are_told_and_the_rest_is_done(tenet, work):
    rng = np.random.default_rng(0)
    np.save(work / "stacks" / "flat.npy", np.ones((6, 20, 20)))
    np.save(work / "stacks" / "s02.npy", rng.random((2, 1, 6, 20, 20)))
    done = tenet("evaluate", "microglia", "stacks", "--config", "tuned.json", "--out", "out")
    assert done.returncode == 2
    assert "error: stacks/flat.npy: constant" in done.stderr
    assert "1 of 4 inputs failed, the rest is done: stacks/flat.npy" in done.stderr
    assert "s00.npy: tells no voxel size; taken from the configuration, 0.8 x 0.2" in done.stderr
    assert "s02.npy: a series of 2 time points; time point 0 alone is evaluated" in done.stderr
    images = rows(work / "out" / "microglia_images.csv")
    assert [image["image"] for image in images] == ["s00", "s01", "s02"]
    assert yaml.safe_load((work / "out" / "microglia.yaml").read_text())["images"] == 3

    (work / "labels" / "0001_labelz.npy").unlink()
    done = tenet("evaluate", "simulation", *LABELS, "--config", "tuned.json", "--out", "out")
    assert done.returncode == 2
    assert "1 of 2 inputs failed, the rest is done: labels/0001_labelx.npy" in done.stderr
    images = rows(work / "out" / "simulation_images.csv")
    assert {image["image"] for image in images} == {"0000"}


def test_recorded_values_that_are_0_and_1_can_be_given(tenet, work):
    volume = np.random.default_rng(0).random((6, 20, 20), np.float32)
    tifffile.imwrite(work / "s.tif", 100 + 100 * volume)
    (sample,) = recorded_samples(
        [work / "s.tif"], load_config("tuned.json").params, value_range=(120, 320)
    )
    expected = np.clip((100 * volume - 20) / 200, 0, 1)
    np.testing.assert_allclose(sample.image, expected, atol=1e-6)
    beads = package.BeadsInference("tuned.json", value_range=(120, 320), device="cpu")
    (result,) = beads.get_result("s.tif")
    assert np.array_equal(result.image, sample.image)
    (work / "images").mkdir()
    (work / "s.tif").rename(work / "images" / "s.tif")
    done = tenet(
        "evaluate", "simulation", LABELS[0], "--images", "images", "--value-range", 120, 320,
        "--config", "tuned.json", "--out", "out", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    settings = yaml.safe_load((work / "out" / "simulation.yaml").read_text())
    assert settings["value_range"] == [120, 320]


def test_missing_weights_are_told(tenet, work):
    for name in ("small", "tuned"):
        (work / "model" / f"{name}.pt").unlink()
    refused = tenet("evaluate", "beads", "stacks", "--config", "tuned.json", "--out", "out")
    assert refused.returncode == 2
    assert "run tenet pretrain tuned first" in refused.stderr


def test_the_commands_defaults_are_those_of_the_baseline():
    for command in (cli_evaluate.beads, cli_evaluate.microglia, cli_evaluate.simulation):
        defaults = inspect.signature(command).parameters
        assert defaults["iterations"].default == baselines.ITERATIONS
        assert defaults["tv"].default == baselines.TV_WEIGHT


def test_the_classes_for_notebooks(work, write_config):
    write_config("tuned", visualization={"path": "pictures", "z_stack": 2, "x_slice": 4, "mip": 3})
    beads = package.BeadsInference("tuned.json", pretrain=False, threshold=-1, device="cpu")
    assert beads.threshold == 0.5
    results = beads.get_result(datapath="stacks", num_results=2)
    assert [result.name for result in results] == ["s00", "s01"]
    assert results[0].structure.shape == SHAPE
    metrics = beads.evaluate(results)
    assert {"mean", "sd", "ci95", "number", "sphericity", "z_xy_ratio"} <= set(metrics)
    assert metrics["reconstruction_mse"] > 0
    pictures = beads.visualize(results)
    assert [path.name for path in pictures] == ["tuned_beads_s00.png", "tuned_beads_s01.png"]
    for path in (*pictures, beads.psf_visualize()):
        assert path.parent.name == "pictures"
        assert path.read_bytes().startswith(PNG)

    microglia = package.MicrogliaInference(
        model_name="tuned.json", is_finetuning=False, with_align=False, device="cpu"
    )
    assert microglia.weights.name == "small.pt"
    crops = microglia.get_result(num_results=3)
    assert [crop.image.shape for crop in crops] == [(4, 16, 16)] * 3
    assert 0 <= microglia.evaluate(crops)["segmented_fraction"] <= 1

    simulation = package.SimulationInference("tuned.json", threshold=0.3, device="cpu")
    found = simulation.get_result()
    assert len(found) == 2  # crops of the labels that validate
    scores = simulation.evaluate(found)
    assert 0 <= scores["iou"] <= 1
    assert {"mse", "bce", "mse_sd", "bce_ci95"} <= set(scores)
    again = simulation.get_result()
    assert all(np.array_equal(a.image, b.image) for a, b in zip(found, again, strict=True))


def test_the_classes_fall_back_to_pretrained_weights(work, capsys):
    (work / "model" / "tuned.pt").unlink()
    assert package.BeadsInference("tuned.json", device="cpu").weights.name == "small.pt"
    assert (
        "no fine-tuned weights; taken are the pre-trained ones, small.pt" in capsys.readouterr()[1]
    )
    (work / "model" / "small.pt").unlink()
    with pytest.raises(UserError, match="run tenet pretrain tuned first"):
        package.BeadsInference("tuned.json")
    assert package.BeadsInference("demo", device="cpu").weights.name == "demo_pretrain.pt"


def test_beads_are_by_default_the_stacks_kept_for_the_test(work, write_config):
    write_config("tuned", test_dataset={"test_images": ["01"]})
    beads = package.BeadsInference("tuned.json", device="cpu")
    assert [result.name for result in beads.get_result()] == ["s01"]


def test_the_best_threshold_is_marked_in_every_table(tenet, work):
    done = tenet("evaluate", "simulation", LABELS[0], "--config", "tuned.json", "--out", "out")
    assert done.returncode == 0, done.stderr
    (best,) = (row for row in rows(work / "out" / "simulation_scores.csv") if row["best"] == "1")
    threshold = f"{float(best['threshold']):g}"
    assert f"tenet   {threshold} (best)" in done.stdout
    page = (work / "out" / "simulation_report.html").read_text()
    assert page.count("class=best") == 1
    assert f"<td>{threshold} (best)</td>" in page
    shown = {row["threshold"] for row in rows(work / "out" / "simulation_images.csv")}
    assert shown == {"0.5", threshold}
