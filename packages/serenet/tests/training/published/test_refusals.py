"""Published training YAMLs that are refused, in one line; no string in them is run."""

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serenet.training.published.schema import parse_loss, parse_product

WRAPPER = "train_dataset.wrapper.args"


# Parsed strings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("utils.NLLMPGLoss(miu=0, var=9)", "NLLMPGLoss", {"miu": 0, "var": 9}),
        ("NLLMPGLoss( var = 9. )", "NLLMPGLoss", {"var": 9}),
        ("utils.NLLMPGLoss(-0.5, 1e1).cuda()", "NLLMPGLoss", {"miu": -0.5, "var": 10}),
        ("utils.LPIPS_vgg16_single_channel().cuda()", "LPIPS_vgg16_single_channel", {}),
        ("torch.nn.MSELoss()", "MSELoss", {}),
        ("nn.MSELoss()", "MSELoss", {}),
        ("L1Loss().cuda()", "L1Loss", {}),
    ],
)
def test_losses_are_parsed(text, name, arguments):
    loss = parse_loss(text)
    assert (loss.name, loss.arguments) == (name, arguments)


@pytest.mark.parametrize(
    "text",
    [
        *("", "nn.MSELoss", "torch.nn.SmoothL1Loss()", "torch.nn.NLLMPGLoss()", "os.L1Loss()"),
        *("nn.MSELoss(reduction='sum')", "nn.MSELoss(1)", "nn.MSELoss()()"),
        *("nn.MSELoss().cuda().cpu()", "nn.MSELoss(); print(1)", "NLLMPGLoss(miu=0, miu=1)"),
        *("NLLMPGLoss(0, 9, 1)", "NLLMPGLoss(0, miu=1)", "NLLMPGLoss(miu=0,, var=9)"),
        *("NLLMPGLoss(miu=nan)", "NLLMPGLoss(var=3*3)", "NLLMPGLoss(var=__import__)"),
        *(3, ["nn.MSELoss()"], True),
    ],
)
def test_other_losses_are_refused(refused, text):
    line = refused("serenet", yaml.safe_dump({"loss_fns.pixel_loss1": text}))
    assert line.startswith("loss_fns.pixel_loss1: allowed are utils.NLLMPGLoss(miu=NUMBER, var=")
    assert line.endswith(f" (now {text!r})")


@pytest.mark.parametrize("key", ["loss_fn", "loss_fns.pixel_loss1", "loss_fns.perceptual_loss"])
def test_code_in_a_loss_is_not_run(refused, tmp_path, key):
    trap = tmp_path / "trap"
    for code in (
        f"open({str(trap)!r}, 'w')",
        f"nn.MSELoss(open({str(trap)!r}, 'w'))",
        f"utils.NLLMPGLoss(var=open({str(trap)!r}, 'w'))",
        f"__import__('os').system('touch {trap}')",
    ):
        assert refused("renet", yaml.safe_dump({key: code})).startswith(key)
    assert not trap.exists()


@pytest.mark.parametrize("key", ["zspacing", "inp_size", "rand_factor", "M"])
def test_code_in_a_number_is_not_run(refused, tmp_path, key):
    code = f"0.2*len([open({str(tmp_path / 'trap')!r}, 'w')])"
    line = refused("serenet", yaml.safe_dump({f"{WRAPPER}.{key}": code}))
    assert line.startswith(f"{WRAPPER}.{key}: ")
    assert line.endswith(f" (now {code!r})")


def test_python_tags_are_refused(refused, tmp_path):
    text = f"extra: !!python/object/apply:os.system ['touch {tmp_path / 'trap'}']\n"
    assert refused(text=text).startswith("not valid YAML")


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4))
def test_products_are_multiplied(factors):
    text = " * ".join(repr(factor) for factor in factors)
    np.testing.assert_allclose(parse_product(text), np.prod(factors), rtol=1e-12)


@pytest.mark.parametrize("value", [0.2e-6, "2e-7", "0.2*1e-6", " .2 * 1e-6"])
def test_plane_distances_are_told_in_many_ways(value):
    np.testing.assert_allclose(parse_product(value), 2e-7, rtol=1e-12)


