"""From the low-resolution grids of each tap to one map over the clip: Sum3DCAM and its relatives, in numpy.

Every method is a sum over taps of a per-tap map, n(x) = ReLU(x) / max ReLU(x) taken after upsampling: ReLU and the
product of Sum3DCAM do not commute with interpolation, the channel sum does, so the grids carry one channel.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sum3dcam.attribution.interpolation import upsample
from sum3dcam.contract import EMPTY_MAX, NORMALISATIONS, grid_name
from sum3dcam.errors import BadArrayError, BadOptionError

Array: TypeAlias = npt.NDArray[np.float32]


# The axes of a (T,H,W) map over which n(x) takes its maximum: one for the clip, or one for each frame.
_MAX_OVER: Mapping[str, tuple[int, ...]] = MappingProxyType({"clip": (0, 1, 2), "frame": (1, 2)})


def normalise(map_THW: Array, *, normalisation: str = "clip") -> Array | None:
    """n(x) = ReLU(x) / max ReLU(x), in place; None where no finite value exceeds `EMPTY_MAX` ("empty").

    Of a map that is normalised frame by frame, a frame without such a value becomes zero. Dividing by a negative
    maximum, as the paper's eq. 2 literally reads, would light the whole map up.
    """
    largest = map_THW.max(axis=_MAX_OVER[normalisation], keepdims=True)
    lit = (largest > EMPTY_MAX) & (largest < np.inf)
    if not lit.any():
        return None
    np.maximum(map_THW, 0.0, out=map_THW)
    np.divide(map_THW, largest, out=map_THW, where=lit)
    np.copyto(map_THW, 0.0, where=~lit)
    return map_THW


@dataclass(frozen=True)
class Canvas:
    """The map to make of a grid: its size, and the rules by which a grid is brought to it."""

    num_frames: int
    size_px: int
    coordinates: str = "half-pixel"
    normalisation: str = "clip"

    def lit(self, grid_thw: Array) -> Array | None:
        """n(up(grid)): (T,H,W) in [0,1], or None where it is empty."""
        up_THW = upsample(grid_thw, num_frames=self.num_frames, size_px=self.size_px, coordinates=self.coordinates)
        return normalise(up_THW, normalisation=self.normalisation)


PerTap: TypeAlias = Callable[[Mapping[str, Array], Canvas], Array | None]  # None: the tap is empty


def _product(grids: Mapping[str, Array], canvas: Canvas) -> Array | None:
    gradient, activation = canvas.lit(grids["gradient"]), canvas.lit(grids["activation"])
    if gradient is None or activation is None:
        return None
    product = np.multiply(gradient, activation, out=gradient)
    # The two may be lit at different voxels only: then the tap says nothing either.
    return product if product.any() else None


def _counterfactual(grids: Mapping[str, Array], canvas: Canvas) -> Array | None:
    return _product({"gradient": -grids["gradient"], "activation": grids["activation"]}, canvas)


def _average_pool(grids: Mapping[str, Array], canvas: Canvas) -> Array | None:
    # d y / d (a rise of the whole tap): behind global average pooling alone, the channel sum of d y / d pool.
    slope = float(grids["gradient"].sum(dtype=np.float64))
    return canvas.lit(grids["activation"]) if EMPTY_MAX < slope < np.inf else None


def _relu_then_up(grids: Mapping[str, Array], canvas: Canvas) -> Array | None:
    return canvas.lit(np.maximum(grids["gradcam"], 0.0))


def _up_of(grid: str) -> PerTap:
    def per_tap(grids: Mapping[str, Array], canvas: Canvas) -> Array | None:
        return canvas.lit(grids[grid])

    return per_tap


@dataclass(frozen=True)
class Method:
    """One attribution: the grids it reads, its map for one tap, and how many taps it can sum.

    `per_tap` takes the tap's own grids, each (t,h,w) and keyed by `contract.GRIDS`, and the canvas; it gives (T,H,W)
    in [0,1], or None for an empty tap.
    """

    grids: tuple[str, ...]
    per_tap: PerTap
    max_taps: int | None = None


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "sum3dcam": Method(("activation", "gradient"), _product),  # eq. 6
        "sum3dcam-elementwise": Method(("layercam",), _up_of("layercam")),
        "avgpool-3dcam": Method(("activation", "gradient"), _average_pool, max_taps=1),  # 3DCAM at the global pool
        "sum-gradcam": Method(("gradcam",), _up_of("gradcam")),
        "gradcam": Method(("gradcam",), _relu_then_up, max_taps=1),
        "layercam": Method(("layercam",), _up_of("layercam")),
        "hirescam": Method(("hirescam",), _up_of("hirescam")),
        "counterfactual": Method(("activation", "gradient"), _counterfactual),  # eq. 7
    }
)


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        BadOptionError: there is none.
    """
    if name not in METHODS:
        raise BadOptionError("unknown attribution method", got=name, allowed=list(METHODS))
    return METHODS[name]


