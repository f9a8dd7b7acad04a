"""Fixtures and habits of the tests of every package."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same cases on every machine, however slow it is.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the tests marked ``gpu`` where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("PyTorch finds no CUDA device here")


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of published weights, golden files and recorded images, beside the repository."""
    folder = Path(__file__).resolve().parent.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the reference data (../shared/golden, ../shared/data) is not here")
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is computed or fetched out of the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for program in ("SERENET", "TENET"):
            patch.setenv(f"{program}_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return ``run_here(main, name, *arguments)``: a command within this process.

    It returns exit code, standard output and standard error.
    """

    def call(main: Callable[[], None], name: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        code: Any = 0
        capsys.readouterr()
        # The command line shows warnings in its own way.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                main()
            except SystemExit as exit_:
                code = exit_.code or 0
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def viewer(make_napari_viewer: Callable[[], Any]) -> Any:
    """Open a viewer of napari; its fixture closes it."""
    return make_napari_viewer()


@pytest.fixture
def click() -> Callable[[Any, str], None]:
    """Return ``click(widget, text)``: press the button of that text in napari."""

    def buttons(container: Any) -> Iterator[Any]:
        for one in container:
            if hasattr(one, "text"):
                yield one
            if hasattr(one, "margins"):
                yield from buttons(one)

    def press(widget: Any, text: str) -> None:
        next(button for button in buttons(widget) if button.text == text).native.click()

    return press


@pytest.fixture
def done(qtbot: Any) -> Callable[[Any], str]:
    """Return ``done(widget)``: wait for its work or run, return the line that tells about it."""

    def wait(widget: Any) -> str:
        panel = widget.work if hasattr(widget, "work") else widget.run
        # Of machines with much else to do, too.
        qtbot.waitUntil(lambda: not panel.busy, timeout=1_800_000)
        return str(panel.line.value)

    return wait


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let progress be shown as on a terminal."""
    from scopekit.progress import console

    monkeypatch.setattr(console, "_force_terminal", True)


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """Return ``full_disk(limit)``: inside it no file of this process grows beyond the limit.

    It must not span a whole test: pytest's own output may go to a file.
    """
    resource = pytest.importorskip("resource", reason="no file size limits on this system")

    @contextmanager
    def limited(limit: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a dask cluster of two workers, of which one may be killed, see `dask_cluster`."""
    pytest.importorskip("distributed", reason="dask is an extra: pip install distributed")
    from dask_cluster import Cluster

    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()