@pytest.mark.parametrize(
    "value", ["", "*", "0.2**2", "1/2", "1_0", "-0.2", "0", 0, "1e999", "nan", True, [1]]
)
def test_other_plane_distances_are_refused(refused, value):
    line = refused("serenet", yaml.safe_dump({f"{WRAPPER}.zspacing": value}))
    assert line.startswith(f"{WRAPPER}.zspacing: ")


# Refusals ----------------------------------------------------------------------------------

FILES = "dataset.args"


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("serenet", "train_dataset: null", "train_dataset: missing"),
        ("serenet", "train_dataset.wrapper: null", "train_dataset.wrapper: missing"),
        ("serenet", "train_dataset.wrapper: {}", "train_dataset.wrapper.name: missing"),
        ("serenet", "train_dataset.dataset: null", "train_dataset.dataset: missing"),
        ("serenet", "train_dataset.wrapper.name: mine", "train_dataset.wrapper.name: "),
        ("serenet", "train_dataset.wrapper.name: [mine]", "train_dataset.wrapper.name: "),
        (
            "serenet",
            f"train_dataset.{FILES}: {{}}",
            f"train_dataset.{FILES}: root_path_1 is missing",
        ),
        (
            "serenet",
            f"train_dataset.{FILES}.root_path: b",
            f"train_dataset.{FILES}: give root_path_1",
        ),
        (
            "serenet",
            "train_dataset.dataset.name: hdf5",
            "train_dataset.dataset.name: Input should be",
        ),
        (
            "serenet",
            "model.name: fserenet",
            "model.name: 'fserenet' does not go with sere-wrapper; ",
        ),
        ("serenet", "bpmode: all", "bpmode: Input should be 'selectiviews' (now 'all')"),
        ("serenet", "shiftmode: peak", "shiftmode: Input should be 'psfcenterofmass' (now 'peak')"),
        ("serenet", "optimizer.name: lamb", "optimizer.name: Input should be 'adam' or 'sgd'"),
        ("serenet", "optimizer.args.lr: -1", "optimizer.args.lr: "),
        ("serenet", "epoch_max: 0", "epoch_max: "),
        ("serenet", f"{WRAPPER}.inp_size: 3", f"{WRAPPER}.inp_size: "),
        ("serenet", f"{WRAPPER}.RGN_noise: [0, -1]", f"{WRAPPER}.RGN_noise.1: "),
        ("serenet", f"{WRAPPER}.RGN_noise: 9", f"{WRAPPER}.RGN_noise: "),
        ("serenet", "train_dataset: [1]", "train_dataset: "),
        ("serenet", "psf: 3", "psf: "),
        (
            "fserenet",
            f"train_dataset.{FILES}.root_path_2: null",
            f"train_dataset.{FILES}.root_path_2 ",
        ),
        (
            "renet",
            f"val_dataset.{FILES}: {{root_path: x}}",
            f"val_dataset.{FILES}.root_path_2 is miss",
        ),
        ("fserenet", "load_pretrain: null", "load_pretrain is missing: fserenet starts from a"),
        (
            "fserenet",
            "{model: null, loss_fns: null}",
            "model.name is missing: it tells fserenet from",
        ),
    ],
)
def test_what_is_missing_or_wrong(refused, name, change, fault):
    changes = [yaml.safe_dump({key: value}) for key, value in yaml.safe_load(change).items()]
    assert refused(name, *changes).startswith(fault)


def test_several_faults_are_one_line(refused):
    line = refused("serenet", "epoch_max: many", "bpmode: all")
    assert "epoch_max: " in line
    assert "; bpmode: " in line


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [", "1: 2\n"])
def test_other_files_are_refused(refused, text):
    refused(text=text)


def test_a_missing_file(serenet, tmp_path):
    missing = tmp_path / "none.yaml"
    outcome = serenet("train", "--import-published", missing, "--out", tmp_path / "ours.yaml")
    assert outcome.code == 2
    assert outcome.error.startswith(f"error: {missing}: cannot be read (No such file")
