"""NPY and PT: arrays without metadata, whatever their kind."""

import os
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from scopekit.errors import UserError
from scopekit.images.files import Selection, open_frames, open_stack

STACK = np.random.default_rng(0).integers(0, 4000, (3, 4, 5))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.from_numpy(STACK).float().requires_grad_(),
        torch.nn.Parameter(torch.from_numpy(STACK).double()),
        torch.from_numpy(STACK).to_sparse(),
        torch.from_numpy(STACK).to(torch.int16),
        torch.from_numpy(STACK).float()[None, None],
        torch.from_numpy(STACK % 7).to(torch.float8_e4m3fn),
    ],
    ids=["gradients", "parameter", "sparse", "int16", "five axes", "float8"],
)
def test_tensors_of_all_kinds_are_read(tmp_path, tensor):
    torch.save(tensor, tmp_path / "a.pt")
    stack = open_stack(tmp_path / "a.pt")
    expected = STACK % 7 if tensor.dtype == torch.float8_e4m3fn else STACK
    assert np.array_equal(stack.read(), expected)


def test_tensors_without_values_are_told(tmp_path):
    torch.save(torch.ones(3, 4, 5, device="meta"), tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt: its tensor is no array of numbers .*save it as"):
        open_stack(tmp_path / "a.pt")


@pytest.mark.parametrize("value", [torch.ones(3, 4, 5, dtype=torch.complex64), torch.ones(4, 5), 7])
def test_other_tensors_are_told(tmp_path, value):
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt: .*allowed: "):
        open_stack(tmp_path / "a.pt")


def test_arrays_in_any_order(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(STACK.astype(">u2")))
    stack = open_stack(tmp_path / "a.npy")
    assert (stack.dtype, stack.shape) == (np.dtype("u2"), STACK.shape)
    assert np.array_equal(stack.read(), STACK)


def test_the_channel_of_an_array(tmp_path):
    np.save(tmp_path / "a.npy", np.stack([STACK, STACK + 1]))
    with pytest.raises(UserError, match="2 channels x 3 planes; choose a channel"):
        open_stack(tmp_path / "a.npy")
    assert np.array_equal(open_stack(tmp_path / "a.npy", Selection(channel=1)).read(), STACK + 1)


def test_large_offsets_stay_exact_until_they_are_taken_off(tmp_path):
    np.save(tmp_path / "a.npy", (STACK + 2**30).astype(np.int32))
    pages = list(open_stack(tmp_path / "a.npy").stored(range(3)))
    assert np.array_equal(np.stack(pages) - 2**30, STACK)


@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.nd2", "a.pt"])
def test_a_pipe_is_refused_at_once(tmp_path, name):
    os.mkfifo(tmp_path / name)
    failures = []

    def read():
        try:
            open_stack(tmp_path / name)
        except UserError as failure:
            failures.append(str(failure))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert failures == [
        f"{tmp_path / name}: no file but a pipe or a device; save its content as a file first"
    ]


def test_grey_png_images_are_frames(tmp_path):
    for bits in (np.uint8, np.uint16):
        grey = np.arange(20, dtype=bits).reshape(4, 5) * np.iinfo(bits).max // 20
        Image.fromarray(grey).save(tmp_path / "a.png")
        frames = open_frames(tmp_path / "a.png")
        assert frames.shape == (1, 1, 4, 5)
        assert np.array_equal(frames.read()[0], grey)


def test_other_png_images_are_told(tmp_path):
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: a colour image"):
        open_frames(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"a\.png: not a PNG image"):
        open_frames(tmp_path / "a.png")
    with pytest.raises(UserError, match="no such file"):
        open_frames(tmp_path / "b.png")
