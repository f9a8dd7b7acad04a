"""serenet in napari: readers, sample data and widgets, as `napari.yaml` names them."""
