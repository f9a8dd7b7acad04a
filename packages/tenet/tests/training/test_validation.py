"""Pictures of validation crops."""

import numpy as np
import torch

from tenet.training.batches import Batch, LabelBatch
from tenet.training.validation import validation_pictures


def volumes(depth):
    generator = torch.Generator().manual_seed(depth)
    return torch.rand(2, 1, depth, 3, 4, generator=generator)


def output(reconstruction_depth):
    return {
        "enhanced_image": volumes(8),
        "estim_luminance": 0.5 * volumes(8) + 0.1,
        "reconstruction": volumes(reconstruction_depth),
    }


def test_labels_are_shown_beside_what_was_found():
    out, image, labelx = output(8), volumes(2), (volumes(8) > 0.5).float()
    found = validation_pictures(out, LabelBatch(image + 1, image, labelx, labelx))
    expected = {
        "image": image[0, 0].repeat_interleave(4, dim=0),
        "structure": out["enhanced_image"][0, 0],
        "structure x brightness": (out["enhanced_image"] * out["estim_luminance"])[0, 0],
        "truth": labelx[0, 0],
    }
    assert list(found) == list(expected)
    for title, volume in expected.items():
        np.testing.assert_array_equal(found[title], volume.numpy(), err_msg=title)


def test_of_recordings_the_reconstruction_is_shown():
    out, image = output(2), volumes(2)
    found = validation_pictures(out, Batch(image, image))
    assert list(found) == ["image", "structure", "structure x brightness", "reconstruction"]
    expected = out["reconstruction"][0, 0].repeat_interleave(4, dim=0).numpy()
    np.testing.assert_array_equal(found["reconstruction"], expected)
