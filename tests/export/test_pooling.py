"""Max pooling and its backward as ONNX operators, against torch's own."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from sum3dcam.errors import ArtifactError
from sum3dcam.export.emission import Emission
from sum3dcam.export.pooling import max_pool3d_in_passes, mean_places, scatter_to_maxima, sum_channels

# Kernel, stride, padding, ceil_mode: of the two networks, and odder ones.
POOLS = [
    ((3, 3, 3), (2, 2, 2), (1, 1, 1), False),
    ((1, 3, 3), (1, 2, 2), (0, 1, 1), False),
    ((3, 3, 3), (1, 1, 1), (1, 1, 1), False),
    ((2, 2, 2), (2, 2, 2), (0, 0, 0), True),
    ((1, 3, 3), (1, 2, 2), (0, 0, 0), True),
    ((2, 3, 1), (2, 3, 1), (0, 0, 0), False),
    ((4, 5, 3), (2, 3, 3), (2, 0, 1), True),
]
SIZES = [(6, 8, 9), (5, 7, 10)]


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_maxima_gradient_its_channel_sum_and_means_are_torchs_ties_included(
    pool: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], bool], sizes: tuple[int, ...]
) -> None:
    """Small integers: most windows tie, and sums are exact in any order."""
    kernel, stride, padding, ceil_mode = pool
    rng = np.random.default_rng(1)
    x = rng.integers(-2, 3, (2, 3, *sizes)).astype(np.float32)
    leaf = torch.from_numpy(x).requires_grad_()
    wanted = F.max_pool3d(leaf, kernel, stride, padding, ceil_mode=ceil_mode)
    gradient = rng.integers(-9, 10, wanted.shape).astype(np.float32)
    (wanted_back,) = torch.autograd.grad(wanted, leaf, torch.from_numpy(gradient))

    values, back, total, mean = run(x, gradient, kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)

    np.testing.assert_array_equal(values, wanted.detach().numpy())
    np.testing.assert_array_equal(back, wanted_back.numpy())
    np.testing.assert_array_equal(total, wanted_back.sum(1).numpy())
    np.testing.assert_allclose(mean, wanted_back.double().mean((2, 3, 4), keepdim=True), rtol=1e-6)


@pytest.mark.parametrize(
    "window", [{"stride": (2, 2, 2), "kernel": (1, 2, 2)}, {"dilation": (1, 2, 1)}], ids=["between", "within"]
)
def test_windows_with_gaps_are_refused(window: dict[str, Sequence[int]]) -> None:
    given = {"kernel": (2, 2, 2), "stride": (1, 1, 1), **window}
    with pytest.raises(ArtifactError, match="gaps"):
        max_pool3d_in_passes(Emission(), "x", **given)


def run(
    x: np.ndarray,
    gradient: np.ndarray,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
) -> list[np.ndarray]:
    emit = Emission()
    values, passes = max_pool3d_in_passes(emit, "x", kernel, stride, padding, ceil_mode=ceil_mode)
    back = scatter_to_maxima(emit, "gradient", passes, "x", x.shape[2:])
    results = (values, back, sum_channels(emit, back, 1), mean_places(emit, back, (2, 3, 4), True))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in (("x", x), ("gradient", gradient))
    ]
    shapes = (None, x.shape, (len(x), *x.shape[2:]), (*x.shape[:2], 1, 1, 1))
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape or [None] * x.ndim)
        for name, shape in zip(results, shapes, strict=True)
    ]
    graph = helper.make_graph(emit.nodes, "pool", inputs, outputs, emit.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found: list[np.ndarray] = session.run(list(results), {"x": x, "gradient": gradient})
    return found
