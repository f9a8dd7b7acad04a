import io
import pickle

import numpy as np
import pytest
import torch

from scopekit.checkpoints import read_checkpoint, write_checkpoint
from scopekit.errors import UserError

CONTENT = {"weights": {"conv.weight": torch.arange(1000.0)}, "name": "serenet", "views": [0, 4]}


class WritesAFile:
    """Its pickle makes a file when it is loaded carelessly."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_round_trip(tmp_path):
    path = tmp_path / "model.pt"
    write_checkpoint(path, CONTENT, overwrite=False)
    content = read_checkpoint(path)
    torch.testing.assert_close(content.pop("weights"), CONTENT["weights"])
    assert content == {"name": "serenet", "views": [0, 4]}


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_and_not_run(tmp_path, zipped):
    path, trace = tmp_path / "model.pt", tmp_path / "trace"
    content = {"weights": torch.zeros(2), "code": WritesAFile(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"model\.pt: holds Python objects that could run code"):
        read_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_bare_pickle_is_refused_and_not_run(tmp_path, protocol):
    path, trace = tmp_path / "model.pt", tmp_path / "trace"
    path.write_bytes(pickle.dumps(WritesAFile(trace), protocol))
    with pytest.raises(UserError, match=r"model\.pt: "):
        read_checkpoint(path)
    assert not trace.exists()


def test_a_whole_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(UserError, match="Save it again as a dict of tensors"):
        read_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0, 0.02, 0.3, 0.7, 0.99])
def test_files_cut_short(tmp_path, zipped, kept):
    path = tmp_path / "model.pt"
    torch.save(CONTENT, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=r"model\.pt: not a PyTorch file, or damaged"):
        read_checkpoint(path)


def numpy_file():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"not a checkpoint\n" * 9, b"PK\x03\x04" * 20, numpy_file()])
def test_other_files(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.pt: not a PyTorch file"):
        read_checkpoint(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"absent\.pt: no such file"):
        read_checkpoint(tmp_path / "absent.pt")


def test_a_disk_that_fills_up(tmp_path, full_disk):
    with full_disk(4096), pytest.raises(UserError, match=r"cannot write .*model\.pt"):
        write_checkpoint(tmp_path / "model.pt", {"weights": torch.zeros(9999)}, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_existing_checkpoints_are_kept(tmp_path):
    path = tmp_path / "model.pt"
    write_checkpoint(path, CONTENT, overwrite=False)
    with pytest.raises(UserError, match="`overwrite=True`"):
        write_checkpoint(path, {}, overwrite=False)
    assert read_checkpoint(path)["name"] == "serenet"
