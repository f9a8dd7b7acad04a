"""A folder of labels: volumes made where they are missing, then statistics and a contact sheet."""

from functools import partial
from pathlib import Path

from datagen import __version__
from datagen.folders.contact_sheet import save_contact_sheet, sheet_item
from datagen.folders.dataset import SETTINGS_NAME, Dataset
from datagen.folders.workers import make_items
from datagen.labels.files import PATTERNS, volume_bytes, volume_files, write_table
from datagen.labels.sets import LabelSet, complete_volume
from scopekit.outputs import claimed, require_new, whole_file
from scopekit.progress import say

SHEET_NAME = "contact_sheet.png"
STATISTICS_NAME = "statistics.csv"


def make_label_set(label_set: LabelSet, folder: Path, *, jobs: int, overwrite: bool) -> None:
    """Write the volumes of a set that ``folder`` lacks; then statistics and a contact sheet of all.

    Parameters
    ----------
    label_set
        What to draw.
    folder
        Where.
    jobs
        Volumes drawn at a time.
    overwrite
        Whether to make all anew.

    Raises
    ------
    UserError
        If nothing is missing, or as `Dataset.open` and `make_items` tell.
    """
    with claimed(folder / "dataset"):
        _make(label_set, folder, jobs=jobs, overwrite=overwrite)


def _make(label_set: LabelSet, folder: Path, *, jobs: int, overwrite: bool) -> None:
    sheet, table = folder / SHEET_NAME, folder / STATISTICS_NAME
    if not (folder / SETTINGS_NAME).exists():  # then they are not ours
        for path in (sheet, table):
            require_new(path, overwrite=overwrite)
    files = [
        volume_files(folder, i, with_table=label_set.has_table) for i in range(label_set.number)
    ]
    settings = {**label_set.settings(), "datagen_version": __version__}
    dataset = Dataset(folder, settings, files, PATTERNS, volume_bytes(label_set.size))
    missing = dataset.open(overwrite=overwrite)
    if sheet.exists():
        dataset.require_missing(missing)
        sheet.unlink()  # it lands last: where it is, all is there
    work = partial(complete_volume, label_set, files, frozenset(missing))
    summaries = make_items(work, range(len(files)), jobs=jobs, description="volumes")
    with whole_file(table, overwrite=True) as partial_file:
        write_table(partial_file, [row for row, _ in summaries])
    items = [
        sheet_item(row["volume"], projections, label_set.voxel_um, label_set.lines(row))
        for row, projections in summaries
    ]
    save_contact_sheet(sheet, items, overwrite=False, heading=label_set.title)
    say(f"{folder}: {len(files)} volumes, shown in {SHEET_NAME}")
