"""From the low-resolution grids of each tap to one map over the clip: Sum3DCAM and its relatives, in numpy.

Every method is a sum over taps of a per-tap map, n(x) = ReLU(x) / max ReLU(x) taken after upsampling: ReLU and the
product of Sum3DCAM do not commute with interpolation, the channel sum does, so the grids carry one channel.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sum3dcam.contract import EMPTY_MAX, grid_name
from sum3dcam.errors import BadArrayError, BadOptionError

Array: TypeAlias = npt.NDArray[np.float32]
Upsample: TypeAlias = Callable[[Array], Array]  # (t,h,w) -> (T,H,W)
PerTap: TypeAlias = Callable[[Mapping[str, Array], Upsample], Array | None]  # None: the tap is empty


def half_pixel_positions(in_size: int, out_size: int) -> npt.NDArray[np.float64]:
    """Where each output sample lies on the input's axis if samples are cell centres (torch: align_corners=False)."""
    centres = (np.arange(out_size, dtype=np.float64) + 0.5) * (in_size / out_size) - 0.5
    return centres.clip(min=0.0)


def corner_positions(in_size: int, out_size: int) -> npt.NDArray[np.float64]:
    """Where each output sample lies on the input's axis if the end samples coincide (torch: align_corners=True)."""
    return np.arange(out_size, dtype=np.float64) * ((in_size - 1) / max(out_size - 1, 1))


COORDINATES: Mapping[str, Callable[[int, int], npt.NDArray[np.float64]]] = MappingProxyType(
    {"half-pixel": half_pixel_positions, "corners": corner_positions}
)


@lru_cache(maxsize=256)
def upsample_matrix(in_size: int, out_size: int, coordinates: str = "half-pixel") -> Array:
    """Linear interpolation along one axis as a read-only float32 (out_size, in_size) matrix; its rows sum to one.

    Raises:
        BadOptionError: a coordinate rule outside `COORDINATES`.
    """
    if coordinates not in COORDINATES:
        raise BadOptionError("unknown coordinate rule", got=coordinates, allowed=list(COORDINATES))
    position = COORDINATES[coordinates](in_size, out_size)
    below = np.minimum(np.floor(position).astype(np.int64), in_size - 1)
    above = np.minimum(below + 1, in_size - 1)
    weight = position - below
    matrix = np.zeros((out_size, in_size))
    rows = np.arange(out_size)
    np.add.at(matrix, (rows, below), 1.0 - weight)
    np.add.at(matrix, (rows, above), weight)
    matrix_oi = matrix.astype(np.float32)
    matrix_oi.flags.writeable = False
    return matrix_oi


def upsample(grid_thw: Array, *, num_frames: int, size_px: int, coordinates: str = "half-pixel") -> Array:
    """Trilinear interpolation (t,h,w) -> (num_frames, size_px, size_px), float32, in a new array."""
    t, h, w = grid_thw.shape
    time_Tt = upsample_matrix(t, num_frames, coordinates)
    rows_Hh = upsample_matrix(h, size_px, coordinates)
    columns_Ww = upsample_matrix(w, size_px, coordinates)
    # The full-size axis comes last: everything before it works on the small grid.
    grid_Thw = (time_Tt @ grid_thw.reshape(t, h * w)).reshape(num_frames, h, w)
    map_THW: Array = np.matmul(rows_Hh, grid_Thw @ columns_Ww.T)
    return map_THW


def normalise(values: Array) -> Array | None:
    """n(x) = ReLU(x) / max ReLU(x), in place; None where no finite value exceeds `EMPTY_MAX` ("empty").

    Dividing by a negative maximum, as the paper's eq. 2 literally reads, would light the whole map up.
    """
    largest = values.max()
    if not EMPTY_MAX < largest < np.inf:
        return None
    np.maximum(values, 0.0, out=values)
    np.divide(values, largest, out=values)
    return values


def _product(grids: Mapping[str, Array], up: Upsample) -> Array | None:
    gradient, activation = normalise(up(grids["gradient"])), normalise(up(grids["activation"]))
    if gradient is None or activation is None:
        return None
    return np.multiply(gradient, activation, out=gradient)


def _counterfactual(grids: Mapping[str, Array], up: Upsample) -> Array | None:
    return _product({"gradient": -grids["gradient"], "activation": grids["activation"]}, up)


def _relu_then_up(grids: Mapping[str, Array], up: Upsample) -> Array | None:
    return normalise(up(np.maximum(grids["gradcam"], 0.0)))


def _up_of(grid: str) -> PerTap:
    def per_tap(grids: Mapping[str, Array], up: Upsample) -> Array | None:
        return normalise(up(grids[grid]))

    return per_tap


@dataclass(frozen=True)
class Method:
    """One attribution: the grids it reads, its map for one tap, and how many taps it can sum.

    `per_tap` takes the tap's own grids, each (t,h,w) and keyed by `contract.GRIDS`, and the upsampling to use; it
    gives (T,H,W) in [0,1], or None for an empty tap.
    """

    grids: tuple[str, ...]
    per_tap: PerTap
    max_taps: int | None = None


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "sum3dcam": Method(("activation", "gradient"), _product),  # eq. 6
        "sum3dcam-elementwise": Method(("layercam",), _up_of("layercam")),
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
            f"method '{method}' explains {max_taps} tap; name one, or ask for 'sum-gradcam'",
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
) -> MapsResult:
    """Sums the method's per-tap maps over the taps and divides each item's map by its own max.

    Args:
        grids: float32 (B,t,h,w) keyed by `contract.grid_name(grid, tap)`; only those the method reads are needed.
        coordinates: a key of `COORDINATES`.

    Raises:
        BadOptionError: unknown method or coordinate rule, or taps that `choose_taps` refuses.
        BadArrayError: a grid that is not (B,t,h,w), or grids of different batch sizes.
    """
    chosen = find_method(method)
    present = [name.removeprefix(f"{chosen.grids[0]}_") for name in grids if name.startswith(f"{chosen.grids[0]}_")]
    available = [tap for tap in present if all(grid_name(grid, tap) in grids for grid in chosen.grids)]
    taps = choose_taps(taps, method=method, available=available)
    per_tap_grids = [
        {grid: np.asarray(grids[grid_name(grid, tap)], np.float32) for grid in chosen.grids} for tap in taps
    ]
    shapes = [grid.shape for by_name in per_tap_grids for grid in by_name.values()]
    if any(len(shape) != 4 for shape in shapes) or len({shape[0] for shape in shapes}) != 1:
        raise BadArrayError("grids are (B,t,h,w) of one batch size", got=shapes)

    def up(grid_thw: Array) -> Array:
        return upsample(grid_thw, num_frames=num_frames, size_px=size_px, coordinates=coordinates)

    maps_BTHW = np.zeros((shapes[0][0], num_frames, size_px, size_px), np.float32)
    empty_taps: list[tuple[str, ...]] = []
    for item, map_THW in enumerate(maps_BTHW):
        empty = []
        for tap, by_name in zip(taps, per_tap_grids, strict=True):
            tap_map_THW = chosen.per_tap({grid: values[item] for grid, values in by_name.items()}, up)
            if tap_map_THW is None:
                empty.append(tap)
            else:
                map_THW += tap_map_THW
        if normalise(map_THW) is None:
            map_THW.fill(0.0)
        empty_taps.append(tuple(empty))
    return MapsResult(maps_BTHW=maps_BTHW, empty_taps=tuple(empty_taps))
