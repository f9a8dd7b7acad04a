"""OME-TIFFs whose metadata lie in another file: a ``.companion.ome``, or the first of a set."""

from pathlib import Path
from xml.etree import ElementTree

import tifffile

from scopekit.errors import UserError


def companion_metadata(path: Path, xml: str) -> str | None:
    """Return the OME-XML that a file's own OME-XML points to; ``None`` if it tells all itself.

    Parameters
    ----------
    path
        The file.
    xml
        What it holds.

    Returns
    -------
    str
        OME-XML of the whole set, as if this file was the one that holds it.

    Raises
    ------
    UserError
        If the other file is missing, or is none of OME.

    Notes
    -----
    Source: OME-XML schema 2016-06, element ``BinaryOnly``.
    """
    if "BinaryOnly" not in xml:
        return None
    own = ElementTree.fromstring(xml)
    pointer = own.find("{*}BinaryOnly")
    if pointer is None:
        return None
    # The name may come from Windows; folders may have been moved since.
    name = pointer.get("MetadataFile", "").replace("\\", "/").rpartition("/")[2]
    file = path.parent / name
    if not file.is_file():
        raise UserError(
            f"{path}: its axes are told in another file, {name or 'without a name'}, which is "
            "missing: put it into the same folder"
        )
    try:
        whole = ElementTree.fromstring(_read_xml(file))
        if whole.find("{*}Image") is None:
            raise ElementTree.ParseError("no image in it")
    except (ElementTree.ParseError, tifffile.TiffFileError, UnicodeDecodeError) as failure:
        raise UserError(
            f"{path}: its axes are told in {name}, which is no OME metadata; export both again"
        ) from failure
    whole.set("UUID", own.get("UUID", ""))
    return ElementTree.tostring(whole, encoding="unicode")


def _read_xml(file: Path) -> str:
    if ".tif" not in file.name.lower():
        return file.read_text("utf-8-sig")
    with tifffile.TiffFile(file) as tif:
        return tif.ome_metadata or ""
