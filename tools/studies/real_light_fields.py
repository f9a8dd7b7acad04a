"""Deconvolve recorded light fields, and measure what is the matter with the volumes.

``python tools/studies/real_light_fields.py FOLDER VESICLE_FOLDER`` takes the worm, the sea urchin
egg and the simulated vesicle of FOLDER and the recorded one of VESICLE_FOLDER, rectifies and
deconvolves them as the README says, and prints for each, and for the volumes of other programs in
``FOLDER/peers``:

- the lattice: the share of a plane's power (without its mean) within one sample of the spectrum
  around the lens frequency and its harmonics, of the plane where it is most, and of all planes; of
  that plane also around frequencies half-way between, which is what a sample without a lattice has;
- the brightness of the planes around the focus, of the mean of all;
- for the simulated vesicle the correlation with its truth, blurred by a voxel; the deviance.

``--frames`` chooses some, ``--supersample`` the voxels a lens, ``--picture`` draws sections.
"""

import argparse
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from scopekit.images.files import open_stack
from scopekit.settings import read_yaml
from serenet.views.microscope import load_microscope

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]
GUV = ROOT / "packages/serenet/src/serenet/samples/guv/guv.yaml"
BORDER = 2  # lenses
TRUTH_UM = 0.57778


@dataclass(frozen=True)
class Result:
    """A volume, where its planes lie, and how large a lens is in it."""

    name: str
    volume: NDArray[np.float32]
    depths_um: NDArray[np.float64]
    pixel_um: float
    lens_um: float
    note: str = ""

    @property
    def lattice(self) -> NDArray[np.float64]:
        """Share of lattice power of every plane."""
        return np.array([lattice_share(p, self.lens_um / self.pixel_um) for p in self.volume])

    @property
    def brightness(self) -> NDArray[np.float64]:
        """Mean of every plane, of the mean of all."""
        means: NDArray[np.float64] = self.volume.mean((1, 2), dtype=np.float64)
        return np.asarray(means / means.mean())


def lattice_share(plane: NDArray[np.float32], lens: float, beside: float = 0.0) -> float:
    """Return the share of power around the lens frequency and its harmonics.

    Parameters
    ----------
    plane
        (Y, X); two lenses at every border are left out.
    lens
        Pixels a lens.
    beside
        How far from the harmonics to look instead, of the lens frequency.
    """
    margin = round(BORDER * lens)
    inside = plane[margin:-margin, margin:-margin].astype(np.float64)
    window = np.outer(*(np.hanning(n) for n in inside.shape))
    light = (inside - np.average(inside, weights=window)) * window
    power = np.abs(np.fft.fft2(light)) ** 2
    near, order = [], []
    for n in inside.shape:
        cycles = np.fft.fftfreq(n) * lens - beside
        order.append(np.abs(np.round(cycles)))
        near.append(np.abs(cycles - np.round(cycles)) < 1.5 * lens / n)
    harmonics = np.maximum.outer(order[0], order[1]) > 0
    chosen = np.logical_and.outer(near[0], near[1]) & harmonics
    return float(power[chosen].sum() / max(power.sum(), 1e-30))


