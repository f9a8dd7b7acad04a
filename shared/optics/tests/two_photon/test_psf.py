import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import j0

from optics.errors import OpticsError
from optics.two_photon.psf import gaussian_section, gibson_lanni

from .bead_microscope import BEADS

OIL = {"NA": 1.4, "wavelength": 0.525, "ns": 1.33, "ni": 1.515, "ni0": 1.515, "ng": 1.52}
GAUSSIAN = {
    **{k: BEADS[k] for k in ("size_x", "size_y", "size_z", "res_lateral", "scale")},
    "bet_xy": 10.0,
    "bet_z": 5.0,
}


def integrate(p: dict[str, Any], samples: int = 10_001) -> NDArray[Any]:
    """Return the PSF by the trapezoidal rule on the diffraction integral.

    The samples are quadratically denser towards the edge, where an index may end the pupil.
    """
    edge = min(p[k] for k in ("NA", "ns", "ni", "ni0", "ng", "ng0")) / p["NA"]
    rho = edge * (1 - np.linspace(1, 0, samples) ** 2)
    rows = p["size_z"] // p["scale"]
    z = (p["res_axial"] * np.arange(-rows / 2, rows / 2) + p["res_axial"] / 2)[:, None]
    x0, y0 = (p["size_x"] - 1) / 2, (p["size_y"] - 1) / 2
    r = p["res_lateral"] * np.arange(round(np.hypot(p["size_x"] - x0, p["size_y"] - y0)))

    def root(index: float) -> NDArray[Any]:
        return np.sqrt(np.clip(index**2 - (p["NA"] * rho) ** 2, 0, None))

    path = p["pZ"] * root(p["ns"])
    path = path + (z + p["ti0"]) * root(p["ni"]) - p["ti0"] * root(p["ni0"])
    path = path + p["tg"] * root(p["ng"]) - p["tg0"] * root(p["ng0"])
    weights = np.zeros(samples)
    weights[1:] += np.diff(rho) / 2
    weights[:-1] += np.diff(rho) / 2
    pupil = np.exp(2j * np.pi * path / p["wavelength"]) * rho * weights
    field = pupil @ j0(2 * np.pi * p["NA"] / p["wavelength"] * rho[:, None] * r)
    intensity = np.abs(field) ** 2
    return intensity / intensity.max()


def test_published_beads_are_reproduced(reference: Path) -> None:
    golden = np.load(reference / "golden/gibson_lanni_beads.npz")
    psf, r_um = gibson_lanni(**BEADS)
    assert psf.dtype == torch.float32
    assert r_um.dtype == torch.float64
    np.testing.assert_allclose(psf.numpy(), golden["psf_rz"], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(r_um.numpy(), golden["r_um"], rtol=1e-12)


def test_published_gaussian_is_reproduced(reference: Path) -> None:
    golden = np.load(reference / "golden/gaussian_psf_beads.npz")
    psf, r_um = gaussian_section(**GAUSSIAN)
    assert psf.dtype == torch.float32
    np.testing.assert_allclose(psf.numpy(), golden["psf_rz"], rtol=1e-4)
    np.testing.assert_allclose(r_um.numpy(), golden["r_um"], rtol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="published"),
        pytest.param({"size_z": 205, "scale": 10, "size_x": 20, "size_y": 30}, id="even"),
        pytest.param({"size_z": 7, "scale": 1, "size_x": 1, "size_y": 1}, id="axis-only"),
        pytest.param({"NA": 0.1}, id="low-NA"),
        pytest.param({"pZ": 10, "NA": 1.0}, id="through-specimen"),
        pytest.param({"pZ": 20, "NA": 1.1}, id="thick"),
        pytest.param({"pZ": 20, "NA": 1.1, "ns": 1.33}, id="thick-in-water"),
        pytest.param({"pZ": 20, "NA": 1.1, "ns": 1.37, "wavelength": 0.5}, id="thick-green"),
        pytest.param({"tg": 165, "ng": 1.52, "NA": 0.9, "ni": 1.34}, id="wrong-cover-glass"),
        pytest.param(OIL, id="oil"),
        pytest.param({**OIL, "pZ": 5}, id="oil-total-reflection"),
        pytest.param({**OIL, "pZ": 50, "ns": 1.38}, id="oil-deep"),
        pytest.param({"size_z": 2010, "NA": 1.1}, id="long"),
    ],
)
def test_equals_the_diffraction_integral(change: dict[str, Any]) -> None:
    parameters = {**BEADS, **change}
    psf, _ = gibson_lanni(**parameters)
    expected = integrate(parameters)
    assert psf.shape == expected.shape
    assert np.abs(psf.numpy() - expected).max() < 1e-5


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    NA=st.floats(0.2, 1.3),
    wavelength=st.floats(0.4, 1.0),
    ns=st.floats(1.2, 1.6),
    ni=st.floats(1.31, 1.6),
    pZ=st.floats(0, 20),
    tg=st.floats(165, 175),
)
def test_equals_the_diffraction_integral_anywhere(**change: float) -> None:
    parameters: dict[str, Any] = {**BEADS, "size_z": 50, **change, "ni0": change["ni"]}
    psf, _ = gibson_lanni(**parameters)
    assert np.abs(psf.numpy() - integrate(parameters)).max() < 1e-5


