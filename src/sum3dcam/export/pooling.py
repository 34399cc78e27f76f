"""Max pooling and its backward as ONNX operators, without the indices that ONNX's MaxPool can give.

OpenVINO computes those in a plain loop that takes longer than the rest of the network; compared with maxima, pooled one
axis after the other, they are not needed, and ONNX Runtime is as fast either way.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import TensorProto

from sum3dcam.errors import ArtifactError
from sum3dcam.export.emission import LAST, Emission, Woven

_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Pass:
    """A pooling of (B,c,t,h,w) along one axis: the names of what went in and of what came out, and the window."""

    before: str
    after: str
    axis: int
    kernel: int
    stride: int
    padding: int
    ceil_mode: bool

    def num_windows(self, size: int) -> int:
        """How many windows there are along `size` places, as torch counts: the last begins inside x or its padding."""
        room = size + 2 * self.padding - self.kernel
        count = (-(-room // self.stride) if self.ceil_mode else room // self.stride) + 1
        return count - int(self.ceil_mode and (count - 1) * self.stride >= size + self.padding)


def max_pool3d(
    emit: Emission,
    x: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
    ceil_mode: bool = False,
) -> Any:
    """Maxima of windows; padding never wins."""
    return emit.node(
        "MaxPool",
        x,
        kernel_shape=list(kernel),
        strides=list(stride),
        pads=[*padding, *padding],
        dilations=list(dilation),
        ceil_mode=int(ceil_mode),
    )


def max_pool3d_in_passes(
    emit: Emission,
    x: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
    ceil_mode: bool = False,
) -> tuple[str, list[Pass]]:
    """The same maxima, and the passes over W, H and T that made them.

    Raises:
        ArtifactError: windows with gaps in or between them.
    """
    if any(step != 1 for step in dilation) or any(s > k for k, s in zip(kernel, stride, strict=True)):
        raise ArtifactError(
            "the backward of a max pooling with gaps has no emitter",
            got={"kernel": list(kernel), "stride": list(stride), "dilation": list(dilation)},
            allowed="dilation 1, stride up to the kernel",
        )
    passes: list[Pass] = []
    for at in (2, 1, 0):
        if kernel[at] == 1:
            continue
        along = [
            [value if axis == at else rest for axis in range(3)]
            for value, rest in ((kernel[at], 1), (stride[at], 1), (padding[at], 0))
        ]
        after = max_pool3d(emit, x, along[0], along[1], along[2], ceil_mode=ceil_mode)
        passes.append(Pass(x, after, 2 + at, kernel[at], stride[at], padding[at], ceil_mode))
        x = after
    return x, passes


def scatter_to_maxima(emit: Emission, gradient: str, passes: Sequence[Pass], x: str, sizes: Sequence[int]) -> str:
    """Each window's gradient to its maximum; of equal ones to the first in the order of T, H, W, as torch does.

    Args:
        sizes: (t,h,w) of `x`, from which the passes began.
    """
    sizes_before = []
    for taken in passes:
        sizes_before.append(tuple(sizes))
        sizes = [taken.num_windows(size) if at == taken.axis - 2 else size for at, size in enumerate(sizes)]
    for taken, before in zip(reversed(passes), reversed(sizes_before), strict=True):
        gradient = _back_through(emit, gradient, taken, sizes=before)
    return gradient


def sum_channels(emit: Emission, x: str, axis: int) -> str:
    """The sum over axis 1 of (B,c,t,h,w); of what was woven, the phases are summed first: c times less to weave."""
    if axis != 1:
        raise ArtifactError("only channels are summed in the graph", got=f"axis {axis}", allowed="axis 1")
    woven = emit.woven.get(x)
    if woven is None:
        total: str = emit.node("ReduceSum", x, [1], keepdims=0)
        return total
    return _weave(emit, replace(woven, phases=tuple(sum_channels(emit, phase, 1) for phase in woven.phases)), lead=1)


def mean_places(emit: Emission, x: str, axes: Sequence[int], keepdim: bool = False) -> str:
    """The mean over t, h and w of (B,c,t,h,w), for each channel; what was woven is left in its phases."""
    if (tuple(axes), keepdim) != ((2, 3, 4), True):
        raise ArtifactError(
            "only means over t, h and w that keep these axes are in the graph",
            got=f"axes {tuple(axes)}, keepdim {keepdim}",
            allowed="axes (2, 3, 4), keepdim True",
        )
    woven = emit.woven.get(x)
    if woven is None:
        return str(emit.node("ReduceMean", x, list(axes), keepdims=1))
    return str(emit.node("Mul", _sum_places(emit, x), 1 / math.prod(woven.sizes)))


def _sum_places(emit: Emission, x: str) -> str:
    """The one place too many that a phase may have lies in padding, where no maximum was: it is zero."""
    woven = emit.woven.get(x)
    if woven is None:
        return str(emit.node("ReduceSum", x, [2, 3, 4], keepdims=1))
    parts = [_sum_places(emit, phase) for phase in woven.phases]
    return functools.reduce(lambda so_far, part: emit.node("Add", so_far, part), parts)


def _back_through(emit: Emission, gradient: str, taken: Pass, *, sizes: Sequence[int]) -> str:
    """The gradient in front of one pass, from the one behind it.

    Place j of window o is x[stride * o + j - padding]: of the phase (j - padding) mod stride the element o + shift.
    """
    size = sizes[taken.axis - 2]
    count, rows = taken.num_windows(size), -(-size // taken.stride)
    phases: dict[int, str] = {}
    left = gradient  # of those windows whose maximum has not been met yet
    for j in range(taken.kernel):
        shift, phase = divmod(j - taken.padding, taken.stride)
        part = left
        if j < taken.kernel - 1:
            every = emit.node("Slice", taken.before, [phase], [LAST], [taken.axis], [taken.stride])
            length = -(-(size - phase) // taken.stride)
            place = _span(emit, every, taken.axis, length=length, start=shift, count=count, fill=_LOWEST)
            held = emit.node("Cast", emit.node("Equal", place, taken.after), to=TensorProto.FLOAT)
            part = emit.node("Mul", left, held)
            left = emit.node("Sub", left, part)
        moved = _span(emit, part, taken.axis, length=count, start=-shift, count=rows, fill=0.0)
        phases[phase] = emit.node("Add", phases[phase], moved) if phase in phases else moved
    woven = Woven(tuple(phases[phase] for phase in range(taken.stride)), axis=taken.axis - 2, sizes=tuple(sizes))
    return _weave(emit, woven, lead=2)


def _weave(emit: Emission, woven: Woven, *, lead: int) -> str:
    """The phases of (lead axes, t,h,w) in turn along their axis."""
    axis, size, steps = lead + woven.axis, woven.sizes[woven.axis], len(woven.phases)
    if steps == 1:
        return woven.phases[0]
    columns = [emit.node("Unsqueeze", phase, [axis + 1]) for phase in woven.phases]
    rows = -(-size // steps)
    sizes = [rows * steps if at == woven.axis else size for at, size in enumerate(woven.sizes)]
    x: str = emit.node("Reshape", emit.node("Concat", *columns, axis=axis + 1), [*[0] * lead, *sizes])
    x = _span(emit, x, axis, length=rows * steps, start=0, count=size, fill=0.0)
    emit.woven[x] = woven
    return x


def _span(emit: Emission, x: str, axis: int, *, length: int, start: int, count: int, fill: float) -> str:
    """x[start : start + count] along an axis of `length`, `fill` where that lies outside."""
    end = start + count
    first, last = max(start, 0), min(end, length)
    if (first, last) != (0, length):
        x = emit.node("Slice", x, [first], [last], [axis])
    if (first, last) != (start, end):
        x = emit.node("Pad", x, [first - start, end - last], fill, [axis])
    return x
