"""Published training YAMLs of the networks that serenet is compared with, and of TW-Net."""

import numpy as np
import pytest
import tifffile

from serenet import build_model, save_checkpoint

WRAPPER = "train_dataset.wrapper.args"
FILES = "dataset.args"
MODEL = "model.args"
PAIRED = {"views": "views", "volumes": "volumes"}
EXPECTED = {
    "vcdnet": {
        "data": {**PAIRED, "first": 15, "repeat": 6},
        "validation": {**PAIRED, "last": 1, "repeat": 1},
        "crop": 48,
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "epochs": 800,
        "batch_size": 2,
        "validate_every": 10,
        "save_every": 100,
        "seed": 3,
        "network": {"channels_interp": 64},
        "brightness": 0.1,
        "noise": {"variance": 9, "mean": 0},
        "schedule": {"kind": "steps", "milestones": [300], "gamma": 0.5},
        "balance": {"epochs": 50, "threshold": 0.1},
    },
    "hylfmnet": {
        "data": {**PAIRED, "repeat": 1},
        "start_from": "pth/hylfmnet.pth",
        "crop": 66,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "batch_size": 1,
        "depths": 51,
        "noise": {"variance": 0, "mean": 0},
        "balance": {"epochs": 50, "threshold": 0.02},
    },
    "rlnet": {
        "data": {**PAIRED, "repeat": 4},
        "crop": 66,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "epochs": 100,
        "batch_size": 1,
        "depths": 51,
        "network": {"kernel_size": 3},
        "brightness": 0.5,
        "noise": {"variance": 4, "mean": 2, "photons": [100]},
    },
    "vsnet": {
        "data": {"views": "views", "repeat": 6},
        "validation": {"views": "held_out", "repeat": 1},
        "crop": 120,
        "optimizer": "adam",
        "learning_rate": 2e-4,
        "epochs": 300,
        "batch_size": 1,
        "network": {"K": 4, "n_block": 4, "channels": 32, "upscale_factor": 3},
        "brightness": 0.1,
        "noise": {"variance": 9, "mean": 0},
    },
    "twnet": {
        "data": {"views": "recorded", "repeat": 2},
        "validation": {"views": "held_out", "repeat": 1},
        "crop": 153,
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "epochs": 500,
        "batch_size": 4,
        "seed": 1,
        "network": {"channels": [16, 16, 32, 32, 64]},
    },
}


# Values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", EXPECTED)
def test_a_file_is_taken_over_whole(imported, method):
    settings, notes = imported(method)
    assert notes == []
    expected = {"method": method, "optics": "nnum13", **EXPECTED[method]}
    assert settings.model_dump(mode="json", exclude_unset=True) == expected


@pytest.mark.parametrize("method", ["rlnet", "vsnet", "twnet"])
def test_without_a_model_the_wrapper_tells_the_method(imported, method):
    settings, notes = imported(method, "model: null")
    assert (settings.method, settings.network, notes) == (method, {}, [])


@pytest.mark.parametrize(("size", "factor"), [(24, 3), (40, 3), (20, 5)])
def test_vsnet_tells_the_crop_before_it_is_scanned(imported, size, factor):
    changes = (f"{WRAPPER}.inp_size: {size}", f"{MODEL}.upscale_factor: {factor}")
    assert imported("vsnet", *changes)[0].crop == factor * size


def test_a_psf_file_serves_rlnet(imported):
    settings, (note,) = imported("rlnet", "psf: psf.mat")
    assert (str(settings.psf), settings.depths) == ("psf.mat", None)
    assert note == f"{WRAPPER}.volume_depth 51: the PSF file has its own depths"


@pytest.mark.parametrize("method", ["vcdnet", "hylfmnet", "vsnet", "twnet"])
def test_the_others_need_no_psf(imported, method):
    settings, notes = imported(method, "psf: psf.mat", "psfinfo: shift.mat")
    assert settings.psf is None
    assert notes == [
        f"psf 'psf.mat': {method} needs no PSF",
        "psfinfo 'shift.mat': the PSF's shift follows from the PSF, where one is needed",
    ]


@pytest.mark.parametrize("name", ["vcdnet", "vsnet"])
def test_all_views_of_the_other_microscope(imported, name):
    told = {
        "vcdnet": (f"{MODEL}.inChannels: 225", f"{WRAPPER}.M: 20", f"{WRAPPER}.zspacing: 6e-7"),
        "vsnet": (f"{MODEL}.angRes: 15",),
    }
    settings, notes = imported(name, f"{WRAPPER}.Nnum: 15", *told[name])
    assert (settings.optics, notes) == ("nnum15", [])


@pytest.mark.parametrize(
    ("name", "views"), [("vcdnet", [*range(169)]), ("vsnet", [*range(169)]), ("twnet", [84])]
)
def test_the_methods_own_views_need_no_word(imported, name, views):
    assert imported(name, f"input_views: {views}")[1] == []


