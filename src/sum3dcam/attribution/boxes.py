"""Boxes from a map, frame by frame, in map pixels; and how much boxes overlap."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from sum3dcam.contract import EMPTY_MAX
from sum3dcam.errors import BadOptionError

Array: TypeAlias = npt.NDArray[np.float32]
Float64s: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
BoxXYXY: TypeAlias = tuple[float, float, float, float]

# The authors' rule lies this share of the way from a frame's mean to its max.
AUTHORS_SHARE = 0.5

# Diagonal neighbours belong together, as in the contours of Choe et al.'s MaxBoxAcc.
CONNECTIVITY = 8


@dataclass(frozen=True)
class FrameBox:
    """A half-open box [x1, y1, x2, y2), in map pixels as found; `score` is the map's mean over its own mask pixels."""

    frame: int
    box_xyxy: BoxXYXY
    score: float


def _union(map_HW: Array, mask_HW: Mask) -> list[tuple[BoxXYXY, float]]:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return [(box, float(map_HW[mask_HW].mean(dtype=np.float64)))]


def _components(map_HW: Array, mask_HW: Mask) -> list[tuple[BoxXYXY, float]]:
    """Most pixels first; of equal ones the higher mean, then the leftmost."""
    count, labels_HW, stats, _ = cv2.connectedComponentsWithStats(mask_HW.astype(np.uint8), connectivity=CONNECTIVITY)
    sums = np.bincount(labels_HW.ravel(), weights=map_HW.ravel(), minlength=count)
    components = []
    for label in range(1, count):  # label 0 is the background
        x, y, width, height, area = (int(value) for value in stats[label])
        box = (float(x), float(y), float(x + width), float(y + height))
        components.append((-area, -float(sums[label]) / area, box))
    return [(box, -negative_score) for _, negative_score, box in sorted(components)]


def _largest(map_HW: Array, mask_HW: Mask) -> list[tuple[BoxXYXY, float]]:
    return _components(map_HW, mask_HW)[:1]


_BOXES_OF_MASK: Mapping[str, Callable[[Array, Mask], list[tuple[BoxXYXY, float]]]] = MappingProxyType(
    {"union": _union, "largest": _largest, "all": _components}
)


def find_boxes(map_THW: Array, *, threshold: float | None, box_mode: str) -> tuple[FrameBox, ...]:
    """The boxes of each frame, in frame order; a frame without a pixel at or above its threshold has none.

    Args:
        map_THW: float32, not negative.
        threshold: tau in (0, 1]: pixels >= tau * max of the whole map. None: the authors' rule, per frame: pixels >=
            mean + 0.5 (max - mean) of the frame, so every frame that is not all zero has a box.
        box_mode: `union` the tight box of all pixels; `largest` the connected component of most pixels (of equal
            ones, that of the higher mean); `all` every component, largest first.

    Raises:
        BadOptionError: threshold outside (0, 1] or an unknown box mode.
    """
    if threshold is not None and not 0.0 < threshold <= 1.0:
        raise BadOptionError("'threshold' is a share of the map's maximum", got=threshold, allowed="0 < threshold <= 1")
    if box_mode not in _BOXES_OF_MASK:
        raise BadOptionError("unknown 'box_mode'", got=box_mode, allowed=list(_BOXES_OF_MASK))
    clip_max = float(map_THW.max(initial=0.0))
    boxes = []
    for frame, map_HW in enumerate(map_THW):
        frame_max = float(map_HW.max())
        if frame_max <= EMPTY_MAX:
            continue
        if threshold is None:
            mean = float(map_HW.mean(dtype=np.float64))
            # min: the mean of a constant frame may round to above its max.
            level = min(mean + AUTHORS_SHARE * (frame_max - mean), frame_max)
        else:
            level = threshold * clip_max
        mask_HW = map_HW >= np.float32(level)
        if mask_HW.any():
            boxes += [FrameBox(frame, box, score) for box, score in _BOXES_OF_MASK[box_mode](map_HW, mask_HW)]
    return tuple(boxes)


def box_iou(boxes_N4: npt.ArrayLike, others_M4: npt.ArrayLike) -> Float64s:
    """Intersection over union (N,M) of half-open boxes; 0 where the union is empty.

    >>> box_iou([0, 0, 2, 2], [[0, 0, 2, 2], [0, 0, 2, 1], [2, 0, 4, 2]]).tolist()
    [[1.0, 0.5, 0.0]]
    """
    one = np.asarray(boxes_N4, np.float64).reshape(-1, 4, 1)
    two = np.asarray(others_M4, np.float64).reshape(-1, 4).T
    width_NM = (np.minimum(one[:, 2], two[2]) - np.maximum(one[:, 0], two[0])).clip(min=0)
    height_NM = (np.minimum(one[:, 3], two[3]) - np.maximum(one[:, 1], two[1])).clip(min=0)
    overlap = width_NM * height_NM
    areas = (one[:, 2] - one[:, 0]) * (one[:, 3] - one[:, 1]) + (two[2] - two[0]) * (two[3] - two[1])
    union = areas - overlap
    iou: Float64s = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou
