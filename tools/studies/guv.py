"""Reconstruct the recorded vesicle from camera frame to volume, and measure its shell.

``python tools/studies/guv.py FOLDER`` takes ``light_field.tif`` and ``radiometry_frame.tif`` there,
runs ``serenet rectify``, ``serenet deconvolve`` and, with ``--checkpoint``,
``serenet reconstruct``, fits a spheroid to the shell, prints the numbers and draws
``docs/guv.png``. See docs/guv.md.
"""

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from scopekit.images.files import open_frames, open_stack
from serenet.views.microscope import load_microscope

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]
OPTICS = ROOT / "packages/serenet/src/serenet/samples/guv/guv.yaml"
REFINED = "network, refined"
SHORTEST_UM, LONGEST_UM = 6.0, 24.0


class Shell:
    """A bright spheroid around a vertical axis, found along rays from its centre.

    Along every ray the shell is where the volume, smoothed by 2 pixels, is brightest. Rays that
    find it in the outermost planes are left out; the others count by their brightness, and those
    off by more than three times the median are dropped.

    Attributes
    ----------
    pixel_um
        Lateral step.
    centre_um
        (z, y, x) from the middle of the field and the focal plane.
    lateral_um, axial_um
        The spheroid's radii.
    ring_um
        Radius of the brightest ring in the middle plane.
    hollow
        Mean within 2 um of the centre over the ring's mean, in the middle plane.
    by_angle_um
        Median distance of the shell by the angle of the rays from the equator.
    """

    def __init__(
        self, volume: NDArray[np.float32], depths_um: NDArray[np.float64], pixel_um: float
    ) -> None:
        self._z, self.pixel_um = depths_um, pixel_um
        self._step = depths_um[1] - depths_um[0]
        self._volume = gaussian_filter(volume, (0.35 / self._step, 2, 2))
        polar = np.arccos(np.linspace(-1, 1, 26)[1:-1])
        around = np.linspace(0, 2 * np.pi, 36, endpoint=False)
        theta, phi = (angles.ravel() for angles in np.meshgrid(polar, around))
        self._rays = np.stack(
            [np.cos(theta), np.sin(theta) * np.sin(phi), np.sin(theta) * np.cos(phi)], axis=1
        )
        # The equator is where the views see most.
        squared = self._volume[np.abs(depths_um) < 8] ** 2
        self._middle = (np.array(volume.shape[1:]) - 1) / 2
        rows, columns = ((np.arange(n) - (n - 1) / 2) * pixel_um for n in volume.shape[1:])
        y = (squared.sum((0, 2)) * rows).sum() / squared.sum()
        x = (squared.sum((0, 1)) * columns).sum() / squared.sum()
        self.centre_um = np.array([0.0, y, x])
        for _ in range(10):
            distance, kept, (self.lateral_um, self.axial_um), centre = self._fit()
            moved = np.abs(centre - self.centre_um).max()
            self.centre_um = centre
            if moved < 0.01:
                break
        latitude = np.degrees(np.arcsin(np.abs(self._rays[:, 0])))
        self.by_angle_um = {
            angle: float(np.median(distance[kept & (np.abs(latitude - angle) < 6)]))
            for angle in (10, 25, 35, 45, 55, 70)
        }
        self.ring_um, self.hollow = self._middle_plane()

    def _fit(self) -> tuple[NDArray, NDArray, tuple[float, float], NDArray]:
        steps = np.arange(SHORTEST_UM, LONGEST_UM, 0.1)
        z, y, x = np.moveaxis(self.centre_um + self._rays[:, None] * steps[:, None], -1, 0)
        places = [
            (z - self._z[0]) / self._step,
            y / self.pixel_um + self._middle[0],
            x / self.pixel_um + self._middle[1],
        ]
        values = map_coordinates(self._volume, places, order=1)
        best, brightness = values.argmax(1), values.max(1)
        points = self.centre_um + self._rays * steps[best, None]
        kept = (best > 0) & (best < len(steps) - 1)
        kept &= (points[:, 0] > self._z[1]) & (points[:, 0] < self._z[-2])
        p, weight = points[kept], np.sqrt(brightness[kept])
        # a (x^2 + y^2) + b z^2 + c x + d y + e z = 1
        terms = np.stack([p[:, 1] ** 2 + p[:, 2] ** 2, p[:, 0] ** 2, *p.T[::-1]], axis=1)
        near = np.ones(len(p), bool)
        for _ in range(8):
            weighted = terms[near] * weight[near, None]
            a, b, c, d, e = np.linalg.lstsq(weighted, weight[near], rcond=None)[0]
            misfit = np.abs(terms @ (a, b, c, d, e) - 1)
            near = misfit <= 3 * np.median(misfit)
        centre = -np.array([e / b, d / a, c / a]) / 2
        size = 1 + a * (centre[1] ** 2 + centre[2] ** 2) + b * centre[0] ** 2
        return steps[best], kept, (float(np.sqrt(size / a)), float(np.sqrt(size / b))), centre

    def _middle_plane(self) -> tuple[float, float]:
        plane = self._volume[np.abs(self._z - self.centre_um[0]).argmin()]
        y, x = (
            (np.arange(n) - (n - 1) / 2) * self.pixel_um - c
            for n, c in zip(plane.shape, self.centre_um[1:], strict=True)
        )
        ring = np.floor(np.hypot(y[:, None], x) / 0.2).astype(int)
        profile = np.bincount(ring.ravel(), plane.ravel()) / np.bincount(ring.ravel())
        best = int(profile[: int(LONGEST_UM / 0.2)].argmax())
        return (best + 0.5) * 0.2, float(profile[:10].mean() / profile[best])

    def __str__(self) -> str:
        angles = ", ".join(f"{a} deg {r:.1f}" for a, r in self.by_angle_um.items())
        return (
            f"ring in the middle plane {self.ring_um:.1f} um, inside {self.hollow:.1%} of it; "
            f"spheroid {self.lateral_um:.2f} um lateral, {self.axial_um:.2f} um axial "
            f"({self.axial_um / self.lateral_um - 1:+.1%}); "
            f"distance by angle from the equator: {angles} um"
        )