def truth_correlation(result: Result, truth: NDArray[np.uint8]) -> float:
    """Return the correlation with the simulated vesicle, whose voxels are cubes, blurred by one.

    The best of shifts by up to three voxels: programs place the first lens differently.
    """
    blurred = gaussian_filter(truth.astype(np.float32), 1).ravel()
    um = (np.arange(len(truth)) - len(truth) // 2) * TRUTH_UM
    z = np.interp(um, result.depths_um, np.arange(len(result.depths_um)))
    middle = (np.array(result.volume.shape[1:]) - 1) / 2
    best = -1.0
    for shift in np.mgrid[-3:3.5:0.5, -3:3.5:0.5].reshape(2, -1).T * TRUTH_UM:
        y, x = ((um + s) / result.pixel_um + m for s, m in zip(shift, middle, strict=True))
        places = np.meshgrid(z, y, x, indexing="ij")
        there = map_coordinates(result.volume, places, order=1).ravel()
        best = max(best, float(np.corrcoef(there, blurred)[0, 1]))
    return best


def deconvolved(folder: Path, guv: Path, name: str, out: Path, supersample: int | None) -> Result:
    """Rectify and deconvolve a frame as the README says."""
    optics = GUV if name == "guv" else folder / f"{name}.yaml"
    rectify = {
        "guv": [guv / "light_field.tif", "--radiometry", guv / "radiometry_frame.tif"],
        "worm": [folder / "worm.tif", "--rectified", 15],
        "urchin": [
            *(folder / "urchin_lf.tif", "--radiometry", folder / "urchin_flat.tif"),
            *("--dark", folder / "urchin_dark.tif"),
        ],
        "vesicle": [
            *(folder / "vesicle_simulated.tif", "--radiometry"),
            folder / "vesicle_radiometry.tif",
        ],
    }[name]
    serenet("rectify", *rectify, "--microscope", optics, "--out", out / f"{name}.tif")
    options = [] if supersample is None else ["--supersample", supersample]
    serenet("deconvolve", out / f"{name}.tif", "--microscope", optics, "--out", out, *options)
    frame = read_yaml(out / f"{name}_deconvolved.yaml")["frames"][0]
    stack = open_stack(out / f"{name}_deconvolved.tif")
    microscope = load_microscope(str(optics))
    lens_um = microscope.microlens_pitch_um / microscope.magnification
    assert stack.voxel_um is not None
    pixel_um = stack.voxel_um[1]
    note = f", deviance {frame['deviance_per_sweep'][0][-1]:.3g}"
    return Result(
        f"{name}, serenet", stack.read(), np.array(microscope.depths_um), pixel_um, lens_um, note
    )


def of_peers(folder: Path, name: str) -> Iterator[Result]:
    """Yield what other programs make of a frame; their planes run towards the objective."""
    ends = {"worm": (20.0, 3.75, 0.75), "guv": (14.0, 100 / 60, 1 / 3)}
    end, lens_um, pixel_um = ends.get(name, (15.4, 104 / 60, TRUTH_UM))
    for path in sorted((folder / "peers").glob(f"{name}_*.tif")):
        volume = tifffile.imread(path)[::-1]
        depths = np.linspace(-end, end, len(volume))
        yield Result(path.stem, volume, depths, pixel_um, lens_um)


def tell(result: Result, truth: NDArray[np.uint8] | None) -> None:
    """Print a line of measures."""
    share, near = result.lattice, np.argsort(np.abs(result.depths_um))[:5]
    worst = result.volume[share.argmax()]
    between = lattice_share(worst, result.lens_um / result.pixel_um, 0.5)
    planes = " ".join(f"{m:.2f}" for m in result.brightness[np.sort(near)])
    agrees = "" if truth is None else f", correlation {truth_correlation(result, truth):.3f}"
    print(
        f"{result.name}: lattice {share.max():.4f} at most (half-way between {between:.4f}), "
        f"{share.mean():.4f} in the mean; planes around the focus {planes}{agrees}{result.note}",
        flush=True,
    )


def draw(path: Path, results: list[Result]) -> None:
    """Draw planes and a section along z of every volume."""
    figure, axes = plt.subplots(
        len(results), 6, figsize=(18, 3 * len(results)), squeeze=False, layout="constrained"
    )
    for row, result in zip(axes, results, strict=True):
        white = np.quantile(result.volume[1:-1], 0.999)
        reach = 0.6 * result.depths_um[-1]
        for axis, z in zip(row, (-reach, -reach / 4, 0, reach / 4, reach), strict=False):
            number = int(np.abs(result.depths_um - z).argmin())
            axis.imshow(np.sqrt(result.volume[number] / white), cmap="gray", vmin=0, vmax=1)
            axis.set_title(f"{result.name}, {result.depths_um[number]:g} um", fontsize=9)
        section = result.volume[:, int(result.volume[1:-1].sum((0, 2)).argmax())]
        row[-1].imshow(np.sqrt(section / white), cmap="gray", vmin=0, vmax=1, aspect="auto")
        row[-1].set_title("section along z")
        for axis in row:
            axis.set_axis_off()
    figure.savefig(path, dpi=60)
    plt.close(figure)


def serenet(*arguments: object) -> None:
    """Run a command."""
    subprocess.run(["serenet", *map(str, arguments), "--overwrite"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds the frames, the truth and peers/")
    parser.add_argument("guv", type=Path, help="holds light_field.tif, radiometry_frame.tif")
    parser.add_argument("--frames", nargs="+", default=["worm", "urchin", "vesicle", "guv"])
    parser.add_argument("--supersample", type=int)
    parser.add_argument("--out", type=Path, default=Path("real_light_fields"))
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    truth = tifffile.imread(arguments.folder / "vesicle_truth.tif")
    results = []
    for name in arguments.frames:
        ours = deconvolved(
            arguments.folder, arguments.guv, name, arguments.out, arguments.supersample
        )
        for result in (ours, *of_peers(arguments.folder, name)):
            tell(result, truth if name == "vesicle" else None)
            results.append(result)
    if arguments.picture:
        draw(arguments.picture, results)


if __name__ == "__main__":
    main()
