"""Trilinear interpolation of a grid to the clip's size, as one small matrix product per axis, in numpy."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sum3dcam.contract import COORDINATES
from sum3dcam.errors import BadOptionError

Array: TypeAlias = npt.NDArray[np.float32]


def half_pixel_positions(in_size: int, out_size: int) -> npt.NDArray[np.float64]:
    """Where each output sample lies on the input's axis if samples are cell centres (torch: align_corners=False)."""
    centres = (np.arange(out_size, dtype=np.float64) + 0.5) * (in_size / out_size) - 0.5
    return centres.clip(min=0.0)


def corner_positions(in_size: int, out_size: int) -> npt.NDArray[np.float64]:
    """Where each output sample lies on the input's axis if the end samples coincide (torch: align_corners=True)."""
    return np.arange(out_size, dtype=np.float64) * ((in_size - 1) / max(out_size - 1, 1))


_POSITIONS: Mapping[str, Callable[[int, int], npt.NDArray[np.float64]]] = MappingProxyType(
    {"half-pixel": half_pixel_positions, "corners": corner_positions}
)


@lru_cache(maxsize=256)
def upsample_matrix(in_size: int, out_size: int, coordinates: str = "half-pixel") -> Array:
    """Linear interpolation along one axis as a read-only float32 (out_size, in_size) matrix; its rows sum to one.

    Raises:
        BadOptionError: a coordinate rule outside `contract.COORDINATES`.
    """
    if coordinates not in _POSITIONS:
        raise BadOptionError("unknown coordinate rule", got=coordinates, allowed=list(COORDINATES))
    position = _POSITIONS[coordinates](in_size, out_size)
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
