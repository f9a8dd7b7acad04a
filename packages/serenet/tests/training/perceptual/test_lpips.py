"""The perceptual loss: its value, its gradient, and the files its weights come from."""

import importlib.machinery
import math

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from scopekit.errors import UserError
from serenet.training.perceptual.lpips import LPIPS, load_lpips

# VGG-16 to its last ReLU (Simonyan and Zisserman, 2015, configuration D); "P" halves the size.
LAYERS = (64, 64, "P", 128, 128, "P", 256, 256, 256, "P", 512, 512, 512, "P", 512, 512, 512)
TAPS = (3, 8, 15, 22, 29)


def plain_vgg():
    """VGG-16 for three colours, numbered as torchvision numbers it, with lively weights."""
    torch.manual_seed(5)
    layers, channels = [], 3
    for layer in LAYERS:
        if layer == "P":
            layers.append(nn.MaxPool2d(2))
            continue
        convolution = nn.Conv2d(channels, layer, 3, padding=1)
        nn.init.kaiming_normal_(convolution.weight)
        nn.init.normal_(convolution.bias, std=0.1)
        layers += [convolution, nn.ReLU()]
        channels = layer
    return nn.Sequential(*layers)


def plain_distance(vgg, linear, prediction, target):
    """The distance of two images (H, W), from three equal colours, in float64."""
    features = []
    hooks = [vgg[i].register_forward_hook(lambda _m, _i, out: features.append(out)) for i in TAPS]
    for image in (prediction, target):
        vgg.double()(((image.double() - 0.449) / 0.226).expand(1, 3, *image.shape))
    for hook in hooks:
        hook.remove()
    total = 0.0
    for i, weights in enumerate(linear.values()):
        a, b = (f / (f.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for f in features[i::5])
        total += (weights.double() * (a - b) ** 2).sum(1).mean().item()
    return total


@pytest.fixture(scope="module")
def vgg():
    return plain_vgg()


@pytest.fixture(scope="module")
def vgg_state(vgg):
    state = {f"features.{name}": t.float() for name, t in vgg.state_dict().items()}
    # Files hold the classifier too.
    return state | {"classifier.0.weight": torch.zeros(2, 3)}


@pytest.fixture(scope="module")
def linear_state():
    generator = torch.Generator().manual_seed(7)
    return {
        f"lin{i}.model.1.weight": torch.rand((1, c, 1, 1), generator=generator)
        for i, c in enumerate((64, 128, 256, 512, 512))
    }


@pytest.fixture(scope="module")
def lpips(vgg_state, linear_state):
    return LPIPS(vgg_state, linear_state)


@pytest.fixture
def images():
    """Make images with structure, 0 to 1."""

    def make(*shape, seed=0):
        return torch.rand(shape, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture
def files(tmp_path, vgg_state, linear_state):
    """The files of a user, by their settings."""
    torch.save(vgg_state, tmp_path / "vgg16.pth")
    torch.save(linear_state, tmp_path / "lpips.pth")
    return {"vgg": tmp_path / "vgg16.pth", "linear": tmp_path / "lpips.pth"}


@pytest.mark.parametrize("shape", [(32, 32), (33, 45), (17, 16)])
def test_value_of_three_equal_colours(lpips, vgg, linear_state, images, shape):
    a, b = images(*shape), images(*shape, seed=1)
    expected = plain_distance(vgg, linear_state, a, b)
    assert lpips(a, b).item() == pytest.approx(expected, rel=1e-5)
    assert expected > 0.05


def test_identical_images_are_at_distance_0(lpips, images):
    a = images(3, 32, 32)
    assert lpips(a, a.clone()).tolist() == [0, 0, 0]


def test_distance_is_symmetric_and_grows_with_the_difference(lpips, images):
    a, noise = images(32, 32), images(32, 32, seed=1) - 0.5
    distances = [lpips(a, a + s * noise).item() for s in (0.01, 0.1, 0.5)]
    assert 0 < distances[0] < distances[1] < distances[2]
    assert lpips(a + noise, a).item() == pytest.approx(lpips(a, a + noise).item(), rel=1e-5)


def test_every_image_has_its_own_distance(lpips, images):
    a, b = images(2, 3, 32, 40), images(2, 3, 32, 40, seed=1)
    distances = lpips(a, b)
    assert distances.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert distances[i, j].item() == pytest.approx(lpips(a[i, j], b[i, j]).item(), rel=1e-5)


def test_gradient_is_that_of_finite_differences(vgg_state, linear_state, images):
    lpips = LPIPS(vgg_state, linear_state).double()
    a = images(2, 32, 32).double().requires_grad_()
    b = images(2, 32, 32, seed=1).double()
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * lpips(a, b)).sum(), a)
    step = 1e-6
    for seed in range(4):
        direction = images(2, 32, 32, seed=10 + seed).double() - 0.5
        with torch.no_grad():
            up, down = (weights @ lpips(a + s * direction, b) for s in (step, -step))
        slope = (gradient * direction).sum().item()
        assert slope == pytest.approx((up - down).item() / (2 * step), rel=1e-4)
        assert abs(slope) > 1e-4


