"""Oracles: tubes worked out by hand; random boxes against a search of all assignments; IoU by counting pixels."""

from itertools import combinations, pairwise, permutations, product

import numpy as np
import pytest

from sum3dcam.attribution.boxes import FrameBox
from sum3dcam.attribution.tubes import Tube, link, smooth, tube_iou


def box(frame, x, y=0.0, *, size=4.0, score=0.5):
    return FrameBox(frame, (float(x), float(y), float(x + size), float(y + size)), score)


def frames_of(tubes):
    return [[each.frame for each in tube.boxes] for tube in tubes]


def test_no_boxes_no_tubes():
    assert link([]) == ()


def test_a_box_that_moves_is_one_tube():
    walk = [box(frame, frame) for frame in range(9)]
    assert link(walk) == (Tube(tuple(walk)),)


def test_two_boxes_that_cross_keep_apart_by_their_overlap():
    right = [box(frame, frame, 0.0) for frame in range(7)]
    left = [box(frame, 6 - frame, 2.0) for frame in range(7)]
    assert {tube.boxes for tube in link(right + left)} == {tuple(right), tuple(left)}


def test_the_assignment_is_the_best_of_all_not_the_best_pair_first():
    # Columns 1.5 and 5 before, 4 and 6.5 behind. The best pair is 5 -> 4 (3 of 5 columns), and then 1.5 -> 6.5 do not
    # touch: a sum of 0.6. The best sum is 1.5 -> 4 (1.5 of 6.5) and 5 -> 6.5 (2.5 of 5.5), 0.685.
    boxes = [box(0, 1.5), box(0, 5.0), box(1, 4.0), box(1, 6.5)]
    tubes = link(boxes, min_iou=0.2)
    assert {tube.boxes for tube in tubes} == {(boxes[0], boxes[2]), (boxes[1], boxes[3])}


def test_a_pair_below_the_least_overlap_is_not_linked_and_one_at_it_is():
    pair = [box(0, 0.0), box(1, 2.0)]  # 2 of 6 columns
    assert frames_of(link(pair, min_iou=1 / 3)) == [[0, 1]]
    assert frames_of(link(pair, min_iou=0.34)) == [[0], [1]]


def test_a_pair_that_is_not_allowed_does_not_count_in_the_sum():
    # 0 -> 1 is the best allowed pair (0.6). 0 -> -1.25 (0.52) with 3.6 -> 1 (0.21) would be a greater sum.
    boxes = [box(0, 0.0), box(0, 3.6), box(1, 1.0), box(1, -1.25)]
    assert {tube.boxes for tube in link(boxes, min_iou=0.3)} == {(boxes[0], boxes[2]), (boxes[1],), (boxes[3],)}


@pytest.mark.parametrize(
    ("max_gap_frames", "expected"), [(2, [[0, 3]]), (3, [[0, 3]]), (1, [[0], [3]]), (0, [[0], [3]])]
)
def test_a_gap_is_bridged_up_to_its_greatest_length(max_gap_frames, expected):
    assert frames_of(link([box(0, 0.0), box(3, 0.0)], max_gap_frames=max_gap_frames)) == expected


def test_a_tube_that_waits_takes_its_box_back():
    # The map's peak jumps away for a frame.
    there, away = [box(0, 0.0), box(1, 0.0), box(3, 0.0)], [box(2, 50.0)]
    assert frames_of(link(there + away)) == [[0, 1, 3], [2]]


def test_a_tubes_score_is_the_mean_and_its_rank_the_sum():
    faint = [box(frame, 0.0, score=0.25) for frame in range(4)]
    flash = [box(1, 50.0, score=0.75)]
    blink = [box(2, 90.0, score=0.875)]
    tubes = link(flash + faint + blink)
    assert [(tube.score, tube.total_score) for tube in tubes] == [(0.25, 1.0), (0.875, 0.875), (0.75, 0.75)]


def test_of_equal_sums_the_earlier_then_the_leftmost_comes_first():
    boxes = [box(1, 0.0), box(0, 50.0), box(0, 20.0)]
    assert [tube.boxes[0] for tube in link(boxes)] == [boxes[2], boxes[1], boxes[0]]


@pytest.mark.parametrize(
    "wrong", [{"min_iou": 0.0}, {"min_iou": 1.1}, {"min_iou": float("nan")}, {"max_gap_frames": -1}]
)
def test_limits_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="min_iou"):
        link([], **wrong)


# The oracle of linking: plain loops over every assignment.


