"""The public names: seen by all, arrays or tensors in and the same kind out."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tenet as package
from scopekit.errors import UserError
from scopekit.images.files import write_volume
from tenet.data.small_phantom import tubes_and_solids
from tenet.demo import image_of
from tenet.network.jnet import hill

STACK = np.random.default_rng(0).integers(90, 400, (4, 24, 20)).astype(np.float32)


@pytest.fixture(scope="module")
def demo():
    return package.load_model("demo_pretrain")


def test_every_name_is_there_listed_and_typed():
    assert set(package.__all__) == set(package._HOMES) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
        assert getattr(package, name).__doc__
    tree = ast.parse(Path(package.__file__).read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    homes = {alias.name: node.module for node in typed.body for alias in node.names}
    assert homes == package._HOMES
    assert (Path(package.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError, match="module 'tenet' has no attribute 'enhnace'"):
        _ = package.enhnace


def test_listing_the_names_loads_no_pytorch():
    script = "import sys, tenet; dir(tenet); print('torch' in sys.modules, 'enhance' in dir(tenet))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


CALLS = {
    "enhance": lambda stack, model: package.enhance(model, stack).structure,
    "reconstruction": lambda stack, model: package.enhance(model, stack).reconstruction,
    "align": lambda stack, _: package.align(stack)[0],
    "shifts": lambda stack, _: package.align(stack)[1],
    "rl_tv": lambda stack, _: package.rl_tv(stack / 400, "demo", iterations=2),
    "label_objects": lambda stack, _: package.label_objects(stack, 350),
}


@pytest.mark.parametrize("name", CALLS)
def test_arrays_or_tensors_in_and_the_same_kind_out(name, demo):
    array = CALLS[name](STACK, demo)
    tensor = CALLS[name](torch.from_numpy(STACK), demo)
    assert isinstance(array, np.ndarray)
    assert isinstance(tensor, torch.Tensor)
    assert array.dtype == (np.int32 if name == "label_objects" else np.float32)
    assert array.size > 0
    np.testing.assert_allclose(tensor.numpy(), array, atol=1e-6)


def test_objects_of_tensors_are_those_of_arrays():
    structure = np.zeros_like(STACK)
    structure[:, 2:6, 2:6] = structure[1:, 12:20, 9:17] = 0.8
    labels = package.label_objects(structure)
    expected = package.measure_objects(labels, (0.8, 0.2, 0.2), STACK)
    tensors = (torch.from_numpy(volume) for volume in (labels, STACK))
    assert package.measure_objects(next(tensors), (0.8, 0.2, 0.2), next(tensors)) == expected
    assert len(expected) == 2


def test_a_stack_is_enhanced_as_it_was_recorded(demo):
    found = package.enhance(demo, STACK, voxel_um=(0.9, 0.3, 0.3))
    zero, one = found.value_range
    scaled = torch.from_numpy((STACK - zero) / (one - zero)).clamp(0, 1).float()
    with torch.no_grad():
        structure, brightness = demo.enhance(hill(scaled)[None, None])
    np.testing.assert_allclose(found.structure, structure[0, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(found.brightness, brightness[0, 0].numpy(), atol=1e-5)
    assert found.voxel_um == pytest.approx((0.225, 0.3, 0.3))
    assert package.enhance(demo, STACK).voxel_um == pytest.approx((0.2, 0.2, 0.2))


def test_a_recording_brings_its_range_and_its_voxel_size(demo, tmp_path):
    path = tmp_path / "cell.tif"
    write_volume(path, STACK, (0.9, 0.3, 0.3), overwrite=False)
    recording = package.read_recording(path, value_range=(0, 1000))
    found = package.enhance(demo, recording)
    expected = package.enhance(demo, STACK, value_range=(0, 1000))
    np.testing.assert_allclose(found.structure, expected.structure, atol=1e-5)
    assert found.voxel_um == pytest.approx((0.225, 0.3, 0.3))
    assert not np.allclose(found.structure, package.enhance(demo, STACK).structure, atol=1e-3)


def test_several_stacks_are_aligned_at_once():
    stacks = torch.from_numpy(np.stack([STACK, STACK[::-1].copy()]))[:, None]
    aligned, shifts = package.align(stacks)
    assert aligned.shape == stacks.shape
    assert shifts.shape == (2, 4, 2)
    np.testing.assert_allclose(aligned[0, 0].numpy(), package.align(STACK)[0], rtol=1e-3)
    with pytest.raises(UserError, match=r"a stack of shape \(2, 4, 24, 20\); allowed"):
        package.align(stacks[:, 0])


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "tuned.pt"),
        ({"pretrain": False, "threshold": -1}, "tuned.pt"),
        ({"pretrain": True}, "small.pt"),
        ({"is_finetuning": True, "with_align": False}, "tuned.pt"),
        ({"is_finetuning": False}, "small.pt"),
        ({"weights": "pretrained"}, "small.pt"),
        ({"weights": "finetuned"}, "tuned.pt"),
        ({"weights": "model/small.pt"}, "small.pt"),
        ({"weights": "finetuned", "pretrain": True}, "tuned.pt"),
    ],
)
@pytest.mark.parametrize("kind", ["Beads", "Microglia", "Simulation"])
def test_which_weights_a_class_takes(work, kind, options, name):
    found = getattr(package, f"{kind}Inference")("tuned.json", **options, device="cpu")
    assert found.weights.name == name


def test_thresholds_of_a_class(work):
    wanted = {None: 0.5, -1: 0.5, 0.3: 0.3, 0.0: 0.0}
    for given, threshold in wanted.items():
        beads = package.BeadsInference("tuned.json", threshold=given, device="cpu")
        assert beads.threshold == threshold
    (work / "model" / "tuned.pt").unlink()
    with pytest.raises(UserError, match="run tenet finetune tuned first"):
        package.BeadsInference("tuned.json", weights="finetuned")


def test_classes_align_slices_if_asked_for(work):
    results = [
        package.MicrogliaInference("tuned.json", with_align=wanted, device="cpu").get_result(
            "stacks", num_results=1
        )[0]
        for wanted in (False, True)
    ]
    aligned = package.align(results[0].image)[0].clip(0, 1)
    np.testing.assert_allclose(results[1].image, aligned, atol=1e-6)
    assert not np.array_equal(results[0].image, results[1].image)


def test_from_a_recording_to_its_objects(demo, tmp_path):
    """As the documentation of the package shows."""
    truth, brightness = tubes_and_solids(3, (64, 64, 64))
    image = image_of(brightness, demo, seed=0)[0, 0].numpy()
    write_volume(tmp_path / "image.tif", image, (0.8, 0.2, 0.2), overwrite=False)
    lines = [line[4:] for line in package.__doc__.splitlines() if line.startswith("    ")]
    assert len(lines) <= 10
    code = "import tenet\n" + "\n".join(lines).replace("tenet_demo", str(tmp_path))
    names = {}
    exec(code, names)
    covered = names["labels"] > 0
    overlap = (covered & (truth > 0)).sum() / (covered | (truth > 0)).sum()
    assert overlap > 0.35
    direct = package.enhance(demo, image, value_range=(0, 1)).structure
    np.testing.assert_allclose(names["found"].structure, direct, atol=1e-5)
    assert names["one"].volume_um3 > 0
