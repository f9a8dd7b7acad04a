"""The perceptual loss of VGG-16's first convolutions, from a small file, offline."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from scopekit.errors import UserError
from serenet.training.build import _perceptual
from serenet.training.perceptual.first_layers import load_first_layers
from serenet.training.settings import TrainingSettings


@pytest.fixture(scope="module")
def layers():
    """Weights and biases of two convolutions of three colours."""
    generator = torch.Generator().manual_seed(3)
    shapes = (64, 3, 3, 3), (64,), (64, 64, 3, 3), (64,)
    return [0.1 * torch.randn(shape, generator=generator) for shape in shapes]


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(4)
    return torch.rand((2, 3, 12, 10), generator=generator)


def expected(layers, n, prediction, target):
    """The distance of three equal colours, in float64."""
    total = 0.0
    features = [
        ((image.double() - 0.449) / 0.226)[:, None].expand(-1, 3, -1, -1)
        for image in (prediction, target)
    ]
    for weight, bias in (layers[:2], layers[2:])[:n]:
        features = [
            F.relu(F.conv2d(f, weight.double(), bias.double(), padding=1)) for f in features
        ]
        total = total + (features[0] - features[1]).square().mean(dim=(1, 2, 3)) / n
    return total.float()


NAMES = ("features.0.weight", "features.0.bias", "features.2.weight", "features.2.bias")


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda s: s, id="torchvision"),
        pytest.param(lambda s: {k.replace("features.", "slice1."): t for k, t in s.items()}),
        pytest.param(lambda s: {k.removeprefix("features."): t for k, t in s.items()}),
        pytest.param(lambda s: {"state_dict": s}, id="deeper"),
        pytest.param(lambda s: {k: torch.nn.Parameter(t) for k, t in s.items()}, id="parameters"),
    ],
)
def test_one_or_two_convolutions_from_any_file(tmp_path, layers, images, n, wrap):
    state = dict(zip(NAMES[: 2 * n], layers, strict=False))
    torch.save(wrap(state), tmp_path / "vgg.pth")
    found = load_first_layers(tmp_path / "vgg.pth")(*images)
    torch.testing.assert_close(found, expected(layers, n, *images), rtol=1e-5, atol=1e-6)


def test_weights_for_one_channel_and_a_whole_vgg(tmp_path, layers, images):
    state = dict(zip(NAMES, layers, strict=True))
    grey = state | {NAMES[0]: layers[0].sum(1, keepdim=True)}
    more = state | {"features.5.weight": torch.zeros(128, 64, 3, 3)}
    for content in (grey, more):
        save_file(content, tmp_path / "vgg.safetensors")
        found = load_first_layers(tmp_path / "vgg.safetensors")(*images)
        torch.testing.assert_close(found, expected(layers, 2, *images), rtol=1e-5, atol=1e-6)


def test_only_the_prediction_has_a_gradient(tmp_path, layers, images):
    torch.save(dict(zip(NAMES, layers, strict=True)), tmp_path / "vgg.pth")
    distance = load_first_layers(tmp_path / "vgg.pth")
    prediction, target = (image.clone().requires_grad_() for image in images)
    distance(prediction, target).sum().backward()
    assert prediction.grad.abs().sum() > 0
    assert target.grad is None
    assert not any(p.requires_grad for p in distance.parameters())
    assert torch.equal(distance(target, target), torch.zeros(3))
    with pytest.raises(ValueError, match="differ in shape"):
        distance(prediction, target[:2])


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda s: {}, id="empty"),
        pytest.param(lambda s: s | {NAMES[0]: torch.zeros(32, 3, 3, 3)}, id="another-shape"),
        pytest.param(lambda s: s | {NAMES[1]: torch.zeros(32)}, id="another-bias"),
        pytest.param(lambda s: s | {NAMES[0]: torch.full((64, 3, 3, 3), torch.nan)}, id="nan"),
        pytest.param(lambda s: {k: t for k, t in s.items() if k != NAMES[3]}, id="no-bias"),
    ],
)
def test_other_files_are_refused(tmp_path, layers, spoil):
    torch.save(spoil(dict(zip(NAMES, layers, strict=True))), tmp_path / "vgg.pth")
    with pytest.raises(UserError, match=r"perceptual\.vgg: .*vgg\.pth: not the first one or two"):
        load_first_layers(tmp_path / "vgg.pth")
    with pytest.raises(UserError, match=r"perceptual\.vgg: .*none\.pth: no such file"):
        load_first_layers(tmp_path / "none.pth")


def settings(**perceptual):
    content = {"method": "serenet", "optics": "nnum13", "data": {"views": "."}}
    return TrainingSettings.model_validate(content | {"perceptual": perceptual})


def test_the_settings_choose_it(tmp_path, layers, images):
    torch.save(dict(zip(NAMES, layers, strict=True)), tmp_path / "vgg.pth")

    class Job:
        settings = settings(kind="first_layers", vgg=tmp_path / "vgg.pth")
        world = type("World", (), {"device": torch.device("cpu")})

    found = _perceptual(Job)(*images)
    torch.testing.assert_close(found, expected(layers, 2, *images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("perceptual", "fault"),
    [
        ({"kind": "first_layers"}, "vgg is missing: first_layers takes a file of VGG-16's first"),
        ({"kind": "first_layers", "vgg": "a", "linear": "b"}, "linear: first_layers has no such"),
        ({"kind": "second"}, "'lpips' or 'first_layers'"),
    ],
)
def test_wrong_choices_are_refused(perceptual, fault):
    with pytest.raises(ValueError, match=fault):
        settings(**perceptual)
