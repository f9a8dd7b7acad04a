"""The PSF that is computed once: what is kept, for whom, and that nothing else comes of it."""

import os
import subprocess
import sys

import pytest
import torch

from optics import phase_space_psf, presets
from optics.lightfield.octants import OctantPSF
from serenet.views import kept_psf
from serenet.views.kept_psf import ComputedPSF

WHOLE = presets["nnum13"]
SCOPE = WHOLE.with_depths((-2.0, 0.0, 1.5, 2.0)).with_views(WHOLE.views[:12])


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SERENET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "psf"


@pytest.fixture
def computed(monkeypatch):
    """How many octant views were computed."""
    made = []
    whole = OctantPSF.images

    def counting(self, orders=None):
        for images in whole(self, orders):
            made.append(1)
            yield images

    monkeypatch.setattr(OctantPSF, "images", counting)
    return made


def expected(scope=SCOPE, size=33):
    return phase_space_psf(scope, size=size)


@pytest.mark.parametrize(
    ("scope", "size"),
    [
        (SCOPE, 33),
        (SCOPE, 32),
        (SCOPE.with_voxels_a_lens(5), 15),
        (SCOPE.model_copy(update={"z_direction": "towards"}), 33),
    ],
    ids=["odd", "even", "coarse voxels", "towards"],
)
def test_views_are_those_of_the_whole_psf(scope, size):
    wanted = expected(scope, size)
    for _ in range(2):  # computed, then read
        torch.testing.assert_close(ComputedPSF(scope, size).whole(), wanted, rtol=0, atol=0)


def test_it_is_computed_once_for_all_runs(computed, cache):
    wanted = expected()
    computed.clear()
    first = ComputedPSF(SCOPE, 33)
    assert len(computed) == 0  # not before it is asked for
    torch.testing.assert_close(first(3)[0], wanted[3])
    n_octants = len(computed)
    assert n_octants == 5  # of 12 views
    first.whole()
    ComputedPSF(SCOPE, 33).whole()
    # The other way round, and in another order of the same views.
    turned = SCOPE.model_copy(update={"z_direction": "towards"})
    ComputedPSF(turned, 33).whole()
    assert len(computed) == n_octants
    (file,) = cache.iterdir()
    assert file.stat().st_size < wanted.nbytes / 2


@pytest.mark.parametrize(
    "change", [{"wavelength_um": 0.6}, {"depths_um": (-2.0, 0.0, 2.5)}, {"numerical_aperture": 0.9}]
)
def test_another_microscope_has_another(computed, change):
    ComputedPSF(SCOPE, 33)(0)
    computed.clear()
    other = SCOPE.model_copy(update=change)
    assert torch.equal(ComputedPSF(other, 33)(0)[0], expected(other)[0])
    assert computed


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_file_is_made_again(cache, damage):
    ComputedPSF(SCOPE, 33)(0)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    spoilt = {"cut": whole[:-7], "changed": b"x" + whole[1:], "empty": b""}[damage]
    file.write_bytes(spoilt)
    torch.testing.assert_close(ComputedPSF(SCOPE, 33).whole(), expected())
    assert file.read_bytes() == whole


def test_what_was_not_used_for_longest_goes(monkeypatch, cache):
    scopes = [SCOPE.model_copy(update={"wavelength_um": 0.5 + n / 100}) for n in range(4)]
    first = ComputedPSF(scopes[0], 33)
    first(0)
    one = first.n_bytes + 32
    monkeypatch.setattr(kept_psf, "ROOM", int(2.5 * one))
    ComputedPSF(scopes[1], 33)(0)
    for file in cache.iterdir():
        os.utime(file, (1000, 1000))
    ComputedPSF(scopes[0], 33)(0)  # used
    used = [file for file in cache.iterdir() if file.stat().st_mtime > 1000]
    assert len(used) == 1
    left = cache / ".other.psf.partial"
    left.touch()
    os.utime(left, (1000, 1000))
    ComputedPSF(scopes[2], 33)(0)
    assert used[0].exists()
    assert len(list(cache.iterdir())) == 2
    # What has lost its name is still read by those that had it open.
    for file in cache.iterdir():
        file.unlink()
    torch.testing.assert_close(first.whole(), expected(scopes[0]))


def test_without_a_cache_it_is_computed_all_the_same(monkeypatch, computed, tmp_path):
    wanted = expected()
    (tmp_path / "file").touch()
    monkeypatch.setenv("SERENET_CACHE", str(tmp_path / "file"))
    computed.clear()
    psf = ComputedPSF(SCOPE, 33)
    torch.testing.assert_close(psf.whole(), wanted)
    assert len(computed) == 5  # kept in a file without a name
    monkeypatch.setattr(kept_psf.tempfile, "gettempdir", lambda: str(tmp_path / "nowhere"))

    def no_room(*_):
        raise OSError("no room")

    monkeypatch.setattr(kept_psf.tempfile, "TemporaryFile", no_room)
    monkeypatch.setattr(kept_psf, "require_space", lambda *_: None)
    torch.testing.assert_close(ComputedPSF(SCOPE, 33).whole(), wanted)


def test_two_runs_at_once(monkeypatch, cache):
    wanted = expected()
    whole, others = OctantPSF.images, []

    def interrupted(self, orders=None):
        for number, images in enumerate(whole(self, orders)):
            if number == 1 and not others:  # the first run is in the middle of it
                others.append(None)
                others.append(ComputedPSF(SCOPE, 33).whole())
            yield images

    monkeypatch.setattr(OctantPSF, "images", interrupted)
    torch.testing.assert_close(ComputedPSF(SCOPE, 33).whole(), wanted)
    torch.testing.assert_close(others[1], wanted)
    (file,) = cache.iterdir()
    assert file.suffix == ".psf"


KILLED = """
import os
from optics import presets
from optics.lightfield.octants import OctantPSF
from serenet.views.kept_psf import ComputedPSF
whole = OctantPSF.images
def deadly(self, orders=None):
    for number, images in enumerate(whole(self, orders)):
        if number == 2:
            os.kill(os.getpid(), 9)
        yield images
OctantPSF.images = deadly
scope = presets["nnum13"]
scope = scope.with_depths((-2.0, 0.0, 1.5, 2.0)).with_views(scope.views[:12])
ComputedPSF(scope, 33)(0)
"""


def test_a_killed_run_leaves_nothing_that_is_taken_for_a_psf(cache, computed):
    assert subprocess.run([sys.executable, "-c", KILLED], timeout=300).returncode == -9
    assert list(cache.iterdir())
    assert not list(cache.glob("*.psf"))
    torch.testing.assert_close(ComputedPSF(SCOPE, 33).whole(), expected())
    assert len(computed) == 10
    (file,) = cache.iterdir()
    assert file.suffix == ".psf"
