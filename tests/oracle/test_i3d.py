"""The I3D oracle against what is known of the network, hand-computed cases and finite differences."""

import math
import zipfile

import numpy as np
import pytest
import torch
from tests.oracle import i3d, plain
from torch import Tensor

SEED = 5


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return i3d.random_state(num_classes=6, seed=SEED)


@pytest.fixture(scope="module")
def double(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() for name, value in state.items()}


def clip(num_frames: int, size_px: int, *, num_clips: int = 1, num_channels: int = 3) -> np.ndarray:
    clips = plain.random_clips(num_clips, size_px=size_px, num_frames=num_frames, seed=SEED)
    return np.ascontiguousarray(clips[..., :num_channels])


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_parameters_and_keys(stream: str) -> None:
    table = i3d.shapes(num_classes=400, num_channels=i3d.NUM_CHANNELS[stream])
    parameters = [shape for name, shape in table.items() if ".running_" not in name]
    assert sum(map(math.prod, parameters)) == i3d.NUM_PARAMETERS_AT_400[stream]
    assert len(table) == 57 * 5 + 2
    assert table["Mixed_5b.b2b.conv3d.weight"] == (128, 32, 3, 3, 3)


@pytest.mark.parametrize(("num_frames", "steps"), [(64, (32, 32, 16, 8)), (16, (8, 8, 4, 2))])
def test_grids_at_224(num_frames: int, steps: tuple[int, ...]) -> None:
    table = i3d.shapes(num_classes=400, num_channels=3)
    meta = {name: torch.empty(shape, device="meta") for name, shape in table.items()}
    taps, logits_BK = i3d.forward(meta, torch.empty(1, num_frames, 224, 224, 3, device="meta"))
    expected = {
        tap: (1, channels, t, height, width)
        for (tap, (channels, _, height, width)), t in zip(i3d.GRIDS_AT_64_224.items(), steps, strict=True)
    }
    assert {tap: tuple(value.shape) for tap, value in taps.items()} == expected
    assert tuple(logits_BK.shape) == (1, 400)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (224, 7, 2, (2, 3)),
        (225, 7, 2, (3, 3)),
        (5, 7, 2, (3, 3)),
        (1, 7, 2, (3, 3)),
        (112, 3, 2, (0, 1)),
        (7, 3, 2, (1, 1)),
        (8, 3, 1, (1, 1)),
        (7, 2, 2, (0, 1)),
        (8, 2, 2, (0, 0)),
        (8, 1, 2, (0, 0)),
    ],
)
def test_same_padding(size: int, kernel: int, stride: int, expected: tuple[int, int]) -> None:
    assert i3d.same_padding(size, kernel=kernel, stride=stride) == expected


def test_convolution_pads_with_zeros_and_more_at_the_end() -> None:
    line = torch.tensor([1.0, 2.0, 3.0, 4.0])
    weight = torch.tensor([100.0, 10.0, 1.0])
    shape = {2: (1, 1, 4, 1, 1), 3: (1, 1, 1, 4, 1), 4: (1, 1, 1, 1, 4)}
    for axis in (2, 3, 4):
        kernel = [3 if other == axis else 1 for other in (2, 3, 4)]
        even = i3d.conv_same(line.reshape(shape[axis]), weight.reshape(1, 1, *kernel), stride=2)
        assert even.flatten().tolist() == [123.0, 340.0]  # pads (0,1)
        odd = i3d.conv_same(line.reshape(shape[axis]).narrow(axis, 0, 3), weight.reshape(1, 1, *kernel), stride=2)
        assert odd.flatten().tolist() == [12.0, 230.0]  # pads (1,1)


def test_padding_never_wins_a_maximum_nor_a_gradient() -> None:
    line = torch.tensor([-5.0, -2.0, -3.0, -4.0]).reshape(1, 1, 1, 1, 4)
    assert i3d.max_pool_same(line, (1, 3, 3), (1, 2, 2)).flatten().tolist() == [-2.0, -3.0]
    assert i3d.max_pool_same(line[..., :3], (2, 2, 2), (2, 2, 2)).flatten().tolist() == [-2.0, -3.0]
    silent = torch.zeros(1, 1, 2, 4, 4, requires_grad=True)
    pooled = i3d.max_pool_same(silent, (3, 3, 3), (1, 1, 1))
    (gradient,) = torch.autograd.grad(pooled.sum(), silent)
    assert gradient.sum() == pooled.numel()


