"""Average precision of detections in frames (frame-mAP) and of tubes (video-mAP), as the UCF101-24 and JHMDB papers
count it: PASCAL VOC's rules (2010 on), with the overlap of tubes in place of that of boxes for tubes.

Detections of a class go from the highest score down. One is right where its best-fitting truth reaches theta and no
earlier one has it; a second one on the same truth is wrong. Average precision is the area under precision over recall,
each precision replaced by the best at that recall or a higher one. The mean is over the classes that have truth.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from sum3dcam.attribution.boxes import BoxXYXY, FrameBox, box_iou
from sum3dcam.attribution.tubes import Tube, tube_iou
from sum3dcam.evaluation.datasets import labelled

Region = TypeVar("Region")


@dataclass(frozen=True)
class Truth(Generic[Region]):
    """A true region; `where` is the frame or the video in which it lies, as any key."""

    where: Hashable
    label: str
    region: Region


@dataclass(frozen=True)
class Detection(Generic[Region]):
    """A region found there; `score` of any scale."""

    where: Hashable
    label: str
    region: Region
    score: float


def right_detections(
    truths: Sequence[Truth[Region]],
    detections: Sequence[Detection[Region]],
    *,
    theta: float,
    overlap: Callable[[Region, Region], float],
) -> npt.NDArray[np.bool_]:
    """For each detection of one class, by falling score (of equal ones in their order), whether it is right."""
    by_where: dict[Hashable, list[Truth[Region]]] = defaultdict(list)
    for truth in truths:
        by_where[truth.where].append(truth)
    taken: set[int] = set()
    right = []
    for detection in sorted(detections, key=lambda found: -found.score):
        overlaps = [(overlap(detection.region, truth.region), id(truth)) for truth in by_where[detection.where]]
        best, found = max(overlaps, key=lambda pair: pair[0], default=(0.0, 0))
        hit = best >= theta and found not in taken
        if hit:
            taken.add(found)
        right.append(hit)
    return np.array(right, bool)


def average_precision(right_D: npt.NDArray[np.bool_], *, num_truths: int) -> float:
    """Area under the interpolated precision-recall curve.

    Args:
        right_D: whether each detection is right, by falling score.
        num_truths: at least one.

    >>> average_precision(np.array([True, False, True]), num_truths=4) == (1 + 2 / 3) / 4
    True
    """
    precision = np.cumsum(right_D) / np.arange(1, len(right_D) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_from_here[right_D].sum() / num_truths)


def mean_average_precision(
    truths: Iterable[Truth[Region]],
    detections: Iterable[Detection[Region]],
    *,
    theta: float,
    overlap: Callable[[Region, Region], float],
) -> tuple[float, Mapping[str, float]]:
    """The mean over the classes with truth, and the average precision of each.

    Raises:
        ValueError: no truth, or theta not in (0, 1].
    """
    every = list(truths)
    if not every or not 0.0 < theta <= 1.0:
        raise ValueError(
            f"average precision wants at least one truth, got {len(every)}, and 0 < theta <= 1, got {theta}"
        )
    found: dict[str, list[Detection[Region]]] = defaultdict(list)
    for detection in detections:
        found[detection.label].append(detection)
    by_label = {
        label: average_precision(
            right_detections(
                [truth for truth in every if truth.label == label], found[label], theta=theta, overlap=overlap
            ),
            num_truths=num_truths,
        )
        for label, num_truths in sorted(Counter(truth.label for truth in every).items())
    }
    return float(np.mean(list(by_label.values()))), by_label


def frame_map(
    truths: Iterable[Truth[BoxXYXY]], detections: Iterable[Detection[BoxXYXY]], *, theta: float
) -> tuple[float, Mapping[str, float]]:
    """Frame-mAP: regions are half-open boxes, `where` is a (video, frame). Raises as `mean_average_precision`."""
    return mean_average_precision(
        truths, detections, theta=theta, overlap=lambda one, other: float(box_iou(one, other)[0, 0])
    )


def video_map(
    truths: Iterable[Truth[Tube]], detections: Iterable[Detection[Tube]], *, theta: float
) -> tuple[float, Mapping[str, float]]:
    """Video-mAP: regions are tubes, overlap is `tube_iou`, `where` a video. Raises as `mean_average_precision`."""
    return mean_average_precision(truths, detections, theta=theta, overlap=tube_iou)


def true_tube(tube: labelled.Tube) -> Tube:
    """Ground truth as a tube to compare with, of score 1 in every frame; frames without a box are left out."""
    frames = range(tube.first_frame, tube.first_frame + len(tube.boxes_xyxy_px))
    boxes = [
        FrameBox(frame, (x1, y1, x2, y2), 1.0)
        for frame, (x1, y1, x2, y2) in zip(frames, tube.boxes_xyxy_px.tolist(), strict=True)
        if not np.isnan([x1, y1, x2, y2]).any()
    ]
    return Tube(tuple(boxes))
