"""Each backward rule alone, in float64, against torch.autograd on the same forward.

Tolerance 1e-12 of the largest value: both sides do the same few hundred float64 additions in another order.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.oracle import tiny
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from sum3dcam.contract import Tap
from sum3dcam.export.joint import explain_graph
from sum3dcam.export.vjp import RULES, scatter_to_maxima, spread_mean, transpose_weight
from sum3dcam.models import Classifier

TOLERANCE = 1e-12
CHANNELS = 4
aten = torch.ops.aten


class Probe(nn.Module):
    """clip -> tap -> `step` -> logits."""

    matrix: Tensor

    def __init__(self, step: Callable[["Probe", Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, CHANNELS, 1)
        self.wide = nn.Linear(CHANNELS, CHANNELS)
        self.head = nn.Linear(CHANNELS, tiny.NUM_CLASSES)
        self.register_buffer("matrix", torch.randn(4, 3))
        self.step = step

    def forward(self, clip_BCTHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        # Half of what the tap holds is zero, as behind any ReLU.
        tap = torch.relu(self.stem(clip_BCTHW))
        return self.step(self, tap), {"tap": tap}


# For each rule's operator, the steps from a tap to the logits that hold it.
STEPS: Mapping[Any, Mapping[str, Callable[[Probe, Tensor], Tensor]]] = {
    aten.relu.default: {"relu": lambda p, x: p.head(torch.relu(x).mean((2, 3, 4)))},
    aten.mean.dim: {
        "all axes": lambda p, x: p.head(x.mean((2, 3, 4))),
        "kept, then dropped": lambda p, x: p.head(x.mean((3, 4), keepdim=True).mean((2, 3, 4))),
        "negative axes": lambda p, x: p.head(x.mean((-1, -2, -3))),
        "in pieces": lambda p, x: p.head(x.mean(3).mean(3).mean(2)),
    },
    aten.linear.default: {"twice": lambda p, x: p.head(torch.relu(p.wide(x.mean((2, 3, 4)))))},
    aten.add.Tensor: {
        "two paths": lambda p, x: p.head((torch.relu(x * 2.0) + x).mean((2, 3, 4))),
        "itself": lambda p, x: p.head((x + x).mean((2, 3, 4))),
        "three readers": lambda p, x: p.head((x + torch.relu(x) + x * 3.0).mean((2, 3, 4))),
    },
    aten.mul.Tensor: {"constant": lambda p, x: p.head((x * -0.5).mean((2, 3, 4)))},
    aten.flatten.using_ints: {"to columns": lambda p, x: p.head(x.flatten(2).mean(2))},
    aten.view.default: {"to columns": lambda p, x: p.head(x.view(-1, CHANNELS, 2, 60).mean((2, 3)))},
    aten.reshape.default: {"to columns": lambda p, x: p.head(x.reshape(-1, CHANNELS, 120).mean(2))},
    aten.cat.default: {
        "branches": lambda p, x: p.head(torch.cat([torch.relu(x), x * 3.0], 1).view(-1, 2, CHANNELS, 120).mean((1, 3))),
        "of unlike sizes": lambda p, x: p.head(torch.cat([x, torch.relu(x).mean(3, keepdim=True)], -2).mean((2, 3, 4))),
    },
    aten.matmul.default: {"constant matrix": lambda p, x: p.head((x.mean((3, 4)) @ p.matrix).mean(2))},
}


class ConvProbe(nn.Module):
    """clip -> tap -> one convolution or pool of any kind -> relu -> logits."""

    def __init__(self, layer: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, CHANNELS, 1)
        self.layer = layer
        self.head = nn.Linear(out_channels, tiny.NUM_CLASSES)

    def forward(self, clip_BCTHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        tap = torch.relu(self.stem(clip_BCTHW))
        return self.head(torch.relu(self.layer(tap)).mean((2, 3, 4))), {"tap": tap}


def gradient_error(network: nn.Module, *, frames: int = 4, size: tuple[int, int] = (5, 6)) -> float:
    """Largest difference of d logit / d tap between the joint graph and autograd, over its largest value."""
    double = Classifier(network, mean=tiny.MEAN, std=tiny.STD).double().eval()
    rng = np.random.default_rng(3)
    clips = torch.from_numpy(rng.integers(0, 256, (3, frames, *size, 3)).astype(np.uint8))
    target = torch.tensor([-1, 0, tiny.NUM_CLASSES - 1])
    tap = Tap(name="tap", channels=CHANNELS, grid_thw=(frames, *size))
    graph = explain_graph(double, taps=(tap,), clip_BTHWC=clips[:2])
    with torch.no_grad():
        _, explained, _, (got,) = graph.joint(clips, target)
    logits, taps = double(clips)
    (wanted,) = torch.autograd.grad(logits.gather(1, explained[:, None]).sum(), [taps["tap"]])
    assert float(wanted.abs().max()) > 0
    return float((got - wanted).abs().max() / wanted.abs().max())


def _operators(network: nn.Module) -> set[Any]:
    double = Classifier(network, mean=tiny.MEAN, std=tiny.STD).double().eval()
    exported = torch.export.export(
        double, (torch.zeros(2, 4, 5, 6, 3, dtype=torch.uint8),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    return {node.target for node in exported.graph.nodes}


def _probe(step: Callable[[Probe, Tensor], Tensor]) -> Probe:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Probe(step)


@pytest.mark.parametrize(
    ("target", "step"),
    [pytest.param(kind, step, id=f"{kind}-{name}") for kind, steps in STEPS.items() for name, step in steps.items()],
)
def test_a_rule_alone_is_autograds(target: Any, step: Callable[[Probe, Tensor], Tensor]) -> None:
    assert target in _operators(_probe(step))  # else the probe would test another rule
    assert gradient_error(_probe(step)) <= TOLERANCE


def test_every_rule_has_a_probe() -> None:
    by_layers = {aten.conv3d.default}
    pools = {rule for rule in RULES if rule not in STEPS and rule not in by_layers}
    assert [str(rule) for rule in pools] == ["<built-in function getitem>"]


@pytest.mark.parametrize("seed", range(24))
def test_any_convolution_is_autograds(seed: int) -> None:
    """Kernels, strides, paddings, dilations, groups and biases at random, on sizes that strides do not divide."""
    rng = np.random.default_rng(seed)
    kernel = rng.integers(1, 4, 3)
    dilation = np.where(kernel > 1, rng.integers(1, 3, 3), 1)
    reach = dilation * (kernel - 1)
    stride = rng.integers(1, 4, 3) if seed % 2 else np.ones(3, int)
    padding = np.array([rng.integers(0, r + 1) for r in reach])
    groups = int(rng.choice((1, 2, 4)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Conv3d(
            CHANNELS,
            2 * groups,
            tuple(kernel.tolist()),
            stride=tuple(stride.tolist()),
            padding=tuple(padding.tolist()),
            dilation=tuple(dilation.tolist()),
            groups=groups,
            bias=bool(seed % 3),
        )
        network = ConvProbe(layer, 2 * groups)
    assert gradient_error(network, frames=7, size=(9, 10)) <= TOLERANCE, layer


@pytest.mark.parametrize(
    "pool",
    [nn.MaxPool3d(3, 2, 1), nn.MaxPool3d(2), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.MaxPool3d(3, 1, 1)],
    ids=str,
)
@pytest.mark.parametrize("bias", [0.0, -1.0, -50.0], ids=["some zeros", "many zeros", "all zeros"])
def test_a_max_pool_sends_its_gradient_where_torch_does_ties_included(pool: nn.MaxPool3d, bias: float) -> None:
    """Behind a ReLU most windows hold equal zeros: the gradient goes to the one that torch chose."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = ConvProbe(pool, CHANNELS)
        nn.init.constant_(network.stem.bias, bias)

    # Without the ReLU behind the pool, zeros carry gradients too.
    def forward(clip_BCTHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        tap = torch.relu(network.stem(clip_BCTHW))
        return network.head(pool(tap).mean((2, 3, 4))), {"tap": tap}

    network.forward = forward  # type: ignore[method-assign]
    assert gradient_error(network, frames=5, size=(7, 6)) <= TOLERANCE


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 3, 3), (1, 3, 2)])
def test_a_transposed_weight_makes_a_convolution_its_own_input_gradient(
    groups: int, kernel: tuple[int, int, int]
) -> None:
    generator = torch.Generator().manual_seed(groups)
    weight = torch.randn(8, 4 // groups, *kernel, dtype=torch.float64, generator=generator)
    gradient = torch.randn(2, 8, 5, 6, 7, dtype=torch.float64, generator=generator)
    sizes = [size + k - 1 for size, k in zip((5, 6, 7), kernel, strict=True)]
    wanted = torch.nn.grad.conv3d_input((2, 4, *sizes), weight, gradient, groups=groups)
    got = F.conv3d(gradient, transpose_weight(weight, groups), padding=[k - 1 for k in kernel], groups=groups)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_scattered_gradients_add_up_where_windows_overlap() -> None:
    values = torch.zeros(2, 3, 4, 5, 6, dtype=torch.float64)
    values[0, 0, 2, 2, 2] = 1.0
    values.requires_grad_()
    pooled, indices = F.max_pool3d_with_indices(values, 3, 2, 1)
    gradient = torch.randn(pooled.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (wanted,) = torch.autograd.grad(pooled, values, gradient)
    torch.testing.assert_close(
        scatter_to_maxima(gradient, indices, values.detach(), values.shape[2:]), wanted, rtol=0, atol=1e-13
    )


@pytest.mark.parametrize(("axes", "keepdim"), [((2, 3, 4), False), ((2, 3, 4), True), ((3, 4), False), ((1, 4), True)])
def test_a_means_gradient_spreads_evenly(axes: tuple[int, ...], keepdim: bool) -> None:
    values = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values.requires_grad_()
    mean = values.mean(axes, keepdim)
    gradient = torch.randn(mean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (wanted,) = torch.autograd.grad(mean, values, gradient)
    got = spread_mean(gradient, axes, keepdim, list(values.shape[1:]))
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-14)


def test_gradients_in_bfloat16_are_added_up_in_float32() -> None:
    """A GPU adds them in the dtype that it is given, in any order; the processor here in float32 whatever that is."""
    gradient, pooled = torch.ones(1, 1, 9, 1, 1).bfloat16(), torch.zeros(1, 1, 2, 1, 1).bfloat16()
    indices = torch.zeros(1, 1, 9, 1, 1, dtype=torch.int64)
    traced = make_fx(lambda *given: scatter_to_maxima(*given, [2, 1, 1]))(gradient, indices, pooled)
    (added,) = traced.graph.find_nodes(op="call_function", target=aten.scatter_add.default)
    assert {value.meta["val"].dtype for value in (added.args[0], added.args[3])} == {torch.float32}
    got = traced(gradient, indices, pooled)
    assert (got.dtype, got.flatten().tolist()) == (torch.bfloat16, [9, 0])