def test_radii_on_the_removable_singularity() -> None:
    # These radii meet the functions of the published series, whose terms are 0 / 0 there.
    parameters = {**BEADS, "res_lateral": 0.436 / (2 * math.pi)}
    psf, _ = gibson_lanni(**parameters)
    assert torch.isfinite(psf).all()
    assert np.abs(psf.numpy() - integrate(parameters)).max() < 1e-6


@pytest.mark.parametrize(
    ("section", "values", "wrong", "right"),
    [
        (gibson_lanni, BEADS, "photon", "photons"),
        (gibson_lanni, BEADS, "colour", None),
        (gaussian_section, GAUSSIAN, "bet_x", "bet_xy"),
    ],
)
def test_a_misspelt_parameter_is_refused(
    section: Callable[..., object], values: dict[str, float], wrong: str, right: str | None
) -> None:
    with pytest.raises(TypeError, match=f"no parameter '{wrong}'") as refused:
        section(**values, **{wrong: 2})
    assert ("did you mean" in str(refused.value)) == (right is not None)
    assert right is None or f"'{right}'" in str(refused.value)


def test_a_whole_configuration_section_is_accepted(reference: Path) -> None:
    section = json.loads((reference / "data/published/JNet_beads.json").read_text())["params"]
    torch.testing.assert_close(gibson_lanni(**section)[0], gibson_lanni(**BEADS)[0])
    torch.testing.assert_close(gaussian_section(**section)[0], gaussian_section(**GAUSSIAN)[0])


def test_peak_is_one_and_the_focus_is_in_the_middle() -> None:
    psf, _ = gibson_lanni(**{**BEADS, "size_z": 210})
    assert psf.max() == 1
    assert divmod(int(psf.argmax()), psf.shape[1]) == (10, 0)
    torch.testing.assert_close(psf, psf.flip(0), rtol=0, atol=2e-3)


def test_two_photons_square() -> None:
    one, _ = gibson_lanni(**BEADS)
    two, _ = gibson_lanni(**BEADS, photons=2)
    torch.testing.assert_close(two, one**2, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"NA": 1.4}, "NA 1.4 must be below ni0 1.33"),
        ({"NA": 0.0}, "NA is 0.0: give a positive"),
        ({"wavelength": -0.5}, "wavelength is -0.5"),
        ({"ng": math.nan}, "ng is nan"),
        ({"res_axial": math.inf}, "res_axial is inf"),
        ({"res_lateral": 0.0}, "res_lateral is 0.0"),
        ({"size_y": 0}, "size_y is 0"),
        ({"scale": 0}, "scale is 0"),
        ({"size_z": 9}, "size_z 9 is below scale 10"),
        ({"pZ": -1.0}, "pZ is -1.0: give a length in um"),
        ({"tg": math.nan}, "tg is nan"),
        ({"photons": 3}, "photons is 3: give 1, or 2"),
    ],
)
def test_bad_parameters_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OpticsError, match=message):
        gibson_lanni(**{**BEADS, **change})


@pytest.mark.parametrize("name", ["bet_xy", "bet_z", "size_x", "res_lateral"])
def test_bad_gaussian_parameters_are_named(name: str) -> None:
    with pytest.raises(OpticsError, match=f"{name} is -1"):
        gaussian_section(**{**GAUSSIAN, name: -1})
