"""The paper's protocol for one frame: does a box hit the truth, how well does it fit, and the best that any threshold
and contour of the map would have given. Boxes are half-open [x1,y1,x2,y2); a frame may have several true ones, of
which the best counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sum3dcam.attribution.boxes import box_iou, find_boxes
from sum3dcam.attribution.maps import Array
from sum3dcam.evaluation.metrics import map_ious

Float64s: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

# Box accuracy's IoUs in the paper, by data set.
THETAS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {"jhmdb": (0.5, 0.6), "ucf24": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5), "ilsvrc": (0.3, 0.5, 0.7)}
)


def hits(box_xyxy: npt.ArrayLike, *, truth_N4: npt.ArrayLike) -> bool:
    """Whether the box shares an area above 0 with a true one.

    >>> hits([0, 0, 2, 2], truth_N4=[[2, 0, 4, 2]]), hits([0, 0, 2, 2], truth_N4=[[5, 5, 6, 6], [1, 1, 9, 9]])
    (False, True)
    """
    return bool((box_iou(box_xyxy, truth_N4) > 0).any())


def best_iou(box_xyxy: npt.ArrayLike, *, truth_N4: npt.ArrayLike) -> float:
    """IoU with the true box that fits best; 0 without one.

    >>> best_iou([0, 0, 2, 2], truth_N4=[[0, 0, 2, 1], [5, 5, 6, 6]])
    0.5
    """
    return float(box_iou(box_xyxy, truth_N4).max(initial=0.0))


@dataclass(frozen=True)
class FrameScores:
    """One frame of one map.

    `hit` and `iou` are of the box by the authors' rule (pixels at or above mean + 0.5 (max - mean), their union), the
    one that a server answers with; `largest_P` of the largest contour at each threshold t; `oracle` of the best contour
    at the best t, which no method could know.
    """

    hit: bool
    iou: float
    largest_P: Float64s
    oracle: float


def frame_scores(map_HW: Array, *, truth_N4: Float64s, thresholds: Sequence[float]) -> FrameScores:
    """Scores a frame's map, float32 and not negative; all are 0 without a true box inside it.

    Args:
        truth_N4: float64 (N,4) in map pixels, N >= 0.
        thresholds: (P,) shares of the frame's maximum, 0 <= t < 1; without any, the oracle is 0.
    """
    if not len(truth_N4):
        return FrameScores(False, 0.0, np.zeros(len(thresholds)), 0.0)
    found = find_boxes(map_HW[None], threshold=None, box_mode="union")
    iou = best_iou(found[0].box_xyxy, truth_N4=truth_N4) if found else 0.0
    if not thresholds:
        return FrameScores(iou > 0, iou, np.zeros(0), 0.0)
    swept = map_ious(map_HW, truth_N4=truth_N4, thresholds=thresholds)
    return FrameScores(iou > 0, iou, swept.v1_P, float(swept.v2_P.max()))


class MapTally:
    """Adds up the frames of one video for one map. Counts are int64; I are the thetas, P the thresholds.

    `hit` (), `box`, `oracle` (I,) and `sweep` (P,I); of each, `_right` counts only the frames of clips whose class is
    right (the paper's Acc2).
    """

    def __init__(self, *, thetas: Sequence[float], thresholds: Sequence[float]) -> None:
        self._thetas, self._thresholds = np.asarray(thetas, np.float64), thresholds
        shapes: Mapping[str, tuple[int, ...]] = {
            "hit": (),
            "box": (len(thetas),),
            "oracle": (len(thetas),),
            "sweep": (len(thresholds), len(thetas)),
        }
        self.counts: dict[str, Ints] = {
            f"{name}{suffix}": np.zeros(shape, np.int64) for name, shape in shapes.items() for suffix in ("", "_right")
        }

    def add(self, map_HW: Array, *, truth_N4: Float64s, class_right: bool) -> None:
        """Counts a frame that has ground truth, inside the map or not."""
        scores = frame_scores(map_HW, truth_N4=truth_N4, thresholds=self._thresholds)
        reached = {
            "hit": np.asarray(scores.hit),
            "box": scores.iou >= self._thetas,
            "oracle": scores.oracle >= self._thetas,
            "sweep": scores.largest_P[:, None] >= self._thetas,
        }
        for name, which in reached.items():
            self.counts[name] += which
            self.counts[f"{name}_right"] += which & class_right


def fixed_box_counts(
    box_xyxy: npt.ArrayLike,
    *,
    truth: Sequence[Float64s | None],
    thetas: Sequence[float],
    right: Sequence[bool] | None = None,
) -> dict[str, Ints]:
    """`hit` and `box` of the same box in every frame, and `_right` of both where `right` is known.

    Args:
        truth: each frame's boxes (N,4) in the pixels of the box; None where the frame is not annotated.
        right: for each frame whether its clip's class is right.
    """
    every = [index for index, boxes in enumerate(truth) if boxes is not None]
    boxes = [truth[index] for index in every]
    lengths = np.array([len(found) for found in boxes if found is not None], np.int64)
    iou_F = np.zeros(len(every))
    if lengths.any():
        flat = np.concatenate([found for found in boxes if found is not None and len(found)])
        starts = np.cumsum(lengths) - lengths
        iou_F[lengths > 0] = np.maximum.reduceat(box_iou(box_xyxy, flat)[0], starts[lengths > 0])
    reached = {"hit": iou_F > 0, "box": iou_F[:, None] >= np.asarray(thetas, np.float64)}
    counts: dict[str, Any] = {name: which.sum(0) for name, which in reached.items()}
    if right is not None:
        right_F = np.array([right[index] for index in every], bool)
        counts |= {f"{name}_right": which[right_F].sum(0) for name, which in reached.items()}
    return {name: np.asarray(count, np.int64) for name, count in counts.items()}