def test_gradient_reaches_the_prediction_alone(lpips, images):
    a, b = (images(32, 32, seed=s).requires_grad_() for s in (0, 1))
    lpips(a, b).backward()
    assert a.grad.abs().min() >= 0
    assert a.grad.abs().max() > 0
    assert b.grad is None
    assert list(lpips.parameters())
    assert all(not p.requires_grad and p.grad is None for p in lpips.parameters())


@pytest.mark.parametrize("level", [0.0, 0.449, 0.7])
def test_gradient_is_finite_at_flat_and_identical_images(lpips, level):
    a = torch.full((32, 32), level, requires_grad=True)
    lpips(a, a.detach()).backward()
    assert a.grad.tolist() == torch.zeros(32, 32).tolist()


def test_gradient_is_finite_where_all_features_are_0(vgg_state, linear_state, images):
    state = vgg_state | {"features.28.bias": torch.full((512,), -1e6)}
    a = images(32, 32).requires_grad_()
    distance = LPIPS(state, linear_state)(a, images(32, 32, seed=1))
    distance.backward()
    assert distance.item() > 0
    assert a.grad.isfinite().all()
    assert a.grad.abs().max() > 0


def test_a_descent_along_the_gradient_reaches_the_target(lpips, images):
    target = images(32, 32)
    a = images(32, 32, seed=1).requires_grad_()
    optimiser = torch.optim.Adam([a], lr=0.03)
    start = lpips(a, target).item()
    for _ in range(15):
        optimiser.zero_grad()
        distance = lpips(a, target)
        distance.backward()
        optimiser.step()
    assert distance.item() < 0.5 * start


def test_half_precision_is_close(lpips, images):
    a, b = images(2, 64, 64).requires_grad_(), images(2, 64, 64, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        distances = lpips(a, b)
    assert distances.dtype == torch.float32
    assert torch.allclose(distances, lpips(a, b), rtol=0.02)
    distances.sum().backward()
    assert a.grad.isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True])
def test_cuda_is_close(vgg_state, linear_state, images, half):
    a, b = images(2, 64, 64).requires_grad_(), images(2, 64, 64, seed=1)
    lpips = LPIPS(vgg_state, linear_state)
    expected = lpips(a, b)
    (gradient,) = torch.autograd.grad(expected.sum(), a)
    c = a.detach().cuda().requires_grad_()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            distances = lpips.cuda()(c, b.cuda())
        distances.sum().backward()
    assert torch.allclose(distances.cpu(), expected, rtol=0.02 if half else 1e-3)
    similarity = torch.cosine_similarity(c.grad.cpu().flatten(), gradient.flatten(), dim=0)
    assert similarity > (0.95 if half else 0.999)


@pytest.mark.parametrize("shape", [(15, 32), (32, 15), (1, 3, 3)])
def test_images_that_are_too_small(lpips, images, shape):
    message = rf"16 x 16 pixels or more, not {shape[-2]} x {shape[-1]}.*perceptual\.weight: 0"
    with pytest.raises(UserError, match=message):
        lpips(images(*shape), images(*shape))


def test_images_of_different_shape(lpips, images):
    with pytest.raises(ValueError, match=r"\(32, 32\) and \(1, 32, 32\) differ"):
        lpips(images(32, 32), images(1, 32, 32))


@pytest.mark.parametrize("ending", [".pth", ".pt", ".safetensors"])
def test_weights_from_files(tmp_path, lpips, vgg_state, linear_state, files, images, ending):
    paths = [tmp_path / f"{name}{ending}" for name in ("trunk", "weights")]
    save = save_file if ending == ".safetensors" else torch.save
    for state, path in zip((vgg_state, linear_state), paths, strict=True):
        save({name: nn.Parameter(t.half()) for name, t in state.items()}, path)
    a, b = images(32, 32), images(32, 32, seed=1)
    loaded = load_lpips(*paths)
    for tensor in (*loaded.parameters(), *loaded.buffers()):
        assert tensor.dtype == torch.float32
        assert not tensor.requires_grad
    assert loaded(a, b).item() == pytest.approx(lpips(a, b).item(), rel=1e-2)
    assert load_lpips(**files)(a, b).item() == lpips(a, b).item()