def test_input_and_batch_norm_by_hand() -> None:
    clip_BTHWC = torch.tensor([0.0, 51.0, 255.0]).expand(1, 4, 5, 6, 3)
    assert tuple(i3d.normalised(clip_BTHWC).shape) == (1, 3, 4, 5, 6)
    assert i3d.normalised(clip_BTHWC)[0, :, 0, 0, 0].tolist() == pytest.approx([-1, -0.6, 1])
    norm = {"weight": 2.0, "bias": 0.5, "running_mean": 1.0, "running_var": 0.003}
    state = {"u.conv3d.weight": torch.ones(1, 1, 1, 1, 1), **{f"u.bn.{k}": torch.tensor([v]) for k, v in norm.items()}}
    values = torch.tensor([0.0, 3.0]).reshape(1, 1, 1, 1, 2)
    out = i3d._unit(values, state, "u", stride=1, statistics=None)
    assert out.flatten().tolist() == pytest.approx([0, 2 * (3 - 1) / 0.004**0.5 + 0.5])


@pytest.mark.parametrize(("steps", "weights"), [(1, [1.0]), (2, [0.5, 0.5]), (4, [1 / 6, 1 / 3, 1 / 3, 1 / 6])])
def test_head_averages_two_steps_then_time(steps: int, weights: list[float]) -> None:
    mixed_5c = torch.rand(1, 3, steps, 2, 5, dtype=torch.float64)
    state = {"logits.conv3d.weight": torch.rand(4, 3, 1, 1, 1).double(), "logits.conv3d.bias": torch.rand(4).double()}
    pooled = (mixed_5c.mean((3, 4)) * torch.tensor(weights, dtype=torch.float64)).sum(2)
    expected = pooled @ state["logits.conv3d.weight"].flatten(1).T + state["logits.conv3d.bias"]
    torch.testing.assert_close(i3d.head(mixed_5c, state), expected)


@pytest.mark.parametrize("tap", i3d.TAPS)
def test_gradient_against_finite_differences(double: dict[str, Tensor], tap: str) -> None:
    # A smaller clip has 2x2x2 at layer2, where every 3x3x3 pool answers the same everywhere: exact ties, no derivative.
    taps, logits_BK = i3d.forward(double, torch.from_numpy(clip(16, 48)).double())
    (gradient,) = torch.autograd.grad(logits_BK[0, 2], taps[tap])
    activation = taps[tap].detach()
    # Where the tap is silent, ties of the pools above have no derivative either.
    direction = torch.randn(activation.shape, generator=torch.Generator().manual_seed(SEED)) * (activation > 0)
    step = 1e-7 * direction.double()
    with torch.no_grad():
        above, below = (i3d.logits_behind(tap, a, double)[0, 2] for a in (activation + step, activation - step))
    assert (above - below).item() / 2e-7 == pytest.approx((gradient * direction).sum().item(), rel=1e-6)


def test_gradient_of_the_last_tap_by_hand(double: dict[str, Tensor]) -> None:
    """Three steps at Mixed_5c: the middle one is in both windows of the head."""
    found = i3d.explain(double, clip(24, 32), target_B=np.array([4]))
    share = double["logits.conv3d.weight"][4].sum().item()
    np.testing.assert_allclose(found.grids["gradient_layer3"].ravel(), [share / 4, share / 2, share / 4])


def test_every_output_of_an_explanation(double: dict[str, Tensor]) -> None:
    clip_BTHWC = clip(8, 32, num_clips=2)
    both = i3d.explain(double, clip_BTHWC, target_B=np.array([-1, 3]))
    assert both.explained_B.tolist() == [both.logits_BK[0].argmax(), 3]
    assert both.saliency_BTHW.shape == (2, 8, 32, 32)
    assert both.grids["gradient_layer3"].shape == (2, 1, 1, 1)
    assert all(grid.size > 0 and np.isfinite(grid).all() for grid in both.grids.values())
    alone = i3d.explain(double, clip_BTHWC[1:], target_B=np.array([3]))
    np.testing.assert_allclose(both.saliency_BTHW[1:], alone.saliency_BTHW, atol=1e-9)
    fewer = i3d.explain(double, clip_BTHWC, target_B=np.array([-1, 3]), taps=("layer1",))
    assert set(fewer.tap_shapes) == {"layer1"}
    np.testing.assert_allclose(fewer.grids["hirescam_layer1"], both.grids["hirescam_layer1"], atol=1e-12)


