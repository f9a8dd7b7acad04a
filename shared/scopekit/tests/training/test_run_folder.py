import numpy as np
import pytest

from scopekit.errors import UserError
from scopekit.settings import write_yaml
from scopekit.training.run_folder import RunFolder, loss_curves


def history(epochs, **terms):
    about = {"step": 1, "learning_rate": 0.1, "seconds": 1, "waiting_share": 0}
    return [
        {"epoch": n, **about, **{name: value / n for name, value in terms.items()}}
        for n in range(1, epochs + 1)
    ]


@pytest.mark.parametrize("epochs", [1, 30])
@pytest.mark.parametrize("terms", [(0.12, 0.006), (-1.5, 0.01), (0.1, 0.1), (0.0, 0.0)])
def test_every_axis_has_numbers(epochs, terms):
    names = {"loss": sum(terms), "loss_a": terms[0], "loss_b": terms[1], "iou": 0.3}
    figure = loss_curves(history(epochs, **names))
    figure.canvas.draw()
    assert len(figure.axes) == 2
    for axis in (figure.axes[0].yaxis, figure.axes[1].yaxis, figure.axes[1].xaxis):
        low, high = sorted(axis.get_view_interval())
        shown = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
        assert any(tick.label1.get_text() for tick in shown)
    assert all(float(t).is_integer() for t in figure.axes[1].get_xticks())


def test_terms_of_the_validation_share_a_panel():
    names = [f"{kind}{term}" for kind in ("loss_", "val_") for term in ("psf", "ewc", "mrf")]
    figure = loss_curves(history(3, loss=1, val_loss=1, iou=0.5, **dict.fromkeys(names, 0.3)))
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "validation loss", "iou"]
    assert [len(axes.lines) for axes in figure.axes] == [4, 4, 1]
    np.testing.assert_allclose(figure.axes[2].lines[0].get_ydata(), [0.5, 0.25, 0.5 / 3])


def test_a_run_goes_on_where_a_newer_version_has_more_keys_that_are_null(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").touch()
    old = {"rate": 1, "loss": {"weight": 2}, "start": None}
    write_yaml(tmp_path / "settings.yaml", old, overwrite=False)
    new = {"rate": 1, "loss": {"weight": 2, "kind": None}, "balance": None}
    RunFolder(tmp_path, new, resume=True, overwrite=False)
    for other in ({"balance": 3}, {"loss": {"weight": 2, "kind": "a"}}, {"rate": None}):
        with pytest.raises(UserError, match="was started with other settings"):
            RunFolder(tmp_path, new | other, resume=True, overwrite=False)