# What is told ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("vcdnet", f"{MODEL}.inChannels: 49", f"{MODEL}.inChannels 49: optics nnum13 has 169; if"),
        ("vcdnet", f"{MODEL}.outChannels: 51", f"{MODEL}.outChannels 51: volumes of 101 planes"),
        ("vcdnet", f"{MODEL}.dropout: 0.1", f"{MODEL}.dropout 0.1: unknown key"),
        ("hylfmnet", f"{MODEL}.outChannels: 121", f"{MODEL}.outChannels 121: optics nnum13 has 1"),
        ("vsnet", f"{MODEL}.angRes: 11", f"{MODEL}.angRes 11: optics nnum13 has 13; if yours"),
        ("vsnet", f"{MODEL}.upscale_factor: 5", f"{MODEL}.upscale_factor 5: optics nnum13 has 3"),
        ("twnet", f"{WRAPPER}.scanning: 5", f"{WRAPPER}.scanning 5: optics nnum13 has 3; if yours"),
        ("vsnet", f"{WRAPPER}.volume_depth: 51", f"{WRAPPER}.volume_depth 51: vsnet makes no vol"),
        ("hylfmnet", "input_views: [0, 1]", "input_views [0, 1]: hylfmnet takes all 169 views"),
        ("twnet", "input_views: [0, 1]", "input_views [0, 1]: twnet takes the central view"),
        ("rlnet", "input_views: [0, 1]", "input_views [0, 1]: optics nnum13 has other views; if"),
    ],
)
def test_another_microscope_or_network_is_told(imported, name, change, told):
    (note,) = imported(name, change)[1]
    assert note.startswith(told)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("vcdnet", "normalize_low: 5", "normalize_low 5: vcdnet takes 10"),
        ("vcdnet", "normalize_low: 0", "normalize_low 0: vcdnet takes 10"),
        (
            "hylfmnet",
            "normalize_low: null",
            "normalize_low, which is missing: hylfmnet takes 10",
        ),
        ("hylfmnet", "normalize_high: 99", "normalize_high 99: hylfmnet takes 99.9"),
        ("vcdnet", "normalize_clamp: false", "normalize_clamp False: vcdnet takes True"),
        ("vcdnet", "normalize_mode: max", "normalize_mode 'max': percentiles are taken, if any"),
        ("rlnet", "normalize_high: 99.9", "normalize_high 99.9: rlnet takes 99.99"),
        ("rlnet", "normalize_low: 10", "normalize_low 10: rlnet takes 0"),
        ("rlnet", "normalize_clamp: false", "normalize_clamp False: rlnet takes True"),
        ("twnet", "normalize_clamp: true", "normalize_clamp True: twnet takes False"),
        ("vsnet", "normalize_high: 99.9", "normalize_high 99.9: vsnet takes none"),
        ("rlnet", "threshold: 0.1", "threshold 0.1: rlnet takes none"),
        ("vcdnet", "roi: [0, 9]", "roi [0, 9]: crops are taken from the whole field"),
        ("rlnet", "sample_views: 13", "sample_views 13: rlnet takes none"),
        ("twnet", "rand_factor: 0.1", "rand_factor 0.1: twnet takes 1"),
        ("twnet", "RGN_noise: [0, 9]", "RGN_noise (0.0, 9.0): twnet takes none"),
        ("twnet", "RPN_noise: [100]", "RPN_noise (100.0,): twnet takes none"),
    ],
)
def test_another_way_of_preparing_crops_is_told(imported, name, change, told):
    assert imported(name, f"{WRAPPER}.{change}")[1] == [f"{WRAPPER}.{told}"]


def test_a_missing_threshold_is_told(imported):
    settings, notes = imported("vcdnet", "threshold: null")
    assert settings.balance is None
    assert notes == [
        "threshold, which is missing: in the first 50 epochs voxels above 0.05 of the brightest "
        "count as bright"
    ]


@pytest.mark.parametrize("method", ["vsnet", "twnet"])
@pytest.mark.parametrize("change", ["normalize_low: 0", "normalize_clamp: false", "roi: null"])
def test_what_asks_for_nothing_needs_no_word(imported, method, change):
    assert imported(method, f"{WRAPPER}.{change}")[1] == []


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        *(("vcdnet", "MSELoss"), ("hylfmnet", "MSELoss"), ("rlnet", "MSELoss")),
        *(("vsnet", "L1Loss"), ("twnet", "MSELoss")),
    ],
)
def test_another_loss_is_told(imported, name, wanted):
    other = "nn.L1Loss()" if wanted == "MSELoss" else "nn.MSELoss()"
    notes = imported(name, "loss_fns: null", f"loss_fn: {other}")[1]
    assert notes == [f"loss_fn {other}: {name} learns by {wanted}"]
    perceptual = "utils.LPIPS_vgg16_single_channel()"
    (note,) = imported(name, f"loss_fns.perceptual_loss: {perceptual}")[1]
    assert note == f"loss_fns.perceptual_loss {perceptual}: {name} takes none"