def plain_iou(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    overlap = max(width, 0.0) * max(height, 0.0)
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return overlap / (areas - overlap)


def best_assignment(last, found, min_iou):
    """Of all sets of allowed pairs without a common member, that of the greatest sum of IoU."""
    best, best_sum = (), 0.0
    for count in range(1, min(len(last), len(found)) + 1):
        for rows, columns in product(combinations(range(len(last)), count), permutations(range(len(found)), count)):
            ious = [
                plain_iou(last[row].box_xyxy, found[column].box_xyxy) for row, column in zip(rows, columns, strict=True)
            ]
            if min(ious) >= min_iou and sum(ious) > best_sum:
                best, best_sum = tuple(zip(rows, columns, strict=True)), sum(ious)
    return best


def linked_by_search(boxes, *, min_iou, max_gap_frames):
    tubes = []
    for frame in range(max(each.frame for each in boxes) + 1):
        found = [each for each in boxes if each.frame == frame]
        live = [tube for tube in tubes if frame - tube[-1].frame <= max_gap_frames + 1]
        pairs = best_assignment([tube[-1] for tube in live], found, min_iou)
        for row, column in pairs:
            live[row].append(found[column])
        tubes += [[each] for column, each in enumerate(found) if column not in {column for _, column in pairs}]
    return {tuple(tube) for tube in tubes}


def crowd(seed):
    """Up to four boxes of random sizes on each of ten frames, close enough that most overlap some; no two alike."""
    rng = np.random.default_rng(seed)
    boxes = []
    for frame in range(10):
        for _ in range(rng.integers(0, 5)):
            (x, y), (width, height) = rng.uniform(0, 12, 2), rng.uniform(4, 12, 2)
            corners = tuple(float(value) for value in (x, y, x + width, y + height))
            boxes.append(FrameBox(frame, corners, float(rng.uniform())))
    return boxes


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize(("min_iou", "max_gap_frames"), [(0.3, 5), (0.1, 1), (0.5, 0)])
def test_random_boxes_link_as_a_search_of_all_assignments_says(seed, min_iou, max_gap_frames):
    boxes = crowd(seed)
    tubes = link(boxes, min_iou=min_iou, max_gap_frames=max_gap_frames)
    expected = linked_by_search(boxes, min_iou=min_iou, max_gap_frames=max_gap_frames)
    assert {tube.boxes for tube in tubes} == expected
    # And what holds whatever the assignment: each box in one tube, links within both limits, best first.
    assert sorted((each.frame, each.box_xyxy) for tube in tubes for each in tube.boxes) == sorted(
        (each.frame, each.box_xyxy) for each in boxes
    )
    for tube in tubes:
        for before, behind in pairwise(tube.boxes):
            assert 1 <= behind.frame - before.frame <= max_gap_frames + 1
            assert plain_iou(before.box_xyxy, behind.box_xyxy) >= min_iou
    sums = [tube.total_score for tube in tubes]
    assert sums == sorted(sums, reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_boxes_does_not_matter(seed):
    boxes = crowd(seed)
    shuffled = [boxes[place] for place in np.random.default_rng(seed).permutation(len(boxes))]
    assert link(shuffled) == link(boxes)


# Smoothing.


def test_smoothing_is_a_centred_mean_that_takes_frames_in_pairs():
    tube = Tube(tuple(box(frame, x) for frame, x in enumerate([0, 3, 0, 3, 0])))
    xs = [each.box_xyxy[0] for each in smooth(tube, radius_frames=2).boxes]
    # Ends: alone. Second and fourth: one pair, (0 + 3 + 0) / 3. Middle: two pairs, (0 + 3 + 0 + 3 + 0) / 5.
    assert xs == pytest.approx([0, 1, 1.2, 1, 0], abs=1e-12)


@pytest.mark.parametrize("radius_frames", [0, 1, 2, 7])
def test_even_motion_stays_as_it_is_beside_gaps_and_at_the_ends(radius_frames):
    # Grows while it moves; frames 4 and 5 are missing.
    tube = Tube(tuple(box(frame, 2.5 * frame, frame, size=4.0 + 0.5 * frame) for frame in (0, 1, 2, 3, 6, 7, 8)))
    smoothed = smooth(tube, radius_frames=radius_frames)
    for before, after in zip(tube.boxes, smoothed.boxes, strict=True):
        assert after.box_xyxy == pytest.approx(before.box_xyxy, abs=1e-12)  # float64 sums of a few numbers below 30


@pytest.mark.parametrize("seed", range(5))
def test_smoothing_changes_neither_frames_nor_scores_and_makes_the_path_calmer(seed):
    rng = np.random.default_rng(seed)
    frames = np.flatnonzero(rng.uniform(size=60) < 0.9)
    tube = Tube(tuple(box(int(frame), frame + rng.normal(), score=float(rng.uniform())) for frame in frames))
    smoothed = smooth(tube)
    assert [(each.frame, each.score) for each in smoothed.boxes] == [(each.frame, each.score) for each in tube.boxes]
    jitter = [np.std([each.box_xyxy[0] - each.frame for each in one.boxes]) for one in (tube, smoothed)]
    assert jitter[1] < 0.7 * jitter[0]  # 1 / sqrt(5) where both pairs are there, more beside gaps


# Spatio-temporal IoU.


def pixel_iou(one, other):
    """The mean over the union of frames, each frame's IoU by counting the pixels of whole-numbered boxes."""

    def pixels(tube, frame):
        return {
            (x, y)
            for each in tube.boxes
            if each.frame == frame
            for x in range(int(each.box_xyxy[0]), int(each.box_xyxy[2]))
            for y in range(int(each.box_xyxy[1]), int(each.box_xyxy[3]))
        }

    frames = {each.frame for tube in (one, other) for each in tube.boxes}
    ious = []
    for frame in sorted(frames):
        first, second = pixels(one, frame), pixels(other, frame)
        ious.append(len(first & second) / len(first | second))
    return sum(ious) / len(ious)


def random_tube(rng):
    frames = np.flatnonzero(rng.uniform(size=8) < 0.7)
    return Tube(tuple(box(int(frame), *rng.integers(0, 5, 2), size=int(rng.integers(1, 6))) for frame in [*frames, 8]))


@pytest.mark.parametrize("seed", range(20))
def test_the_iou_of_tubes_is_that_of_counted_pixels(seed):
    rng = np.random.default_rng(seed)
    one, other = random_tube(rng), random_tube(rng)
    # Both are sums of at most nine fractions below 1 in float64.
    assert tube_iou(one, other) == pytest.approx(pixel_iou(one, other), abs=1e-12)
    assert tube_iou(other, one) == pytest.approx(tube_iou(one, other), abs=1e-12)
    assert tube_iou(one, one) == pytest.approx(1.0, abs=1e-12)


def test_tubes_of_other_frames_do_not_overlap():
    assert tube_iou(Tube((box(0, 0.0),)), Tube((box(1, 0.0),))) == 0.0
