"""Light fields among recordings: files that belong to ``serenet``."""

import math

from tenet.data.recordings import RecordingFile

_FEWEST = 3  # views a side, or exposures of a scan


def views_doubt(recording: RecordingFile) -> str:
    """Return a line if a stack may be the views of a light field, or the frames of a scan.

    Those are an odd number squared, and no distance lies between them. Stacks may be such by
    chance.
    """
    n_pages = recording.shape[0]
    side = math.isqrt(n_pages)
    if recording.steps.z_um is not None or side**2 != n_pages or side % 2 == 0 or side < _FEWEST:
        return ""
    return (
        f"{n_pages} pages without a step along z: if they are {side} x {side} views or exposures "
        "of a light field, they are for serenet: 'serenet check' tells"
    )
