"""Oracles: cases counted by hand; PASCAL VOC's rules in another package (mapcalc), on boxes laid out side by side; a
second implementation, over all recalls, in fractions."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from mapcalc import calculate_map

from sum3dcam.attribution.boxes import FrameBox
from sum3dcam.attribution.tubes import Tube, tube_iou
from sum3dcam.evaluation import detection
from sum3dcam.evaluation.datasets import labelled
from sum3dcam.evaluation.detection import Detection, Truth, frame_map, true_tube, video_map
from sum3dcam.evaluation.statistics import resample

LEFT, RIGHT = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)
HALF = (0.0, 0.0, 10.0, 5.0)  # IoU .5 with LEFT


def test_precision_is_interpolated_over_recall():
    truths = [Truth(("v", frame), "run", LEFT) for frame in range(4)]
    found = [
        Detection(("v", 0), "run", LEFT, 0.9),
        Detection(("v", 0), "run", RIGHT, 0.8),  # nothing there
        Detection(("v", 1), "run", LEFT, 0.7),
        Detection(("v", 2), "run", HALF, 0.6),
    ]
    # Right, wrong, right, right: precisions 1, 3/4 (of the last two, the better), of four truths.
    assert frame_map(truths, found, theta=0.5).by_label == {"run": (1 + 3 / 4 + 3 / 4) / 4}
    assert frame_map(truths, found, theta=0.6).mean.value == pytest.approx((1 + 2 / 3) / 4)


def test_a_truth_is_found_once_and_only_in_its_own_frame():
    truths = [Truth(("v", 0), "run", LEFT), Truth(("v", 1), "run", RIGHT)]
    assert (
        frame_map(
            truths, [Detection(("v", 0), "run", LEFT, 0.9), Detection(("v", 0), "run", LEFT, 0.8)], theta=0.5
        ).mean.value
        == 0.5
    )
    assert (
        frame_map(
            truths, [Detection(("v", 1), "run", LEFT, 0.9), Detection(("v", 0), "run", RIGHT, 0.8)], theta=0.5
        ).mean.value
        == 0.0
    )


def test_a_class_without_detections_counts_as_zero_and_one_without_truth_not_at_all():
    truths = [Truth(("v", 0), "run", LEFT), Truth(("v", 0), "jump", RIGHT)]
    found = frame_map(truths, [Detection(("v", 0), "run", LEFT, 0.1), Detection(("v", 0), "sit", LEFT, 0.9)], theta=0.5)
    assert (found.mean.value, found.by_label) == (0.5, {"jump": 0.0, "run": 1.0})


def test_no_truth_and_a_theta_that_anything_reaches_are_refused():
    with pytest.raises(ValueError, match="at least one truth"):
        frame_map([], [], theta=0.5)
    with pytest.raises(ValueError, match="0 < theta"):
        frame_map([Truth(("v", 0), "run", LEFT)], [], theta=0.0)


def random_case(seed):
    """Detections round and beside the truths of twelve frames, scores all different, whole pixels."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for frame in range(12):
        for label in rng.choice(["run", "jump", "sit"], size=rng.integers(1, 4)).tolist():
            x, y, w, h = rng.integers((0, 0, 10, 10), (60, 60, 40, 40)).tolist()
            truths.append(Truth((frame // 3, frame), label, (x, y, x + w, y + h)))
            for _ in range(rng.integers(0, 4)):
                shift = rng.integers(-8, 9, 4)
                x1, y1, x2, y2 = (np.array([x, y, x + w, y + h]) + shift).tolist()
                said = label if rng.random() < 0.8 else "run"
                found.append(
                    Detection(
                        (frame // 3, frame), said, (x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)), float(rng.random())
                    )
                )
    return truths, found


@pytest.mark.parametrize("theta", [0.2, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(5))
def test_frame_map_is_that_of_another_package(seed, theta):
    truths, found = random_case(seed)

    def inclusive(where, box):  # it knows one picture and inclusive pixels: frames lie side by side in it
        x1, y1, x2, y2 = box
        left = 1000 * where[1]
        return [x1 + left, y1, x2 - 1 + left, y2 - 1]

    by_score = sorted(found, key=lambda one: -one.score)  # it takes them in their order
    theirs = calculate_map(
        {"boxes": [inclusive(one.where, one.region) for one in truths], "labels": [one.label for one in truths]},
        {
            "boxes": [inclusive(one.where, one.region) for one in by_score],
            "labels": [one.label for one in by_score],
            "scores": [one.score for one in by_score],
        },
        theta,
    )
    # Exact but for the order in which float64 adds up.
    assert frame_map(truths, found, theta=theta).mean.value == pytest.approx(theirs, abs=1e-12)


def still(frames, box):
    return Tube(tuple(FrameBox(frame, box, 1.0) for frame in frames))


def brute_video_ap(truths, found, *, theta):
    """For every recall the best precision of any cut of the list that reaches it, in fractions."""
    right, used = [], set()
    for one in sorted(found, key=lambda one: one.score, reverse=True):
        ious = [tube_iou(one.region, truth.region) if truth.where == one.where else -1 for truth in truths]
        best = int(np.argmax(ious))
        right.append(ious[best] >= theta and best not in used)
        used |= {best} if right[-1] else set()
    cuts = [(sum(right[:n]), Fraction(sum(right[:n]), n)) for n in range(1, len(right) + 1)]
    best_at = [max((p for r, p in cuts if r >= recall), default=0) for recall in range(1, len(truths) + 1)]
    return float(sum(best_at) / Fraction(len(truths)))


@pytest.mark.parametrize("seed", range(5))
def test_video_map_is_that_of_a_second_implementation(seed):
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for video in range(8):
        for _ in range(rng.integers(1, 4)):
            first, last = sorted(rng.choice(20, 2, replace=False).tolist())
            x = float(rng.integers(0, 30))
            truths.append(Truth(video, "run", still(range(first, last + 1), (x, 0.0, x + 20, 20.0))))
            for _ in range(rng.integers(0, 3)):
                box = (x + rng.integers(-5, 6), 0.0, x + 20.0, 20.0)
                found.append(Detection(video, "run", still(range(max(0, first - 2), last), box), float(rng.random())))
    assert video_map(truths, found, theta=0.4).mean.value == pytest.approx(
        brute_video_ap(truths, found, theta=0.4), abs=1e-12
    )


def test_tubes_overlap_in_time_as_well_as_in_space():
    # Frames 2 to 5 of 0 to 7, half the box: 4 * .5 / 8.
    whole, part = still(range(8), LEFT), still(range(2, 6), HALF)
    assert tube_iou(whole, part) == 0.25
    truths, found = [Truth("v", "run", whole)], [Detection("v", "run", part, 1.0)]
    assert video_map(truths, found, theta=0.25).mean.value == 1.0
    assert video_map(truths, found, theta=0.26).mean.value == 0.0


def test_ground_truth_with_a_frame_missing_is_a_tube_with_a_gap():
    boxes = np.array([[0, 0, 10, 10], [np.nan] * 4, [1, 0, 11, 10]], np.float32)
    tube = true_tube(labelled.Tube("run", 3, boxes))
    assert [(box.frame, box.box_xyxy) for box in tube.boxes] == [(3, (0, 0, 10, 10)), (5, (1, 0, 11, 10))]


def test_the_interval_is_of_videos_drawn_with_all_their_frames(monkeypatch):
    """Oracle: every resample written out, its videos repeated under names of their own."""
    truths, found = random_case(3)
    weights = resample(4)[:60]
    # Places of videos are those of their first truth.
    assert list(dict.fromkeys(one.where[0] for one in truths)) == [0, 1, 2, 3]
    monkeypatch.setattr(detection, "resample", lambda num_videos: weights)
    estimated = frame_map(truths, found, theta=0.5).mean

    def repeated(items, drawn):
        copies = ((one, copy) for one in items for copy in range(drawn[one.where[0]]))
        return [replace(one, where=((one.where[0], copy), one.where[1])) for one, copy in copies]

    monkeypatch.setattr(detection, "resample", lambda num_videos: np.ones((1, num_videos)))
    means = [
        frame_map(repeated(truths, drawn), repeated(found, drawn), theta=0.5).mean.value
        for drawn in weights.astype(int)
    ]
    assert (estimated.low, estimated.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-12)
    assert estimated.low < estimated.value < estimated.high
