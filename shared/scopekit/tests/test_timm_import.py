import importlib.util
import subprocess
import sys

import pytest

from scopekit.errors import UserError
from scopekit.timm_import import import_timm

# A torchvision without its compiled part: its import needs operators that PyTorch lacks.
WITHOUT_EXTENSION = """
import torch
torch.library.register_fake("torchvision::nms")(lambda *a: a)
torch.library.register_fake("torchvision::qnms")(lambda *a: a)
"""
# And one whose compiled part declares them.
WITH_EXTENSION = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
needs_timm = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed"
)


def python(code, *folders):
    """Run code in a Python of its own, where warnings are errors; return its output."""
    code = f"import sys; sys.path[:0] = {[str(f) for f in folders]}\n{code}"
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.split()


def package(folder, name, code):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "__init__.py").write_text(code)


@needs_timm
def test_timm_comes_without_a_warning_and_only_when_called():
    code = """
import scopekit.timm_import as t
print("timm" in sys.modules, "torchvision" in sys.modules)
print(t.import_timm().__name__, t.import_timm("timm.scheduler").CosineLRScheduler.__name__)
"""
    assert python(code) == ["False", "False", "timm", "CosineLRScheduler"]


@pytest.mark.parametrize(
    ("torchvision", "declared"), [(WITHOUT_EXTENSION, 1), (WITH_EXTENSION, 0), ("", 0)]
)
def test_operators_are_declared_only_where_they_are_missing(tmp_path, torchvision, declared):
    package(tmp_path, "torchvision", torchvision)
    package(tmp_path, "timm", "import torchvision")
    code = """
import scopekit.timm_import as t
print(t.import_timm().__name__, t.import_timm().__name__, len(t._declared))
"""
    assert python(code, tmp_path) == ["timm", "timm", str(declared)]


@pytest.mark.parametrize("missing", ["timm", "torchvision"])
def test_what_is_not_installed_is_named(monkeypatch, missing):
    for name in ("timm", "torchvision"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else sys)
    with pytest.raises(UserError, match=f"'{missing}' is missing: pip install timm"):
        import_timm()


def test_another_failure_of_torchvision_tells_what_to_install(tmp_path, monkeypatch):
    package(tmp_path, "torchvision", "raise RuntimeError('compiled for CUDA 12')")
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"\(compiled for CUDA 12\); install the torchvision that"):
        import_timm()
