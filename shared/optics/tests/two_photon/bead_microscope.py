"""The two-photon microscope of the published bead model."""

from typing import Any

BEADS: dict[str, Any] = {
    "size_x": 51,
    "size_y": 51,
    "size_z": 201,
    "NA": 0.7,
    "wavelength": 0.9,
    "ns": 1.4,
    "ng0": 1.5,
    "ng": 1.5,
    "ni0": 1.33,
    "ni": 1.33,
    "ti0": 150,
    "tg0": 170,
    "tg": 170,
    "res_lateral": 0.05,
    "res_axial": 0.5,
    "pZ": 0,
    "scale": 10,
}
