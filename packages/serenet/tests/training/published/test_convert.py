"""Published training YAMLs, imported: every value in its place, nothing lost in silence."""

import pytest
import tifffile
import torch
import yaml

from optics import presets
from serenet.training.settings import load_settings

WRAPPER = "train_dataset.wrapper.args"


# Values ------------------------------------------------------------------------------------


def test_a_serenet_file_is_taken_over_whole(imported):
    settings, notes = imported("serenet")
    assert notes == []
    folder = "../trainingdata/bubtub/x3"
    assert settings.model_dump(mode="json", exclude_unset=True) == {
        "method": "serenet",
        "optics": "nnum13",
        "data": {"views": folder, "first": 15, "repeat": 6},
        "validation": {"views": folder, "volumes": "volumes", "last": 1, "repeat": 1},
        "crop": 99,
        "brightness": 0.2,
        "noise": {"variance": 9, "mean": 1, "photons": [100, 1000]},
        "projected_views": 13,
        "perceptual": {"weight": 1},
        "optimizer": "adam",
        "learning_rate": 2e-4,
        "schedule": {"kind": "steps", "milestones": [200, 400], "gamma": 0.3},
        "epochs": 700,
        "batch_size": 2,
        "validate_every": 5,
        "save_every": 50,
        "seed": 7,
    }


def test_serenet_of_the_other_microscope(imported):
    settings, notes = imported("serenet_nnum15")
    assert (settings.method, settings.optics, notes) == ("serenet", "nnum15", [])


def test_fserenet(imported):
    settings, notes = imported("fserenet")
    assert notes == []
    assert settings.model_dump(mode="json", exclude_unset=True) == {
        "method": "fserenet",
        "optics": "nnum13",
        "data": {"views": "views", "volumes": "volumes", "repeat": 4},
        "start_from": "pth/epoch-800.pth",
        "crop": 60,
        "noise": {"variance": 0, "mean": 0},
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "epochs": 200,
        "batch_size": 1,
    }


def test_renet(imported):
    settings, notes = imported("renet")
    assert (settings.method, settings.start_from, notes) == ("renet", None, [])


@pytest.mark.parametrize(
    ("loss", "method"), [("nn.L1Loss()", "renet"), ("NLLMPGLoss()", "fserenet")]
)
def test_without_a_model_the_loss_tells_the_method(imported, loss, method):
    settings, _ = imported("fserenet", "model: null", f"loss_fns.pixel_loss1: {loss}")
    assert settings.method == method


def test_without_a_model_a_self_supervised_file_is_serenet(imported):
    assert imported("serenet", "model: null")[0].method == "serenet"


def test_a_first_folder_may_be_called_root_path(imported):
    settings, notes = imported("serenet", "train_dataset.dataset.args: {root_path: here}")
    assert (str(settings.data.views), settings.data.repeat, notes) == ("here", 1, [])


def test_without_validation_data_there_are_none(imported):
    settings, notes = imported("serenet", "val_dataset: null")
    assert (settings.validation, notes) == (None, [])


def test_milestones_without_a_factor_take_that_of_pytorch(imported):
    assert imported("serenet", "multi_step_lr: {milestones: [3]}")[0].schedule.gamma == 0.1


def test_the_central_view_is_kept_when_asked_for(imported):
    assert not imported("serenet")[0].central_view
    assert imported("serenet", f"{WRAPPER}.sample_centerview: true")[0].central_view


def test_fewer_planes_are_taken_over(imported):
    settings, notes = imported("serenet", f"{WRAPPER}.volume_depth: 51")
    assert (settings.depths, notes) == (51, [])


def test_a_psf_file_has_its_own_planes(imported):
    settings, notes = imported("serenet", "psf: psf.mat", f"{WRAPPER}.volume_depth: 51")
    assert (str(settings.psf), settings.depths) == ("psf.mat", None)
    assert notes == [f"{WRAPPER}.volume_depth 51: the PSF file has its own depths"]


def test_without_a_perceptual_loss_it_weighs_nothing(imported):
    assert imported("serenet", "loss_fns.perceptual_loss: null")[0].perceptual.weight == 0


def test_the_presets_own_views_need_no_word(imported):
    assert imported("serenet", f"input_views: {list(presets['nnum13'].views)}")[1] == []


def test_empty_names_of_files_are_none(imported):
    settings, notes = imported("serenet", "psf: ''", "load_pretrain: false", "resume: false")
    assert (settings.psf, settings.start_from, notes) == (None, None, [])


# What is told ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("M: 40", "M 40: optics nnum13 has 63; "),
        ("zspacing: 0.5*1e-6", "zspacing 5e-07: optics nnum13 has 2e-07; "),
        ("scanning: 5", "scanning 5: optics nnum13 has 3; "),
        ("volume_depth: 121", "volume_depth 121: optics nnum13 has 101; "),
        ("Nnum: 11", "Nnum 11: optics nnum13 has 13; "),
    ],
)
def test_another_microscope_is_told(imported, change, told):
    settings, (note,) = imported("serenet", f"{WRAPPER}.{change}")
    assert (settings.optics, settings.depths) == ("nnum13", None)
    assert note.startswith(f"{WRAPPER}.{told}if yours differs, name a YAML file")


