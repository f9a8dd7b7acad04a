"""Pictures of volumes for notebooks and files."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scopekit.images.files import VoxelSize
from scopekit.outputs import whole_file
from scopekit.preview import draw_preview
from serenet.api.arrays import AnyArray, as_tensor, voxel_of


@dataclass(frozen=True)
class Picture:
    """A picture, which a notebook shows where it is a cell's last line.

    Attributes
    ----------
    figure
        As Matplotlib has it.
    """

    figure: Figure

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write it as PNG.

        Parameters
        ----------
        path
            The ``.png``; it appears when it is whole.
        overwrite
            Whether an existing file may be replaced.
        """
        with whole_file(Path(path), overwrite=overwrite) as partial:
            partial.write_bytes(self._repr_png_())

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.figure.savefig(buffer, format="png", facecolor=self.figure.get_facecolor())
        return buffer.getvalue()


def draw(
    volumes: AnyArray | Mapping[str, AnyArray],
    voxel_um: VoxelSize | None = None,
) -> Picture:
    """Draw orthogonal maximum projections of volumes side by side, each on its own grey scale.

    Parameters
    ----------
    volumes
        A volume (Z, Y, X), or titles to volumes of one shape.
    voxel_um
        (z, y, x) step in um, for the proportions and the scale bar; default: what the first
        volume that carries one does.

    Returns
    -------
    Picture
        A notebook shows it; ``save("cell.png")`` writes it, ``figure`` is Matplotlib's.

    Raises
    ------
    ValueError
        If the voxel size is not known, or the volumes have no common shape (Z, Y, X).

    Examples
    --------
    >>> import numpy as np, serenet
    >>> picture = serenet.draw({"cell": np.random.rand(5, 16, 16)}, voxel_um=(0.2, 0.1, 0.1))
    >>> picture.save("cell.png")
    """
    named = volumes if isinstance(volumes, Mapping) else {"": volumes}
    sizes = [voxel_um, *(voxel_of(volume) for volume in named.values())]
    size = next((s for s in sizes if s is not None), None)
    if size is None:
        raise ValueError("no volume carries its voxel size: give voxel_um=(z, y, x) in um")
    values: dict[str, NDArray[Any]] = {
        title: as_tensor(volume).detach().cpu().numpy() for title, volume in named.items()
    }
    shapes = {volume.shape for volume in values.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 3 or 0 in next(iter(shapes)):
        raise ValueError(f"volumes of shapes {sorted(shapes)}; give (Z, Y, X), all of one shape")
    if not all(np.isfinite(volume).all() for volume in values.values()):
        raise ValueError("a volume holds NaN or infinite values")
    return Picture(draw_preview(values, size))
