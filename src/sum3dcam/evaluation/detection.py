"""Average precision of detections in frames (frame-mAP) and of tubes (video-mAP), as the UCF101-24 and JHMDB papers
count it: PASCAL VOC's rules (2010 on), with the overlap of tubes in place of that of boxes for tubes.

Detections of a class go from the highest score down. One is right where its best-fitting truth reaches theta and no
earlier one has it; a second one on the same truth is wrong. Average precision is the area under precision over recall,
each precision replaced by the best at that recall or a higher one. The mean is over the classes that have truth.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt

from sum3dcam.attribution.boxes import BoxXYXY, FrameBox, box_iou
from sum3dcam.attribution.tubes import Tube, tube_iou
from sum3dcam.evaluation.datasets import labelled
from sum3dcam.evaluation.statistics import Estimate, pooled_estimate, resample

Region = TypeVar("Region")
Float64s: TypeAlias = npt.NDArray[np.float64]


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


@dataclass(frozen=True)
class MeanAveragePrecision:
    """The mean with its interval, and the average precision of each class that has truth."""

    mean: Estimate
    by_label: Mapping[str, float]


def right_detections(
    truths: Sequence[Truth[Region]],
    detections: Sequence[Detection[Region]],
    *,
    theta: float,
    overlap: Callable[[Region, Region], float],
) -> npt.NDArray[np.bool_]:
    """Whether each detection of one class, in the order of falling score, is right."""
    by_where: dict[Hashable, list[Truth[Region]]] = defaultdict(list)
    for truth in truths:
        by_where[truth.where].append(truth)
    taken: set[int] = set()
    right = []
    for detection in detections:
        overlaps = [(overlap(detection.region, truth.region), id(truth)) for truth in by_where[detection.where]]
        best, found = max(overlaps, key=lambda pair: pair[0], default=(0.0, 0))
        hit = best >= theta and found not in taken
        if hit:
            taken.add(found)
        right.append(hit)
    return np.array(right, bool)


def average_precision(right_D: npt.NDArray[np.bool_], *, weights_D: Float64s, num_truths: float) -> float:
    """Area under the interpolated precision-recall curve; NaN without truths.

    Args:
        right_D: whether each detection is right, by falling score.
        weights_D: how often each counts, 0 or more.
        num_truths: counted with the same weights.

    >>> right = np.array([True, False, True])
    >>> average_precision(right, weights_D=np.ones(3), num_truths=4) == (1 + 2 / 3) / 4
    True
    """
    if not num_truths:
        return math.nan
    seen_D = np.cumsum(weights_D)
    precision_D = np.divide(np.cumsum(weights_D * right_D), seen_D, out=np.zeros(len(right_D)), where=seen_D > 0)
    best_from_here_D = np.maximum.accumulate(precision_D[::-1])[::-1]
    return float((best_from_here_D * weights_D)[right_D].sum() / num_truths)


def mean_average_precision(
    truths: Iterable[Truth[Region]],
    detections: Iterable[Detection[Region]],
    *,
    theta: float,
    overlap: Callable[[Region, Region], float],
    video_of: Callable[[Hashable], Hashable],
) -> MeanAveragePrecision:
    """The mean over the classes with truth, and the average precision of each.

    Args:
        video_of: the video of a `where`; videos are resampled for the interval.

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
    places = [truth.where for truth in every] + [one.where for of_label in found.values() for one in of_label]
    videos = {video: number for number, video in enumerate(dict.fromkeys(map(video_of, places)))}
    weights_RV = np.concatenate([np.ones((1, len(videos))), resample(len(videos))])
    by_label = {}
    for label in sorted({truth.label for truth in every}):
        truths_of = [truth for truth in every if truth.label == label]
        ranked = sorted(found[label], key=lambda one: -one.score)
        right_D = right_detections(truths_of, ranked, theta=theta, overlap=overlap)
        video_D = np.array([videos[video_of(one.where)] for one in ranked], np.intp)
        video_N = np.array([videos[video_of(truth.where)] for truth in truths_of])
        by_label[label] = np.array(
            [
                average_precision(right_D, weights_D=weights_V[video_D], num_truths=weights_V[video_N].sum())
                for weights_V in weights_RV
            ]
        )
    # A resample may hold no truth of a class: then the mean is over the others.
    ap_KR = np.array(list(by_label.values()))
    known_R = np.isfinite(ap_KR).sum(axis=0)
    mean_R = np.divide(np.nansum(ap_KR, axis=0), known_R, out=np.full(len(known_R), np.nan), where=known_R > 0)
    return MeanAveragePrecision(pooled_estimate(mean_R), {label: float(ap_R[0]) for label, ap_R in by_label.items()})


def frame_map(
    truths: Iterable[Truth[BoxXYXY]], detections: Iterable[Detection[BoxXYXY]], *, theta: float
) -> MeanAveragePrecision:
    """Frame-mAP: regions are half-open boxes, `where` is (video, frame). Raises as `mean_average_precision`."""
    return mean_average_precision(
        truths,
        detections,
        theta=theta,
        overlap=lambda one, other: float(box_iou(one, other)[0, 0]),
        video_of=_first,
    )


def _first(where: Hashable) -> Hashable:
    video, _frame = cast("tuple[Hashable, Hashable]", where)
    return video


def video_map(
    truths: Iterable[Truth[Tube]], detections: Iterable[Detection[Tube]], *, theta: float
) -> MeanAveragePrecision:
    """Video-mAP: regions are tubes, overlap is `tube_iou`, `where` a video. Raises as `mean_average_precision`."""
    return mean_average_precision(truths, detections, theta=theta, overlap=tube_iou, video_of=lambda where: where)


def true_tube(tube: labelled.Tube) -> Tube:
    """Ground truth as a tube to compare with, of score 1 in every frame; frames without a box are left out."""
    frames = range(tube.first_frame, tube.first_frame + len(tube.boxes_xyxy_px))
    boxes = [
        FrameBox(frame, (x1, y1, x2, y2), 1.0)
        for frame, (x1, y1, x2, y2) in zip(frames, tube.boxes_xyxy_px.tolist(), strict=True)
        if not np.isnan([x1, y1, x2, y2]).any()
    ]
    return Tube(tuple(boxes))
