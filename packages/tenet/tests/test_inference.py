"""What published notebooks do with the classes: arguments, results as dicts, lists of numbers."""

import math
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import tenet as package
from scopekit.errors import UserError
from tenet.alignment.vibration import strength_at
from tenet.config.files import load_config
from tenet.enhancement.stack import enhance
from tenet.evaluation import kinds
from tenet.network.weights import load_model

CPU = {"device": "cpu"}


@pytest.mark.parametrize("kind", ["Beads", "Microglia", "Simulation"])
def test_no_argument_is_taken_for_another(work, kind):
    """Published orders differ: MicrogliaInference(name, is_finetuning, with_align)."""
    with pytest.raises(TypeError, match="positional argument"):
        getattr(package, f"{kind}Inference")("tuned.json", True, False)


def test_a_number_alone_is_that_of_the_results(work):
    assert len(package.MicrogliaInference("tuned.json", **CPU).get_result(3)) == 3
    assert len(package.BeadsInference("tuned.json", **CPU).get_result("stacks", 2)) == 2


def test_the_published_notebook_on_beads(work, capsys):
    """A region of interest each, cut close, so that the bead touches the border."""
    (work / "rois").mkdir()
    z, y, x = np.ogrid[:6, :20, :20]
    bead = 10.0 * ((z - 3) ** 2 * 16 + (y - 10) ** 2 + (x - 14) ** 2 < 40)
    for n in range(3):
        noise = np.random.default_rng(n).random((6, 20, 20))
        np.save(work / "rois" / f"{n:02d}.npy", bead + noise)
    infer = package.BeadsInference(model_name="tuned.json", pretrain=False, threshold=-1, **CPU)
    results = infer.get_result(datapath="rois")
    # Random weights find nothing: let them have found what there is.
    fine = np.repeat(bead / 10, 4, axis=0).astype(np.float32)
    fine[:, :, 15:] = fine[:, :, 14:15]
    found = [replace(result, structure=fine) for result in results]
    metrics = infer.evaluate(found)
    volume = fine.sum() * 0.2**3
    assert metrics["mean"] == pytest.approx(volume)
    assert metrics["sd"] == pytest.approx(0)
    assert metrics["volume"] == pytest.approx([volume] * 3)
    assert metrics["number"] == 3


def test_results_index_like_the_networks_output(work):
    beads = package.BeadsInference("tuned.json", threshold=0.4, **CPU)
    (result,) = beads.get_result("stacks/s00.npy")
    model = load_model(work / "model" / "tuned.pt", load_config("tuned.json"))
    found = enhance(model, result.image, value_range=(0, 1))
    np.testing.assert_allclose(result["structure"], found.structure, atol=1e-6)
    np.testing.assert_allclose(result["estim_luminance"], found.brightness, atol=1e-6)
    # Fine-tuned, so what is imaged again is quantised, at the threshold that is asked for.
    binary = (found.structure >= 0.4).astype(np.float32)
    assert 0 < binary.mean() < 1
    np.testing.assert_array_equal(result["enhanced_image"], binary)
    bright = torch.from_numpy(binary * found.brightness)[None, None]
    with torch.no_grad():
        again = model.image(bright).clamp(0, 1)[0, 0].numpy()
    np.testing.assert_allclose(result["reconstruction"], again, atol=1e-5)
    assert result["quantized_loss"] == pytest.approx(np.square(binary - found.structure).mean())
    assert result["image"] is result.image
    assert result["labelx"] is None
    assert dict(result).keys() == set(result.keys())
    with pytest.raises(KeyError, match="enhanced: allowed: name, method, image"):
        result["enhanced"]


def test_pretrained_weights_do_not_quantise(work):
    beads = package.BeadsInference("tuned.json", pretrain=True, **CPU)
    (result,) = beads.get_result("stacks/s00.npy")
    assert result["enhanced_image"] is result["structure"]
    assert result["quantized_loss"] is None


def test_lists_of_a_number_an_image(work):
    beads = package.BeadsInference("tuned.json", threshold=0.4, **CPU)
    results = beads.get_result("stacks")
    metrics = beads.evaluate(results)
    for number, result in enumerate(results):
        binary = result.structure >= 0.4
        assert metrics["volume"][number] == pytest.approx(binary.sum() * 0.2**3)
        loss = np.square(binary - result.structure).mean()
        assert metrics["qloss"][number] == pytest.approx(loss, rel=1e-5)
        columns = np.stack([result.reconstruction.ravel(), np.ones(result.image.size)], axis=1)
        _, (square,), *_ = np.linalg.lstsq(columns, result.image.ravel(), rcond=None)
        assert metrics["MSE"][number] == pytest.approx(square / result.image.size, rel=1e-3)
    assert metrics["reconstruction_mse"] == pytest.approx(np.mean(metrics["MSE"]))
    assert metrics["reconstruction_mse_sd"] == pytest.approx(np.std(metrics["MSE"], ddof=1))