def test_the_nearest_microscope_is_taken_by_its_views(imported):
    settings, (note,) = imported("serenet_nnum15", f"{WRAPPER}.Nnum: 21")
    assert settings.optics == "nnum15"
    assert "Nnum 21: optics nnum15 has 15" in note


def test_without_nnum_the_rest_tells_the_microscope(imported):
    settings, notes = imported("serenet_nnum15", f"{WRAPPER}.Nnum: null")
    assert (settings.optics, notes) == ("nnum15", [])


def test_an_untold_microscope_is_told(imported):
    changes = ("train_dataset.wrapper: {name: sere-wrapper}", "model: null", "val_dataset: null")
    notes = imported("serenet", *changes)[1]
    assert notes[0].startswith("the microscope, of which nothing is told: optics nnum13 is assumed")


def test_other_views_are_told(imported):
    views = list(presets["nnum13"].views)
    assert "the same in another order" in imported("serenet", f"input_views: {views[::-1]}")[1][0]
    (note,) = imported("serenet", f"input_views: {list(range(169))}")[1]
    assert note.startswith("input_views [0, 1, 2, 3, 4, 5, ...]: optics nnum13 has other views")


MODEL = "model.args"
LOSS, PERCEPTUAL = "loss_fns.pixel_loss1", "loss_fns.perceptual_loss"
VALIDATION = "val_dataset.wrapper.args"


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("serenet", f"{MODEL}.inChannels: 81", f"{MODEL}.inChannels 81: optics nnum13 has 49"),
        ("serenet", "model.name: serenetup5", "model.name serenetup5: for a scale of 4.33"),
        (
            "serenet",
            f"{MODEL}.negative_slope: 0.2",
            f"{MODEL}.negative_slope 0.2: serenet takes 0.1",
        ),
        ("serenet", f"{MODEL}.usingbias: false", f"{MODEL}.usingbias False: serenet takes True"),
        ("serenet", f"{LOSS}: nn.L1Loss()", f"{LOSS} nn.L1Loss(): serenet learns by NLLMPGLoss"),
        (
            "serenet",
            f"{LOSS}: 'NLLMPGLoss(1, 4)'",
            f"{LOSS} NLLMPGLoss(1, 4): serenet takes miu=1, ",
        ),
        ("serenet", "loss_fn: nn.L1Loss()", f"loss_fn nn.L1Loss(): {LOSS} is given too"),
        (
            "serenet",
            f"{PERCEPTUAL}: nn.L1Loss()",
            f"{PERCEPTUAL} nn.L1Loss(): serenet takes LPIPS_",
        ),
        (
            "serenet",
            f"{WRAPPER}.RGN_noise: null",
            f"{WRAPPER}.RGN_noise, which is missing: noise of",
        ),
        ("serenet", "freeze_serenet: true", "freeze_serenet True: serenet takes none"),
        ("serenet", f"{VALIDATION}.inp_size: 153", f"{VALIDATION}.inp_size 153: validation takes"),
        (
            "serenet",
            "val_dataset.wrapper.name: fsere-wrapper",
            "val_dataset.wrapper.name fsere-wrap",
        ),
        (
            "serenet",
            "resume: last.pth",
            "resume 'last.pth': go on with a run of your own by --resume",
        ),
        (
            "serenet",
            "psfinfo: shift.mat",
            "psfinfo 'shift.mat': the PSF's shift follows from the PS",
        ),
        ("serenet", f"{WRAPPER}.roi: [0, 9]", f"{WRAPPER}.roi [0, 9]: crops are taken from the"),
        ("serenet", f"{VALIDATION}.normalize_high: 99", f"{VALIDATION}.normalize_high 99: serenet"),
        ("fserenet", "freeze_serenet: false", "freeze_serenet False: fserenet takes True"),
        (
            "fserenet",
            f"{LOSS}: 'NLLMPGLoss(0, 9)'",
            f"{LOSS} NLLMPGLoss(0, 9): fserenet takes miu=0",
        ),
        (
            "fserenet",
            f"{PERCEPTUAL}: nn.L1Loss()",
            f"{PERCEPTUAL} nn.L1Loss(): fserenet takes none",
        ),
        ("renet", "loss_fn: nn.MSELoss()", "loss_fn nn.MSELoss(): renet learns by L1Loss"),
        ("renet", f"{WRAPPER}.sample_views: 13", f"{WRAPPER}.sample_views 13: renet takes none"),
    ],
)
def test_what_has_no_counterpart_is_told(imported, name, change, told):
    (note,) = imported(name, change)[1]
    assert note.startswith(told)