@pytest.mark.parametrize("method", ["vsnet", "twnet"])
def test_volumes_that_are_not_needed_are_told(imported, method):
    settings, notes = imported(
        method, *(f"{part}_dataset.{FILES}.root_path_2: truth" for part in ("train", "val"))
    )
    assert settings.data.volumes is None
    assert settings.validation.volumes is None
    assert notes == [
        f"{part}_dataset.{FILES}.root_path_2 'truth': {method} learns from light fields alone"
        for part in ("train", "val")
    ]


def test_other_validation_is_told(imported):
    place = "val_dataset.wrapper.args"
    notes = imported("vcdnet", f"{place}.inp_size: 99", f"{place}.normalize_high: 99")[1]
    assert notes == [
        f"{place}.inp_size 99: validation takes the middle, without noise",
        f"{place}.normalize_high 99: vcdnet takes 99.9",
    ]
    wrapper = "{name: twnet-wrapper, args: {inp_size: 300}}"
    (note,) = imported("twnet", f"val_dataset.wrapper: {wrapper}")[1]
    assert note == f"{place}.inp_size 300: validation takes whole views"


# Refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("vcdnet", "model: null", "model.name is missing: it tells vcdnet from hylfmnet"),
        ("vcdnet", "model.name: serenet", "model.name: 'serenet' does not go with rlfm-vcdnet; "),
        ("rlnet", "model.name: vcdnet", "model.name: 'vcdnet' does not go with rlnet-wrapper; kn"),
        ("vcdnet", f"{MODEL}.channels_interp: 33", f"{MODEL}: channels_interp is 33; expected a m"),
        ("hylfmnet", f"{MODEL}.outChannels: many", f"{MODEL}: outChannels is 'many'; expected 1 "),
        ("rlnet", f"{MODEL}.kernel_size: 5", f"{MODEL}: kernel_size is 5; expected 3"),
        ("vcdnet", "threshold: 1.5", "threshold: Input should be less than 1"),
        ("vsnet", f"{MODEL}.K: 0", f"{MODEL}: K is 0; expected 1 to 99"),
        ("twnet", f"{MODEL}.channels: 16", f"{MODEL}: channels is 16; expected 2 to 8 whole num"),
        ("twnet", f"{MODEL}: [16]", f"{MODEL}: Input should be a valid dictionary"),
        ("vsnet", f"{WRAPPER}.inp_size: 2", f"{WRAPPER}.inp_size: 2; crops have 8 pixels or more"),
        ("twnet", f"{WRAPPER}.inp_size: 100", f"{WRAPPER}.inp_size: 100; twnet needs a multiple"),
        *(
            (name, f"{part}_dataset.{FILES}: {{root_path_1: x}}", f"{part}_dataset.{FILES}.root_p")
            for name in ("vcdnet", "hylfmnet", "rlnet")
            for part in ("train", "val")
        ),
    ],
)
def test_what_is_missing_or_wrong(refused, name, change, fault):
    assert refused(name, change).startswith(fault)


def test_code_in_a_network_argument_is_not_run(refused, tmp_path):
    code = f"len([open({str(tmp_path / 'trap')!r}, 'w')])"
    line = refused("vcdnet", f'{MODEL}.channels_interp: "{code}"')
    assert line.startswith(f"{MODEL}: channels_interp is ")


# Training ----------------------------------------------------------------------------------


# vcdnet learns as hylfmnet does, and is large whatever its arguments.
SMALL_NETWORKS = {
    "hylfmnet": {"inChannels": 169, "outChannels": 5},
    "rlnet": {"kernel_size": 3},
    "vsnet": {"angRes": 13, "K": 1, "n_block": 1, "channels": 4, "upscale_factor": 3},
    "twnet": {"channels": [4, 4, 8]},
}


@pytest.mark.parametrize("method", SMALL_NETWORKS)
def test_an_imported_file_trains_from_a_checkpoint_of_its_network(
    serenet, imported, tmp_path, light_field, method
):
    for folder in ("views", "volumes"):
        (tmp_path / folder).mkdir()
    tifffile.imwrite(tmp_path / "views" / "0.tif", light_field(169, 9, 9))
    volume = np.random.default_rng(0).uniform(0, 1, (5, 39, 39)).astype(np.float32)
    tifffile.imwrite(tmp_path / "volumes" / "0.tif", volume)
    arguments = SMALL_NETWORKS[method]
    save_checkpoint(tmp_path / "start.pt", build_model(method, **arguments))
    imported(
        method,
        f"train_dataset.{FILES}.root_path_1: {tmp_path}/views",
        f"train_dataset.{FILES}.root_path_2: {tmp_path}/volumes",
        *(f"train_dataset.{FILES}.{key}: null" for key in ("repeat", "first_k")),
        f"{MODEL}: {arguments}",
        f"load_pretrain: {tmp_path}/start.pt",
        f"{WRAPPER}.inp_size: {3 if method == 'vsnet' else 9}",
        f"{WRAPPER}.volume_depth: 5",
        *("val_dataset: null", "epoch_max: 1", "train_dataset.batch_size: 1"),
    )
    outcome = serenet("train", tmp_path / "ours.yaml", "--out", tmp_path / "run", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()