@pytest.mark.parametrize("kind", ["Beads", "Microglia", "Simulation"])
def test_every_image_is_measured_once(work, monkeypatch, kind):
    infer = getattr(package, f"{kind}Inference")("tuned.json", **CPU)
    results = infer.get_result(2)
    calls = Counter()
    for name in ("fit_of", "find_beads", "find_objects", "scores_of"):
        monkeypatch.setattr(kinds, name, counted(getattr(kinds, name), calls, name))
    infer.evaluate(results)
    shapes = {"Beads": "find_beads", "Microglia": "find_objects", "Simulation": "scores_of"}
    assert calls == dict.fromkeys(["fit_of", shapes[kind]], len(results))


def counted(function, calls, name):
    def call(*arguments):
        calls[name] += 1
        return function(*arguments)

    return call


def test_errors_of_the_brightness(work):
    simulation = package.SimulationInference("tuned.json", **CPU)
    results = simulation.get_result("labels", num_results=2)
    metrics = simulation.evaluate(results)
    for number, result in enumerate(results):
        x, z = (np.load(f"labels/{number:04d}_label{c}.npy")[0].astype(float) for c in "xz")
        np.testing.assert_array_equal(result["labelz"], z)
        found = result["estim_luminance"] * x
        assert metrics["MSEz"][number] == pytest.approx(np.square(found - z).mean(), rel=1e-4)
        inside = x > 0
        p, t = found[inside], z[inside]
        entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p)).sum() / x.size
        assert metrics["BCEz"][number] == pytest.approx(entropy, rel=1e-3)
        mse = np.square(result.structure - x).mean()
        assert metrics["MSEx"][number] == pytest.approx(mse, rel=1e-4)
    for name in ("mse_z", "bce_z"):
        listed = metrics[f"{name[:3].upper()}z"]
        assert metrics[name] == pytest.approx(np.mean(listed))


def test_a_fold_has_its_weights_and_its_recordings(work):
    shutil.copytree(work / "stacks", work / "stacks2")
    for path in (work / "stacks2").iterdir():
        path.rename(path.with_stem(f"b{path.stem}"))
    shutil.copy(work / "model" / "tuned.pt", work / "model" / "tuned_cv_2.pt")
    beads = package.BeadsInference("tuned.json", cv=2, **CPU)
    assert beads.weights.name == "tuned_cv_2.pt"
    assert [result.name[0] for result in beads.get_result()] == ["b"]
    crops = package.MicrogliaInference("tuned.json", cv="2", **CPU).get_result(1)
    assert crops[0].name[0] == "b"
    assert package.BeadsInference("tuned.json", cv="", **CPU).weights.name == "tuned.pt"
    with pytest.raises(UserError, match="run tenet finetune tuned on fold 3 first"):
        package.BeadsInference("tuned.json", cv=3)


def test_slices_are_displaced_and_aligned_if_asked_for(work, write_config):
    limits = {"min": 0, "max": 2}
    write_config("tuned", vibration={"max_step": 5, "amp_alpha": limits, "omega_alpha": limits})
    assert strength_at(load_config("tuned.json").vibration, 5).amp_alpha == 2
    for kind in ("Microglia", "Simulation"):
        plain, shaken, again, aligned = (
            getattr(package, f"{kind}Inference")("tuned.json", **CPU, **wanted).get_result(1)[0]
            for wanted in (
                {},
                {"is_vibrate": True},
                {"is_vibrate": True},
                {"is_vibrate": True, "with_align": True},
            )
        )
        assert not np.array_equal(plain.image, shaken.image)
        np.testing.assert_array_equal(shaken.image, again.image)
        expected = package.align(shaken.image)[0].clip(0, 1)
        np.testing.assert_allclose(aligned.image, expected, atol=1e-5)
    # A slice holds what it held, elsewhere.
    middle = np.abs(np.fft.fft2(shaken.image[1])), np.abs(np.fft.fft2(plain.image[1]))
    assert np.corrcoef(middle[0].ravel(), middle[1].ravel())[0, 1] > 0.9


def test_without_the_hill_function_as_published_on_beads(work):
    with_hill, without = (
        package.BeadsInference("tuned.json", with_hill=wanted, **CPU).get_result("stacks", 1)[0]
        for wanted in (True, False)
    )
    model = load_model(work / "model" / "tuned.pt", load_config("tuned.json"))
    with torch.no_grad():
        structure, _ = model.enhance(torch.from_numpy(without.image)[None, None])
    np.testing.assert_allclose(without.structure, structure[0, 0].numpy(), atol=1e-5)
    assert not np.allclose(with_hill.structure, without.structure, atol=1e-4)
    assert math.prod(without.structure.shape) == 24 * 20 * 20
