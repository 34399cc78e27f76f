"""Max pooling and its backward as ONNX operators, without the indices that ONNX's MaxPool can give.

OpenVINO computes those in a plain loop that takes longer than the rest of the network; compared with maxima, pooled one
axis after the other, they are not needed, and ONNX Runtime is as fast either way.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from onnx import TensorProto

from sum3dcam.errors import ArtifactError
from sum3dcam.export.emission import LAST, Emission, Pass, Scattered

_LOWEST = float(np.finfo(np.float32).min)


# 0, 1, 2 for t, h, w -> the places along it that are looked at: from a first one on, every so many.
_Picked = Mapping[int, tuple[int, int]]
_EVERY = (0, 1)
_ALL: _Picked = MappingProxyType({})


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
        passes.append(Pass(x, after, at, kernel[at], stride[at], padding[at], ceil_mode))
        x = after
    return x, passes


def scatter_to_maxima(emit: Emission, gradient: str, passes: Sequence[Pass], x: str, sizes: Sequence[int]) -> str:
    """Each window's gradient to its maximum; of equal ones to the first in the order of T, H, W, as torch does.

    Args:
        sizes: (t,h,w) of `x`, from which the passes began.
    """
    back, there = gradient, list(sizes)
    for taken in passes:
        there[taken.at] = taken.num_windows(sizes[taken.at])
    for taken in reversed(passes):
        there[taken.at] = sizes[taken.at]
        phases = _phases(emit, back, taken, size=sizes[taken.at])
        back = _weave(emit, phases, taken.at, sizes=there, lead=2)
    emit.scattered[back] = Scattered(gradient, tuple(passes), tuple(sizes))
    return back


def sum_channels(emit: Emission, x: str, axis: int) -> str:
    """The sum over axis 1 of (B,c,t,h,w); of what was scattered, before it is put together: c times less to move."""
    if axis != 1:
        raise ArtifactError("only channels are summed in the graph", got=f"axis {axis}", allowed="axis 1")
    scattered = emit.scattered.get(x)
    if scattered is None:
        total: str = emit.node("ReduceSum", x, [1], keepdims=0)
        return total
    return _scattered_sum(emit, scattered.gradient, scattered.passes, sizes=scattered.sizes)


def mean_places(emit: Emission, x: str, axes: Sequence[int], keepdim: bool = False) -> str:
    """The mean over t, h and w of (B,c,t,h,w), for each channel; scattering changes no sum over places."""
    if (tuple(axes), keepdim) != ((2, 3, 4), True):
        raise ArtifactError(
            "only means over t, h and w that keep these axes are in the graph",
            got=f"axes {tuple(axes)}, keepdim {keepdim}",
            allowed="axes (2, 3, 4), keepdim True",
        )
    scattered = emit.scattered.get(x)
    if scattered is None:
        return str(emit.node("ReduceMean", x, list(axes), keepdims=1))
    total = emit.node("ReduceSum", scattered.gradient, list(axes), keepdims=1)
    return str(emit.node("Mul", total, 1 / math.prod(scattered.sizes)))


def _scattered_sum(
    emit: Emission, gradient: str, passes: Sequence[Pass], *, sizes: Sequence[int], picked: _Picked = _ALL
) -> str:
    """(B,t,h,w): the sum over channels of what is scattered, at the places picked of x.

    Each phase of the last pass goes on alone through the passes before it: what has channels is never woven.
    """
    *earlier, taken = passes
    phases = _phases(emit, gradient, taken, size=sizes[taken.at], picked=picked, summed=not earlier)
    if earlier:
        phases = [
            _scattered_sum(emit, phase, earlier, sizes=sizes, picked={**picked, taken.at: (first, taken.stride)})
            for first, phase in enumerate(phases)
        ]
    there = [_num_picked(size, *picked.get(at, _EVERY)) for at, size in enumerate(sizes)]
    return _weave(emit, phases, taken.at, sizes=there, lead=1)


def _phases(
    emit: Emission, gradient: str, taken: Pass, *, size: int, picked: _Picked = _ALL, summed: bool = False
) -> list[str]:
    """The gradient in front of a pass, from the one behind it: every stride-th place along its axis, by first place.

    Place j of window o is x[stride * o + j - padding]: of the phase (j - padding) mod stride the element o + shift.

    Args:
        size: in front of the pass, along its axis.
        picked: the places along other axes that the gradient is of.
        summed: over channels, an axis that the phases then lack.
    """
    count = taken.num_windows(size)
    after = _slice(emit, taken.after, {at: (first, LAST, step) for at, (first, step) in picked.items()}, lead=2)
    phases: dict[int, str] = {}
    left = gradient  # of those windows whose maximum has not been met yet
    for j in range(taken.kernel):
        shift, phase = divmod(j - taken.padding, taken.stride)
        length = _num_picked(size, phase, taken.stride)
        part = left
        if j < taken.kernel - 1:
            every = {**picked, taken.at: (phase, taken.stride)}
            place = _span(
                emit, taken.before, taken.at, length=length, start=shift, count=count, fill=_LOWEST, picked=every
            )
            held = emit.node("Cast", emit.node("Equal", place, after), to=TensorProto.FLOAT)
            part = emit.node("Mul", left, held)
            left = emit.node("Sub", left, part)
        if summed:
            part = sum_channels(emit, part, 1)
        lead = 1 if summed else 2
        moved = _span(emit, part, taken.at, length=count, start=-shift, count=length, fill=0.0, lead=lead)
        phases[phase] = emit.node("Add", phases[phase], moved) if phase in phases else moved
    return [phases[phase] for phase in range(taken.stride)]


def _weave(emit: Emission, phases: Sequence[str], at: int, *, sizes: Sequence[int], lead: int) -> str:
    """The phases in turn along an axis of (lead axes, t,h,w), which has `sizes` then.

    Channels are put last meanwhile, where OpenVINO's convolutions have them anyway: rows of them are moved, not floats.
    """
    if len(phases) == 1:
        return phases[0]
    steps, size = len(phases), sizes[at]
    rows = -(-size // steps)
    has_channels = lead == 2
    columns = []
    for first, phase in enumerate(phases):
        length = _num_picked(size, first, steps)
        whole = _span(emit, phase, at, length=length, start=0, count=rows, fill=0.0, lead=lead)
        if has_channels:
            whole = emit.node("Transpose", whole, perm=[0, 2, 3, 4, 1])
        columns.append(emit.node("Unsqueeze", whole, [at + 2]))
    there = [rows * steps if axis == at else other for axis, other in enumerate(sizes)]
    woven = emit.node("Concat", *columns, axis=at + 2)
    woven = emit.node("Reshape", woven, [0, *there, -1] if has_channels else [0, *there])
    if has_channels:
        woven = emit.node("Transpose", woven, perm=[0, 4, 1, 2, 3])
    return _span(emit, woven, at, length=rows * steps, start=0, count=size, fill=0.0, lead=lead)


def _num_picked(size: int, first: int, step: int) -> int:
    """How many of `size` places there are from the first one on, every so many."""
    return -(-(size - first) // step)


def _span(
    emit: Emission,
    x: str,
    at: int,
    *,
    length: int,
    start: int,
    count: int,
    fill: float,
    picked: _Picked = _ALL,
    lead: int = 2,
) -> str:
    """x[start : start + count] along an axis of which `length` places are picked, `fill` where that lies outside."""
    end = start + count
    begin, stop = max(start, 0), min(end, length)
    inside = (begin, stop) == (start, end)
    first, step = picked.get(at, _EVERY)
    if step == 1 and not inside:
        begin, stop = 0, length  # Pad takes away what it is given as less than nothing
    ranges = {other: (other_first, LAST, other_step) for other, (other_first, other_step) in picked.items()}
    ranges[at] = (first + step * begin, LAST if stop == length else first + step * stop, step)
    x = _slice(emit, x, ranges, lead=lead)
    return x if inside else str(emit.node("Pad", x, [begin - start, end - stop], fill, [lead + at]))


def _slice(emit: Emission, x: str, ranges: Mapping[int, tuple[int, int, int]], *, lead: int) -> str:
    """The start, end and step along some of (lead axes, t,h,w)."""
    some = {lead + at: values for at, values in ranges.items() if values != (0, LAST, 1)}
    if some:
        starts, ends, steps = zip(*some.values(), strict=True)
        x = emit.node("Slice", x, list(starts), list(ends), list(some), list(steps))
    return x
