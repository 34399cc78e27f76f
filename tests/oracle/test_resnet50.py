"""The ResNet-50 oracle against what is known of the network and finite differences."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.oracle import plain, resnet50
from torch import Tensor

SEED = 7


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return resnet50.random_state(num_classes=6, seed=SEED)


@pytest.fixture(scope="module")
def double(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() for name, value in state.items()}


def images(size_px: int, *, num_images: int = 1) -> np.ndarray:
    return plain.random_clips(num_images, size_px=size_px, num_frames=1, seed=SEED)


def test_parameters_and_keys() -> None:
    table = resnet50.shapes(num_classes=1000)
    parameters = [shape for name, shape in table.items() if ".running_" not in name]
    assert sum(map(math.prod, parameters)) == resnet50.NUM_PARAMETERS_AT_1000
    assert len(table) == 53 * 5 + 2
    assert table["layer4.0.conv2.weight"] == (512, 512, 3, 3)
    assert table["layer4.0.downsample.0.weight"] == (2048, 1024, 1, 1)


def test_grids_at_224() -> None:
    table = resnet50.shapes(num_classes=1000)
    meta = {name: torch.empty(shape, device="meta") for name, shape in table.items()}
    taps, logits_BK = resnet50.forward(meta, torch.empty(1, 1, 224, 224, 3, device="meta"))
    assert {tap: tuple(value.shape[1:]) for tap, value in taps.items()} == resnet50.GRIDS_AT_224
    assert tuple(logits_BK.shape) == (1, 1000)


def test_input_by_hand() -> None:
    white, black = torch.full((1, 1, 1, 1, 3), 255.0), torch.zeros(1, 1, 1, 1, 3)
    assert resnet50.normalised(white).flatten().tolist() == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-4)
    assert resnet50.normalised(black).flatten().tolist() == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-4)
    with pytest.raises(ValueError, match="16 frames"):
        resnet50.normalised(torch.zeros(1, 16, 8, 8, 3))


def test_the_3x3_carries_the_stride(double: dict[str, Tensor]) -> None:
    """A pixel the strided 1x1 of v1 would never read reaches layer2 here."""
    x = torch.rand(1, 256, 8, 8, dtype=torch.float64, requires_grad=True)
    out = resnet50._stage(x, double, "layer2")
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert tuple(out.shape) == (1, 512, 4, 4)
    assert gradient[0, :, 1, 1].abs().max() > 0


@pytest.mark.parametrize("tap", resnet50.TAPS)
def test_gradient_against_finite_differences(double: dict[str, Tensor], tap: str) -> None:
    taps, logits_BK = resnet50.forward(double, torch.from_numpy(images(48)).double())
    (gradient,) = torch.autograd.grad(logits_BK[0, 2], taps[tap])
    activation = taps[tap].detach()
    # Where the tap is silent, ties of the pool above have no derivative.
    direction = torch.randn(activation.shape, generator=torch.Generator().manual_seed(SEED)) * (activation > 0)
    step = 1e-7 * direction.double()
    with torch.no_grad():
        above, below = (resnet50.logits_behind(tap, a, double)[0, 2] for a in (activation + step, activation - step))
    assert (above - below).item() / 2e-7 == pytest.approx((gradient * direction).sum().item(), rel=1e-6)


def test_gradient_of_the_last_stage_is_the_class_weights(double: dict[str, Tensor]) -> None:
    found = resnet50.explain(double, images(64), target_B=np.array([4]))
    expected = np.full((1, 1, 2, 2), double["fc.weight"][4].sum().item() / 4)
    np.testing.assert_allclose(found.grids["gradient_layer4"], expected)


def test_every_output_of_an_explanation(double: dict[str, Tensor]) -> None:
    clip_BTHWC = images(48, num_images=2)
    both = resnet50.explain(double, clip_BTHWC, target_B=np.array([-1, 3]))
    assert both.explained_B.tolist() == [both.logits_BK[0].argmax(), 3]
    assert both.saliency_BTHW.shape == (2, 1, 48, 48)
    assert both.grids["gradcam_layer1"].shape == (2, 1, 12, 12)
    assert len(both.grids) == 5 * len(resnet50.TAPS)
    alone = resnet50.explain(double, clip_BTHWC[1:], target_B=np.array([3]), taps=("layer2", "layer3", "layer4"))
    assert set(alone.tap_shapes) == {"layer2", "layer3", "layer4"}
    np.testing.assert_allclose(both.grids["layercam_layer2"][1:], alone.grids["layercam_layer2"], atol=1e-12)


def test_trilinear_of_one_frame_is_bilinear() -> None:
    grid = torch.rand(2, 1, 7, 5, dtype=torch.float64)
    bilinear = F.interpolate(grid, size=(30, 41), mode="bilinear", align_corners=False)
    torch.testing.assert_close(plain.up(grid, (1, 30, 41)), bilinear)


def test_activations_stay_of_order_one_at_another_size(state: dict[str, Tensor]) -> None:
    taps, logits_BK = resnet50.forward(state, torch.from_numpy(images(112)).float())
    assert all(0.3 < value.std() < 3 for value in taps.values())
    assert 0.1 < logits_BK.std() < 10


@pytest.mark.parametrize("tracked", [True, False])
def test_file_reads_back(tmp_path, tracked) -> None:
    names = resnet50.shapes(num_classes=1000)
    state = {name: torch.tensor([float(index)]) for index, name in enumerate(names)}
    path = tmp_path / "resnet50.pth"
    resnet50.write_checkpoint(path, state, tracked=tracked)
    keys = list(torch.load(path, weights_only=True))
    assert len(keys) == 267 + 53 * tracked
    assert keys[:2] + keys[-2:] == ["conv1.weight", "bn1.weight", "fc.weight", "fc.bias"]
    assert ("layer1.0.downsample.1.num_batches_tracked" in keys) is tracked
    back = resnet50.load(path, dtype=torch.float64)
    assert {name: value.item() for name, value in back.items()} == {n: v.item() for n, v in state.items()}