@pytest.mark.parametrize(
    "part",
    [
        *("", "train_dataset.", "train_dataset.dataset.args.", "val_dataset.wrapper.args."),
        *("model.args.", "optimizer.args.", "multi_step_lr.", "loss_fns."),
    ],
)
def test_unknown_keys_are_told_wherever_they_are(imported, part):
    value = "utils.SomeNewThing(name='of-a-length-that-people-use', size=3)"
    notes = imported("serenet", yaml.safe_dump({f"{part}new": value}))[1]
    assert notes == [f"{part}new {value!r}: unknown key"]


def test_an_unknown_key_cannot_leave_its_comment(imported):
    key = "a\nepochs: 3\x85\u2028epochs: 4\0\x1b[2J"
    hostile = yaml.safe_dump({key: {"deep": ["x" * 1000, ["\n" * 3]]}})
    settings, (note,) = imported("serenet", hostile)
    assert settings.epochs == 700
    assert len(note) < 300


# The command -------------------------------------------------------------------------------


def test_the_command_tells_what_it_wrote_and_what_not(serenet, example, tmp_path):
    published, out = tmp_path / "published.yaml", tmp_path / "new" / "ours.yaml"
    published.write_text(example("serenet", "gpu: [0, 1]"))
    outcome = serenet("train", "--import-published", published, "--out", out)
    assert outcome.code == 0
    assert outcome.out == f"{out}: look it through, then give it to serenet train\n"
    assert outcome.err == "not taken over: gpu [0, 1]: unknown key\n"
    assert "# not taken over: gpu [0, 1]: unknown key\n" in out.read_text()


def test_an_existing_file_is_kept(serenet, example, tmp_path):
    published, out = tmp_path / "published.yaml", tmp_path / "ours.yaml"
    published.write_text(example("serenet", "gpu: 0"))
    out.write_text("mine")
    arguments = ("train", "--import-published", published, "--out", out)
    outcome = serenet(*arguments)
    assert outcome.code == 2
    assert outcome.err == outcome.error + "\n"
    assert outcome.error.startswith(f"error: {out} exists: add --overwrite")
    assert out.read_text() == "mine"
    assert serenet(*arguments, "--overwrite").code == 0
    assert load_settings(str(out)).epochs == 700


def test_the_result_must_be_called_a_yaml(serenet, example, tmp_path, contents):
    published = tmp_path / "published.yaml"
    published.write_text(example("serenet"))
    outcome = serenet("train", "--import-published", published, "--out", tmp_path / "run")
    assert outcome.error == f"error: --out {tmp_path / 'run'}: name a .yaml file"
    assert contents(tmp_path) == ["published.yaml"]


# A shift table as PSF -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["serenet_nnum15", "serenet", "fserenet", "renet", "rlnet"])
def test_a_shift_table_named_as_psf_is_seen_by_its_name(imported, name):
    expected = imported(name)[0]
    psf = "../psf/psfshift_nnum15_81views.pt"
    settings, notes = imported(name, f"psf: {psf}")
    assert (settings.psf, settings.depths) == (None, expected.depths)
    assert f"psf {psf!r}: a PSF shift, by its name, which projects nothing: the PSF is" in notes[0]


def test_a_shift_table_named_as_psf_is_seen_by_its_content(imported, tmp_path):
    torch.save(torch.zeros(81, 101, 2), tmp_path / "psf.pt")
    settings, (note,) = imported("serenet_nnum15", f"psf: {tmp_path / 'psf.pt'}")
    assert settings.psf is None
    assert "a PSF shift, (81, 101, 2) numbers, which projects nothing" in note


def test_a_psf_with_shift_in_its_folder_is_a_psf(imported, tmp_path):
    (tmp_path / "shift").mkdir()
    torch.save(torch.zeros(81, 2, 5, 5), tmp_path / "shift" / "shifted_psf.pt")
    psf = tmp_path / "shift" / "shifted_psf.pt"
    settings, notes = imported("serenet_nnum15", f"psf: {psf}")
    assert (settings.psf, len(notes)) == (psf, 1)  # of its own depths
    assert str(imported("serenet_nnum15", "psf: shift/psf.mat")[0].psf) == "shift/psf.mat"


def test_an_imported_file_trains(serenet, imported, tmp_path, light_field, small_psf):
    folder = tmp_path / "views"
    folder.mkdir()
    tifffile.imwrite(folder / "0.tif", light_field())
    imported(
        "serenet",
        f"train_dataset.dataset.args: {{root_path_1: {folder}}}",
        f"psf: {small_psf}",
        f"{WRAPPER}.inp_size: 12",
        *("val_dataset: null", "loss_fns.perceptual_loss: null", "epoch_max: 1"),
    )
    outcome = serenet("train", tmp_path / "ours.yaml", "--out", tmp_path / "run", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()