def draw(
    path: Path,
    frame: NDArray[np.float32],
    volumes: dict[str, tuple[NDArray[np.float32], Shell]],
    depths: NDArray,
) -> None:
    """Draw the camera frame, and a row a volume: two planes, a projection, and an axial section."""
    views = ("middle", "above", "maximum", "section")
    mosaic: list[Any] = [["frame", *(f"{name} {view}" for view in views)] for name in volumes]
    figure, axes = plt.subplot_mosaic(mosaic, figsize=(15, 3 * len(volumes)), layout="constrained")
    axes["frame"].imshow(frame, cmap="gray", vmax=float(np.quantile(frame, 0.999)))
    axes["frame"].set_title("camera frame")
    axes["frame"].set_axis_off()
    around = np.linspace(0, 2 * np.pi, 200)
    for name, (volume, shell) in volumes.items():
        step, pixel = depths[1] - depths[0], shell.pixel_um
        half_y, half_x = (n * pixel / 2 for n in volume.shape[1:])
        half_z = len(depths) * step / 2
        cz, cy, cx = shell.centre_um
        row = int(cy / pixel + volume.shape[1] / 2)
        white = float(np.quantile(volume, 0.999))
        lateral, axial = (-half_x, half_x, half_y, -half_y), (-half_x, half_x, half_z, -half_z)
        pictures = {
            f"{name}, middle plane": volume[np.abs(depths - cz).argmin()],
            "7 um above": volume[np.abs(depths - cz + 7).argmin()],
            "maximum along z": volume.max(0),
        }
        for view, (title, picture) in zip(views, pictures.items(), strict=False):
            axis = axes[f"{name} {view}"]
            axis.imshow(picture, cmap="gray", vmax=white, extent=lateral)
            axis.set_title(title)
        bright = np.sqrt(volume[:, row - 4 : row + 5].mean(1))
        axis = axes[f"{name} section"]
        axis.imshow(bright, cmap="gray", vmax=float(np.quantile(bright, 0.998)), extent=axial)
        outline = (cx + shell.lateral_um * np.cos(around), cz + shell.axial_um * np.sin(around))
        axis.plot(*outline, ":", color="tab:orange", linewidth=1)
        axis.set_title("section along z (um), square root")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds light_field.tif, radiometry_frame.tif")
    parser.add_argument("--out", type=Path, default=Path("guv"), help="folder of the volumes")
    parser.add_argument("--checkpoint", help="run of serenet train my_microscope: a network too")
    parser.add_argument("--microscope", type=Path, default=OPTICS)
    parser.add_argument("--iterations", help="default: until a sweep gains little")
    parser.add_argument("--tv", default="0")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/guv.png")
    arguments = parser.parse_args()

    views = arguments.out / "guv.tif"
    rectify = ["rectify", arguments.folder / "light_field.tif"]
    rectify += ["--radiometry", arguments.folder / "radiometry_frame.tif"]
    serenet(*rectify, "--microscope", arguments.microscope, "--out", views)
    deconvolve = ["deconvolve", views, "--microscope", arguments.microscope]
    deconvolve += ["--tv", arguments.tv]
    if arguments.iterations:
        deconvolve += ["--iterations", arguments.iterations]
    serenet(*deconvolve, "--out", arguments.out)
    files = {"deconvolution": arguments.out / "guv_deconvolved.tif"}
    if arguments.checkpoint:
        reconstruct = ["reconstruct", views, "--checkpoint", arguments.checkpoint]
        serenet(*reconstruct, "--out", arguments.out)
        files["network"] = arguments.out / "guv_serenet.tif"
        serenet(*reconstruct, "--refine", "25", "--out", arguments.out / "refined")
        files[REFINED] = arguments.out / "refined/guv_serenet.tif"

    microscope = load_microscope(str(arguments.microscope))
    depths = np.array(microscope.depths_um)
    volumes = {}
    for name, file in files.items():
        volume = open_stack(file).read()
        volumes[name] = (volume, Shell(volume, depths, microscope.pixel_um))
        print(f"{name}: {volumes[name][1]}")
    frame = open_frames(arguments.folder / "light_field.tif").read()[0]
    volumes.pop(REFINED, None)
    draw(arguments.picture, frame, volumes, depths)


def serenet(*arguments: object) -> None:
    """Run a command; say how many CPU seconds it took."""
    before = os.times()
    subprocess.run(["serenet", *map(str, arguments), "--overwrite"], check=True)
    after = os.times()
    seconds = after.children_user - before.children_user
    print(f"serenet {arguments[0]}: {seconds:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