def test_linear_weights_of_the_installed_package(tmp_path, monkeypatch, files, lpips, images):
    folder = tmp_path / "lpips" / "weights" / "v0.1"
    folder.mkdir(parents=True)
    files["linear"].rename(folder / "vgg.pth")
    (tmp_path / "lpips" / "__init__.py").write_text("raise RuntimeError('was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    a, b = images(32, 32), images(32, 32, seed=1)
    assert load_lpips(files["vgg"])(a, b).item() == lpips(a, b).item()


def test_vgg_from_the_hub(monkeypatch, tmp_path, vgg_state, files, lpips, images):
    save_file(vgg_state, tmp_path / "model.safetensors")

    def download(repository, name):
        assert repository == "timm/vgg16.tv_in1k"
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    a, b = images(32, 32), images(32, 32, seed=1)
    assert load_lpips(linear=files["linear"])(a, b).item() == lpips(a, b).item()


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(OSError("no route\nsome more"), r"\(no route\)"), (ValueError(), r"\(ValueError\)")],
)
def test_a_hub_out_of_reach(monkeypatch, files, failure, reason):
    def download(*_):
        raise failure

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError, match=reason) as caught:
        load_lpips(linear=files["linear"])
    message = str(caught.value)
    assert message.startswith("perceptual.vgg: ")
    assert "\n" not in message
    assert "model.safetensors" in message
    assert "vgg16-397923af.pth" in message
    assert message.endswith("train without the perceptual term: perceptual.weight: 0")


def test_no_linear_weights_is_said_before_anything_is_fetched(monkeypatch):
    def download(*_):
        pytest.fail("fetched half a gigabyte first")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for package in (None, importlib.machinery.ModuleSpec("lpips", None)):
        monkeypatch.setattr("importlib.util.find_spec", lambda _name, found=package: found)
        with pytest.raises(UserError) as caught:
            load_lpips()
        message = str(caught.value)
        assert message.startswith("perceptual.linear: ")
        assert "pip install --no-deps lpips" in message
        assert "weights/v0.1/vgg.pth" in message
        assert message.endswith("train without the perceptual term: perceptual.weight: 0")


def without(name):
    return lambda state: {key: t for key, t in state.items() if key != name}


def with_(name, tensor):
    return lambda state: state | {name: tensor}


@pytest.mark.parametrize(
    ("setting", "spoil", "reason"),
    [
        ("vgg", without("features.17.weight"), "not VGG-16 .*: 'features.17.weight' is missing"),
        ("vgg", with_("features.0.weight", torch.zeros(64, 1, 3, 3)), r"\(64, 1, 3, 3\), expected"),
        ("vgg", with_("features.5.bias", torch.full((128,), math.nan)), "features.5.bias' holds"),
        ("vgg", with_("features.5.bias", torch.zeros(128).long()), "'features.5.bias' holds"),
        ("vgg", with_("features.5.bias", [0.0] * 128), "'features.5.bias' is missing"),
        ("vgg", lambda state: [state], "'features.0.weight' is missing"),
        ("linear", without("lin3.model.1.weight"), "not .* LPIPS v0.1 .*'lin3.model.1.weight' is"),
        ("linear", with_("lin1.model.1.weight", torch.zeros(1, 64, 1, 1)), r"\(1, 128, 1, 1\)"),
        ("linear", with_("lin1.model.1.weight", torch.full((1, 128, 1, 1), -1.0)), "negative"),
    ],
)
def test_files_of_another_kind(files, vgg_state, linear_state, setting, spoil, reason):
    torch.save(spoil(vgg_state if setting == "vgg" else linear_state), files[setting])
    with pytest.raises(UserError, match=reason) as caught:
        load_lpips(**files)
    assert str(caught.value).startswith(f"perceptual.{setting}: {files[setting]}: ")


@pytest.mark.parametrize("setting", ["vgg", "linear"])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_missing_and_damaged_files(tmp_path, files, setting, ending):
    path = tmp_path / f"other{ending}"
    with pytest.raises(UserError, match=rf"perceptual\.{setting}: .*other.*: no such file"):
        load_lpips(**files | {setting: path})
    path.write_bytes(b"neither of them")
    with pytest.raises(UserError, match=rf"perceptual\.{setting}: .*other.*: not a .*damaged"):
        load_lpips(**files | {setting: path})
