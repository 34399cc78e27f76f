"""Tubes: boxes of successive frames that belong together.

A box's `frame` counts the frames that were looked at. Who leaves out frames of a source numbers the rest anew, so that
one that was never looked at is no gap.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from scipy.optimize import linear_sum_assignment

from sum3dcam.attribution.boxes import BoxXYXY, FrameBox, box_iou

MIN_IOU = 0.3
# A fifth of a second at 25 frames a second: a flicker of the map is bridged, a pause of the action is not.
MAX_GAP_FRAMES = 5
SMOOTHING_RADIUS_FRAMES = 2


@dataclass(frozen=True)
class Tube:
    """One box or more, in frame order, at most one per frame."""

    boxes: tuple[FrameBox, ...]

    @property
    def total_score(self) -> float:
        """The sum of its boxes' scores, by which tubes are ranked: what lasts comes before a flash as bright."""
        return sum(box.score for box in self.boxes)

    @property
    def score(self) -> float:
        """The mean of its boxes' scores."""
        return self.total_score / len(self.boxes)


def link(
    boxes: Iterable[FrameBox], *, min_iou: float = MIN_IOU, max_gap_frames: int = MAX_GAP_FRAMES
) -> tuple[Tube, ...]:
    """The tubes of a video's boxes, by falling total score; each box is in exactly one.

    Frame by frame, boxes go to the tubes whose last boxes they overlap, in the assignment of the greatest sum of IoU
    (Hungarian method) of which no pair is below min_iou. A box left over begins a tube. The order in which the
    boxes come does not matter.

    Args:
        boxes: in any one set of pixels, any number per frame.
        min_iou: above 0, up to 1.
        max_gap_frames: a tube ends after more frames than this without a box of its own.

    Raises:
        ValueError: min_iou or max_gap_frames out of range.

    >>> walker = [FrameBox(frame, (frame, 0.0, frame + 4.0, 4.0), 0.5) for frame in (0, 1, 3)]
    >>> flash = FrameBox(1, (20.0, 0.0, 24.0, 4.0), 0.9)
    >>> [([box.frame for box in tube.boxes], tube.score) for tube in link([*walker, flash])]
    [([0, 1, 3], 0.5), ([1], 0.9)]
    """
    if not 0.0 < min_iou <= 1.0 or max_gap_frames < 0:
        raise ValueError(f"min_iou {min_iou} is to be above 0 and up to 1, max_gap_frames {max_gap_frames} 0 or more")
    tubes: list[list[FrameBox]] = []
    live: list[list[FrameBox]] = []
    ordered = sorted(boxes, key=lambda box: (box.frame, box.box_xyxy, box.score))
    for frame, group in groupby(ordered, key=lambda box: box.frame):
        found = list(group)
        live = [tube for tube in live if frame - tube[-1].frame - 1 <= max_gap_frames]
        matches = _match([tube[-1] for tube in live], found, min_iou=min_iou)
        for tube_index, box_index in matches:
            live[tube_index].append(found[box_index])
        taken = {box_index for _, box_index in matches}
        begun = [[box] for box_index, box in enumerate(found) if box_index not in taken]
        tubes += begun
        live += begun
    # The sort is stable: of equal totals the one that begins first, then the leftmost.
    return tuple(sorted((Tube(tuple(boxes)) for boxes in tubes), key=lambda tube: -tube.total_score))


def _match(last: Sequence[FrameBox], found: Sequence[FrameBox], *, min_iou: float) -> list[tuple[int, int]]:
    """Pairs (index of last, index of found), no index twice."""
    iou_LF = box_iou([box.box_xyxy for box in last], [box.box_xyxy for box in found])
    # A pair below the least adds nothing to the sum: it may be assigned, and is then dropped.
    iou_LF[iou_LF < min_iou] = 0.0
    pairs = zip(*linear_sum_assignment(iou_LF, maximize=True), strict=True)
    return [(int(row), int(column)) for row, column in pairs if iou_LF[row, column] > 0.0]


def smooth(tube: Tube, *, radius_frames: int = SMOOTHING_RADIUS_FRAMES) -> Tube:
    """The tube less its jitter: a centred moving average of the corners over 2 radius_frames + 1 frames.

    The average takes in a frame's box only together with that of the frame equally far on the other side. So an even
    motion stays as it is, beside gaps and at the ends too, where a window cut on one side would drag the box inwards.
    Frames and scores do not change.

    >>> xs = (0.0, 3.0, 0.0, 3.0)
    >>> shaken = Tube(tuple(FrameBox(frame, (x, 0.0, x + 9.0, 9.0), 1.0) for frame, x in enumerate(xs)))
    >>> [box.box_xyxy[0] for box in smooth(shaken, radius_frames=1).boxes]
    [0.0, 1.0, 2.0, 3.0]
    """
    corners = {box.frame: box.box_xyxy for box in tube.boxes}

    def mean(frame: int) -> BoxXYXY:
        around = [corners[frame]]
        for distance in range(1, radius_frames + 1):
            before, behind = corners.get(frame - distance), corners.get(frame + distance)
            if before is not None and behind is not None:
                around += [before, behind]
        x1, y1, x2, y2 = (sum(values) / len(around) for values in zip(*around, strict=True))
        return x1, y1, x2, y2

    return Tube(tuple(replace(box, box_xyxy=mean(box.frame)) for box in tube.boxes))


def tube_iou(one: Tube, other: Tube) -> float:
    """Overlap in space and time, 0 to 1: the mean of the boxes' IoU over the frames at which either tube has a box; 0
    at those at which only one has.

    >>> still = FrameBox(0, (0.0, 0.0, 2.0, 2.0), 1.0), FrameBox(1, (0.0, 0.0, 2.0, 2.0), 1.0)
    >>> moving = FrameBox(1, (0.0, 0.0, 2.0, 1.0), 1.0), FrameBox(2, (0.0, 0.0, 2.0, 2.0), 1.0)
    >>> tube_iou(Tube(still), Tube(moving)) == (0 + 1 / 2 + 0) / 3
    True
    """
    first = {box.frame: box.box_xyxy for box in one.boxes}
    second = {box.frame: box.box_xyxy for box in other.boxes}
    shared = sum(float(box_iou(box, second[frame])[0, 0]) for frame, box in first.items() if frame in second)
    return shared / len(first.keys() | second.keys())
