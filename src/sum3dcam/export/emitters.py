"""One ONNX emitter per operator of the joint graph: (emission, *arguments of the call) -> name of the result."""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from onnx import TensorProto

from sum3dcam.attribution.grids import explained_class
from sum3dcam.contract import TOP_CLASS
from sum3dcam.export import vjp
from sum3dcam.export.emission import FIRST, LAST, Emission
from sum3dcam.export.joint import one_hot
from sum3dcam.export.pooling import max_pool3d, max_pool3d_in_passes, mean_places, scatter_to_maxima, sum_channels

aten = torch.ops.aten


def _binary(kind: str) -> Callable[..., str]:
    return lambda emit, a, b: emit.node(kind, a, b)


def _axes(axes: int | Iterable[int]) -> list[int]:
    return [axes] if isinstance(axes, int) else list(axes)


def _reduce(kind: str) -> Callable[..., str]:
    def emitter(emit: Emission, x: str, axes: int | Iterable[int], keepdim: bool = False) -> str:
        return str(emit.node(kind, x, _axes(axes), keepdims=int(keepdim)))

    return emitter


def _conv3d(
    emit: Emission,
    x: str,
    weight: str,
    bias: str | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
    groups: int = 1,
) -> Any:
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return emit.node(
        "Conv", *inputs, strides=list(stride), pads=[*padding, *padding], dilations=list(dilation), group=groups
    )


def _conv_transpose3d(
    emit: Emission,
    x: str,
    weight: str,
    bias: None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Any:
    return emit.node(
        "ConvTranspose",
        x,
        weight,
        strides=list(stride),
        pads=[*padding, *padding],
        output_padding=list(output_padding),
        dilations=list(dilation),
        group=groups,
    )


def _relu_backward(emit: Emission, gradient: str, rectified: str) -> Any:
    # ONNX Runtime's Where with a scalar takes five times as long as these three together.
    return emit.node("Mul", gradient, emit.node("Cast", emit.node("Greater", rectified, 0.0), to=TensorProto.FLOAT))


def _spread_mean(emit: Emission, gradient: str, axes: Sequence[int], keepdim: bool, sizes: Sequence[int]) -> Any:
    count = float(np.prod([sizes[axis - 1] for axis in axes]))
    if not keepdim:
        gradient = emit.node("Unsqueeze", gradient, list(axes))
    return emit.node("Expand", emit.node("Mul", gradient, 1 / count), [1, *sizes])


def _transpose_weight(emit: Emission, weight: str, groups: int) -> Any:
    (array,) = [tensor for tensor in emit.initializers if tensor.name == weight]
    out_channels, in_per_group, *kernel = array.dims
    grouped = emit.node("Reshape", weight, [groups, out_channels // groups, in_per_group, *kernel])
    swapped = emit.node("Transpose", grouped, perm=[0, 2, 1, 3, 4, 5])
    merged = emit.node("Reshape", swapped, [groups * in_per_group, out_channels // groups, *kernel])
    axes = [axis for axis in (2, 3, 4) if array.dims[axis] > 1]
    if not axes:
        return merged
    return emit.node("Slice", merged, [LAST] * len(axes), [FIRST] * len(axes), axes, [-1] * len(axes))


def _explained_class(emit: Emission, logits: str, target: str) -> Any:
    top = emit.node("ArgMax", logits, axis=1, keepdims=0)
    return emit.node("Where", emit.node("Equal", target, TOP_CLASS), top, target)


def _one_hot(emit: Emission, explained: str, classes: str, one: str) -> Any:
    chosen = emit.node("Equal", emit.node("Unsqueeze", explained, [1]), classes)
    return emit.node("Where", chosen, one, 0.0)


def _linear(emit: Emission, x: str, weight: str, bias: str | None = None) -> Any:
    return emit.node("Gemm", *((x, weight) if bias is None else (x, weight, bias)), transB=1)


def _unflatten(emit: Emission, x: str, axis: int, sizes: Sequence[int]) -> Any:
    return emit.node("Reshape", x, [*[0] * axis, *sizes])


def _flatten(emit: Emission, x: str, axis: int = 0) -> Any:
    return emit.node("Reshape", x, [*[0] * axis, -1])


def _where(emit: Emission, condition: str, chosen: Any, other: Any) -> Any:
    return emit.node("Where", condition, chosen, float(other) if not isinstance(other, str) else other)


def _to(emit: Emission, x: str, dtype: torch.dtype) -> Any:
    return emit.node("Cast", x, to={torch.float32: TensorProto.FLOAT}[dtype])


def _pad(emit: Emission, x: str, rows: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    # torch counts axes from the last, before and behind; ONNX from the first, all before, then all behind.
    before, behind = list(rows[0::2])[::-1], list(rows[1::2])[::-1]
    axes = list(range(-len(before), 0))
    return emit.node("Pad", x, [*before, *behind], float(value or 0), axes, mode=mode)


def _slice(emit: Emission, x: str, axis: int = 0, start: int | None = None, end: int | None = None) -> Any:
    return emit.node("Slice", x, [start or 0], [LAST if end is None else end], [axis])


# Functions that stay whole when the graph's modules are traced: each has an emitter of its own.
NAMED_FUNCTIONS = (
    explained_class,
    one_hot,
    vjp.transpose_weight,
    vjp.scatter_to_maxima,
    vjp.relu_backward,
    vjp.spread_mean,
)

EMITTERS: Mapping[Any, Callable[..., Any]] = {
    aten.permute.default: lambda emit, x, axes: emit.node("Transpose", x, perm=list(axes)),
    aten.to.dtype: _to,
    aten.sub.Tensor: _binary("Sub"),
    aten.add.Tensor: _binary("Add"),
    aten.mul.Tensor: _binary("Mul"),
    aten.relu.default: lambda emit, x: emit.node("Relu", x),
    aten.conv3d.default: _conv3d,
    aten.conv_transpose3d.input: _conv_transpose3d,
    aten.max_pool3d.default: max_pool3d,
    aten.max_pool3d_with_indices.default: max_pool3d_in_passes,
    aten.mean.dim: _reduce("ReduceMean"),
    aten.linear.default: _linear,
    aten.matmul.default: _binary("MatMul"),
    aten.cat.default: lambda emit, parts, axis=0: emit.node("Concat", *parts, axis=axis),
    aten.slice.Tensor: _slice,
    aten.pad.default: _pad,
    aten.t.default: lambda emit, x: emit.node("Transpose", x, perm=[1, 0]),
    aten.flatten.using_ints: _flatten,
    aten.reshape.default: lambda emit, x, shape: emit.node("Reshape", x, list(shape)),
    aten.view.default: lambda emit, x, shape: emit.node("Reshape", x, list(shape)),
    vjp.transpose_weight: _transpose_weight,
    vjp.scatter_to_maxima: scatter_to_maxima,
    vjp.relu_backward: _relu_backward,
    vjp.spread_mean: _spread_mean,
    explained_class: _explained_class,
    one_hot: _one_hot,
    # The grids and the saliency, written with torch's own functions and methods.
    operator.getitem: lambda emit, values, index: values[index],
    operator.add: _binary("Add"),
    operator.mul: _binary("Mul"),
    operator.truediv: _binary("Div"),
    operator.gt: _binary("Greater"),
    torch.relu: lambda emit, x: emit.node("Relu", x),
    torch.matmul: _binary("MatMul"),
    torch.where: _where,
    "sum": sum_channels,
    "mean": mean_places,
    "amax": _reduce("ReduceMax"),
    "flatten": _flatten,
    "unflatten": _unflatten,
}