def test_streams_share_the_class_of_their_summed_logits(state: dict[str, Tensor]) -> None:
    stem, head = "Conv3d_1a_7x7.conv3d.weight", "logits.conv3d.weight"
    states = (state, {**state, stem: state[stem][:, :2], head: state[head].flip(0)})
    clips = (clip(8, 32), clip(8, 32, num_channels=2))
    rgb, flow = i3d.explain_two_streams(states, clips, target_B=np.array([-1]))
    alone = [i3d.explain(s, c, target_B=rgb.explained_B) for s, c in zip(states, clips, strict=True)]
    total = alone[0].logits_BK + alone[1].logits_BK
    np.testing.assert_array_equal(rgb.logits_BK, total)
    assert rgb.explained_B == flow.explained_B == total.argmax()
    for stream, single in zip((rgb, flow), alone, strict=True):
        np.testing.assert_allclose(stream.saliency_BTHW, single.saliency_BTHW, atol=1e-6)


def test_activations_stay_of_order_one_at_another_size(state: dict[str, Tensor]) -> None:
    flow = i3d.random_state(num_classes=6, num_channels=2, seed=SEED)
    for num_channels, weights in ((3, state), (2, flow)):
        taps, logits_BK = i3d.forward(weights, torch.from_numpy(clip(16, 64, num_channels=num_channels)).float())
        assert all(0.3 < value.std() < 3 for value in taps.values())
        assert 0.1 < logits_BK.std() < 10


def test_shapes_of_a_random_state(state: dict[str, Tensor]) -> None:
    assert {name: tuple(value.shape) for name, value in state.items()} == i3d.shapes(num_classes=6, num_channels=3)
    assert all(value.dtype == torch.float32 for value in state.values())


def test_names_of_layout_b() -> None:
    names = [i3d.name_in_b(name) for name in i3d.shapes(num_classes=400, num_channels=3)]
    assert len(set(names)) == len(names)
    assert {name.split(".", 1)[1] for name in names if name.startswith("conv3d_1a_7x7.")} == {
        "conv3d.weight",
        *(f"batch3d.{part}" for part in ("weight", "bias", "running_mean", "running_var")),
    }
    branches = ("branch_0", "branch_1.0", "branch_1.1", "branch_2.0", "branch_2.1", "branch_3.1")
    kernels = {name for name in names if name.startswith("mixed_4f.") and name.endswith("conv3d.weight")}
    assert kernels == {f"mixed_4f.{branch}.conv3d.weight" for branch in branches}
    assert {"conv3d_0c_1x1.conv3d.weight", "conv3d_0c_1x1.conv3d.bias", "conv3d_2c_3x3.batch3d.bias"} <= set(names)


@pytest.mark.parametrize("layout", ["a", "b"])
@pytest.mark.parametrize(
    ("tracked", "prefix", "wrapped", "legacy"),
    [
        (False, "", False, False),
        (True, "", False, False),
        (False, "", False, True),
        (True, "module.", True, False),
        (False, "module.", True, True),
    ],
)
def test_every_file_reads_back(tmp_path, layout, tracked, prefix, wrapped, legacy) -> None:
    names = i3d.shapes(num_classes=400, num_channels=3)
    state = {name: torch.tensor([float(index)]) for index, name in enumerate(names)}
    path = tmp_path / "i3d.pt"
    i3d.write_checkpoint(path, state, layout=layout, tracked=tracked, prefix=prefix, wrapped=wrapped, legacy=legacy)
    content = torch.load(path, weights_only=True)
    keys = list(content["state_dict"] if wrapped else content)
    assert zipfile.is_zipfile(path) is not legacy
    assert len(keys) == 287 + 57 * tracked
    assert all(key.startswith(prefix) for key in keys)
    norm = prefix + ("Mixed_3b.b1b.bn" if layout == "a" else "mixed_3b.branch_1.1.batch3d")
    parts = ["weight", "bias", "running_mean", "running_var", *(["num_batches_tracked"] if tracked else [])]
    assert [key for key in keys if key.startswith(norm)] == [f"{norm}.{part}" for part in parts]
    back = i3d.load(path, dtype=torch.float64)
    assert {name: value.item() for name, value in back.items()} == {n: v.item() for n, v in state.items()}
