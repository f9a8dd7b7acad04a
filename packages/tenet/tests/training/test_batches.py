"""What the network is shown of crops."""

import numpy as np
import torch

from tenet.alignment.vibration import shift_slices
from tenet.data.crops import RecordingCrop
from tenet.network.jnet import hill
from tenet.training.batches import recorded_batch

CPU = torch.device("cpu")


def crop(seed, shifts=None):
    rng = np.random.default_rng(seed)
    image, mask = (torch.from_numpy(rng.random((1, 3, 8, 7), np.float32)) for _ in range(2))
    return RecordingCrop("a.tif", (mask > 0.3).float(), shifts, image)


def test_recordings_are_lifted_and_masked():
    crops = [crop(0), crop(1)]
    batch = recorded_batch(crops, CPU)
    image = torch.stack([c.image for c in crops])
    assert torch.equal(batch.image, image)
    assert torch.equal(batch.shown, hill(image) * torch.stack([c.mask for c in crops]))


def test_slices_are_displaced_before_they_are_masked():
    shifts = torch.tensor([[1.0, -2.0], [0.0, 3.0], [-1.0, 0.5]])
    moved = crop(0, shifts)
    batch = recorded_batch([moved], CPU)
    assert torch.equal(batch.image[0], moved.image)
    lifted = hill(moved.image)[0]
    expected = shift_slices(lifted[None, None], shifts[None])[0] * moved.mask
    torch.testing.assert_close(batch.shown[0], expected)
    # The first slice by whole pixels: down by one, left by two.
    whole = batch.shown[0, 0, 0, 1:, :-2]
    torch.testing.assert_close(whole, lifted[0, :-1, 2:] * moved.mask[0, 0, 1:, :-2])