def grids_read(method: str, *, taps: Iterable[str]) -> tuple[str, ...]:
    """The graph's outputs of which the method's maps over these taps are made.

    >>> grids_read("sum3dcam", taps=["layer4"])
    ('activation_layer4', 'gradient_layer4')

    Raises:
        BadOptionError: there is no such method.
    """
    return tuple(grid_name(grid, tap) for tap in taps for grid in find_method(method).grids)


def choose_taps(asked: Sequence[str] | None, *, method: str, available: Sequence[str]) -> tuple[str, ...]:
    """The taps to sum, in the order asked; None means all, or the last (deepest) for a method of a single tap.

    Raises:
        BadOptionError: unknown method; a tap unknown or named twice; no tap, or more than the method can take.
    """
    max_taps = find_method(method).max_taps
    if asked is None:
        return tuple(available) if max_taps is None else tuple(available)[-max_taps:]
    taps = tuple(asked)
    if not taps or len(set(taps)) != len(taps) or not set(taps) <= set(available):
        raise BadOptionError("'taps' names each tap at most once, and at least one", got=taps, allowed=list(available))
    if max_taps is not None and len(taps) > max_taps:
        raise BadOptionError(
            f"method '{method}' explains {max_taps} tap; name one, or ask for a method that sums",
            got=taps,
            allowed=list(available),
        )
    return taps


def taps_by_stream(taps: Sequence[str], *, tap_streams: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The taps of each stream, whose maps come beside the one over all; none where all lie in one stream.

    >>> taps_by_stream(["conv", "flow_conv"], tap_streams={"conv": "rgb", "flow_conv": "flow"})
    {'rgb': ('conv',), 'flow': ('flow_conv',)}
    >>> taps_by_stream(["conv"], tap_streams={"conv": "rgb", "flow_conv": "flow"})
    {}
    """
    streams = dict.fromkeys(tap_streams[tap] for tap in taps)
    if len(streams) < 2:
        return {}
    return {stream: tuple(tap for tap in taps if tap_streams[tap] == stream) for stream in streams}


@dataclass(frozen=True)
class MapsResult:
    """`maps_BTHW` float32 in [0,1], each divided by its own max (all zero if nothing speaks for the class), and the
    taps of each item that were empty, in the order of the taps asked."""

    maps_BTHW: Array
    empty_taps: tuple[tuple[str, ...], ...]


def build_maps(
    grids: Mapping[str, Array],
    *,
    taps: Sequence[str],
    method: str,
    num_frames: int,
    size_px: int,
    coordinates: str = "half-pixel",
    normalisation: str = "clip",
) -> MapsResult:
    """Sums the method's per-tap maps over the taps and divides each item's map by its own max.

    Args:
        grids: float32 (B,t,h,w) keyed by `contract.grid_name(grid, tap)`; only those the method reads are needed.
        coordinates: one of `contract.COORDINATES`.
        normalisation: one of `contract.NORMALISATIONS`, for every n(x) and for the sum's own max.

    Raises:
        BadOptionError: unknown method, coordinate rule or normalisation, or taps that `choose_taps` refuses.
        BadArrayError: a grid that is not (B,t,h,w), or grids of different batch sizes.
    """
    chosen = find_method(method)
    if normalisation not in _MAX_OVER:
        raise BadOptionError("unknown normalisation", got=normalisation, allowed=list(NORMALISATIONS))
    canvas = Canvas(num_frames=num_frames, size_px=size_px, coordinates=coordinates, normalisation=normalisation)
    present = [name.removeprefix(f"{chosen.grids[0]}_") for name in grids if name.startswith(f"{chosen.grids[0]}_")]
    available = [tap for tap in present if all(grid_name(grid, tap) in grids for grid in chosen.grids)]
    taps = choose_taps(taps, method=method, available=available)
    per_tap_grids = [
        {grid: np.asarray(grids[grid_name(grid, tap)], np.float32) for grid in chosen.grids} for tap in taps
    ]
    shapes = [grid.shape for by_name in per_tap_grids for grid in by_name.values()]
    if any(len(shape) != 4 for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
        raise BadArrayError("grids are (B,t,h,w) of one batch size", got=shapes)
    maps_BTHW = np.zeros((shapes[0][0], num_frames, size_px, size_px), np.float32)
    empty_taps: list[tuple[str, ...]] = []
    for item, map_THW in enumerate(maps_BTHW):
        empty = []
        for tap, by_name in zip(taps, per_tap_grids, strict=True):
            tap_map_THW = chosen.per_tap({grid: values[item] for grid, values in by_name.items()}, canvas)
            if tap_map_THW is None:
                empty.append(tap)
            else:
                map_THW += tap_map_THW
        if normalise(map_THW, normalisation=normalisation) is None:
            map_THW.fill(0.0)
        empty_taps.append(tuple(empty))
    return MapsResult(maps_BTHW=maps_BTHW, empty_taps=tuple(empty_taps))
