"""The picture of a view before and after motion correction."""

import numpy as np

from serenet.motion.picture import save_motion_picture


def test_before_after_and_what_was_changed(tmp_path, figures):
    before = np.random.default_rng(0).random((24, 33), dtype=np.float32)
    after = before + np.linspace(0, 0.3, 33, dtype=np.float32)
    save_motion_picture(tmp_path / "a.png", before, after, (1.0, 0.5, 0.4))
    save_motion_picture(tmp_path / "b.png", before, before, (None, None, None))
    scanned, corrected, change = figures[0].axes[:3]
    for axes, expected in ((scanned, before), (corrected, after), (change, after - before)):
        np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-6)
        assert axes.images[0].get_extent() == [0, 33 * 0.4, 24 * 0.5, 0]
    assert scanned.images[0].get_clim() == corrected.images[0].get_clim()
    low, high = change.images[0].get_clim()
    assert low == -high
    assert [a.get_title() for a in (scanned, corrected)] == [
        "central view, scanned",
        "central view, corrected",
    ]
    assert [figure.axes[0].get_xlabel() for figure in figures] == ["µm", "pixels"]
