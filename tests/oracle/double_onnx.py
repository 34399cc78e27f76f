"""An ONNX file in float64, run by onnx's own reference evaluator: what the file says, without rounding or runtime.

Convolution, pooling and padding come from torch (the reference's grouped ConvTranspose fails, its Conv is slow, its Pad
takes nothing away); every other operator is the reference's numpy.
"""

from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by name, of a copy of `model` in which every float is a double."""
    double = in_double(model)
    evaluator = ReferenceEvaluator(double, new_ops=[Conv, ConvTranspose, MaxPool, Pad])
    names = [output.name for output in double.graph.output]
    return dict(zip(names, evaluator.run(None, feeds), strict=True))


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(_double(tensor))
    for node in copy.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                attribute.t.CopyFrom(_double(attribute.t))
    for output in copy.graph.output:
        if output.type.tensor_type.elem_type == TensorProto.FLOAT:
            output.type.tensor_type.elem_type = TensorProto.DOUBLE
    return copy


def _double(tensor: TensorProto) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name)


def _half(pads: list[int]) -> list[int]:
    first, second = list(pads[:3]), list(pads[3:])
    if first != second:
        raise ValueError(f"uneven padding {pads}")
    return first


class Conv(OpRun):
    op_domain = ""

    def _run(self, x: Any, w: Any, b: Any = None, **kw: Any) -> tuple[np.ndarray]:
        bias = None if b is None else _tensor(b)
        out = F.conv3d(
            _tensor(x), _tensor(w), bias, list(kw["strides"]), _half(kw["pads"]), list(kw["dilations"]), kw["group"]
        )
        return (out.numpy(),)


class ConvTranspose(OpRun):
    op_domain = ""

    def _run(self, x: Any, w: Any, b: Any = None, **kw: Any) -> tuple[np.ndarray]:
        out = F.conv_transpose3d(
            _tensor(x),
            _tensor(w),
            None if b is None else _tensor(b),
            list(kw["strides"]),
            _half(kw["pads"]),
            list(kw["output_padding"]),
            kw["group"],
            list(kw["dilations"]),
        )
        return (out.numpy(),)


class MaxPool(OpRun):
    op_domain = ""

    def _run(self, x: Any, **kw: Any) -> tuple[np.ndarray, ...]:
        values = F.max_pool3d(
            _tensor(x),
            list(kw["kernel_shape"]),
            list(kw["strides"]),
            _half(kw["pads"]),
            list(kw["dilations"]),
            bool(kw["ceil_mode"]),
        )
        return (values.numpy(),)


class Pad(OpRun):
    op_domain = ""

    def _run(self, x: Any, pads: Any, value: Any, axes: Any, mode: str | None = None) -> tuple[np.ndarray]:
        rows = np.zeros((x.ndim, 2), dtype=np.int64)
        rows[axes] = np.reshape(pads, (2, -1)).T
        # torch counts axes from the last.
        return (F.pad(_tensor(x), rows[::-1].ravel().tolist(), mode=mode or "constant", value=value.item()).numpy(),)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array))  # a copy: the evaluator hands out read-only arrays
