"""One ONNX emitter per operator of the joint graph: (emission, *arguments of the call) -> name of the result."""

import hashlib
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from sum3dcam.attribution.grids import explained_class
from sum3dcam.contract import TOP_CLASS
from sum3dcam.errors import ArtifactError
from sum3dcam.export import vjp
from sum3dcam.export.joint import one_hot

LAST = int(np.iinfo(np.int64).max)
FIRST = int(np.iinfo(np.int64).min)

aten = torch.ops.aten


class Emission:
    """The nodes and initialisers of the ONNX graph written so far; every name is made here."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._names: dict[str, str] = {}
        self._contents: dict[tuple[Any, ...], str] = {}

    def node(self, kind: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Appends a node; gives its output's name, or the tuple of them."""
        number = len(self.nodes)
        names = [f"{kind}_{number}"] if outputs == 1 else [f"{kind}_{number}_{index}" for index in range(outputs)]
        arguments = ["" if value is None else self.value(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, arguments, names, name=f"{kind}_{number}", **attributes))
        return names[0] if outputs == 1 else tuple(names)

    def value(self, value: Any) -> str:
        """The name of a tensor that is one already, or of a new constant: a float is float32, an int int64."""
        if isinstance(value, str):
            return value
        dtype = np.float32 if isinstance(value, float) else np.int64
        return self.weight(f"constant_{len(self._names)}", np.asarray(value, dtype))

    def weight(self, name: str, array: np.ndarray[Any, Any]) -> str:
        """The name under which `array` is stored: once, however often and under whatever names it is read."""
        if name not in self._names:
            content = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
            if content not in self._contents:
                self._contents[content] = name
                self.initializers.append(numpy_helper.from_array(array, name))
            self._names[name] = self._contents[content]
        return self._names[name]


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


def _max_pool3d(
    emit: Emission,
    x: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
    ceil_mode: bool = False,
    *,
    outputs: int = 2,
) -> Any:
    # ONNX counts the indices over the whole tensor, batch included; scatter_to_maxima below uses them as such.
    return emit.node(
        "MaxPool",
        x,
        outputs=outputs,
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=[*padding, *padding],
        dilations=list(dilation),
        ceil_mode=int(ceil_mode),
    )


def _scatter_to_maxima(emit: Emission, gradient: str, indices: str, pooled_from: str) -> Any:
    shape = emit.node("Shape", pooled_from)
    count = emit.node("ReduceProd", shape, keepdims=1)
    zeros = emit.node("ConstantOfShape", count, value=numpy_helper.from_array(np.zeros(1, np.float32)))
    flat_indices, flat_gradient = (emit.node("Reshape", value, [-1]) for value in (indices, gradient))
    summed = emit.node("ScatterElements", zeros, flat_indices, flat_gradient, axis=0, reduction="add")
    return emit.node("Reshape", summed, shape)


def _relu_backward(emit: Emission, gradient: str, rectified: str) -> Any:
    # ONNX Runtime's Where with a scalar takes five times as long as these three together.
    return emit.node("Mul", gradient, emit.node("Cast", emit.node("Greater", rectified, 0.0), to=TensorProto.FLOAT))


def _channel_sum(emit: Emission, x: str, axis: int) -> Any:
    """The sum over axis 1 of (B,c,t,h,w), as a product with ones: ReduceSum takes up to eighteen times as long."""
    if axis != 1:
        raise ArtifactError("only channels are summed in the graph", got=f"axis {axis}", allowed="axis 1")
    ones = emit.node("ConstantOfShape", _sizes(emit, x, 1, 2), value=numpy_helper.from_array(np.ones(1, np.float32)))
    summed = emit.node("MatMul", ones, emit.node("Reshape", x, [0, 0, -1]))
    return emit.node("Reshape", summed, emit.node("Concat", _sizes(emit, x, 0, 1), _sizes(emit, x, 2, 5), axis=0))


def _sizes(emit: Emission, x: str, start: int, end: int) -> Any:
    return emit.node("Shape", x, start=start, end=end)


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
    aten.max_pool3d.default: lambda emit, *args: _max_pool3d(emit, *args, outputs=1),
    aten.max_pool3d_with_indices.default: _max_pool3d,
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
    vjp.scatter_to_maxima: _scatter_to_maxima,
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
    "sum": _channel_sum,
    "mean": _reduce("ReduceMean"),
    "amax": _reduce("ReduceMax"),
    "flatten": _flatten,
    "unflatten": _unflatten,
}
