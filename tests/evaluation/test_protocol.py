"""Oracle: maps of one bright square and boxes whose overlaps are counted by hand."""

import numpy as np

from sum3dcam.evaluation.protocol import MapTally, fixed_box_counts, frame_scores


def square_map(x, y, side, *, size=20, value=1.0):
    map_HW = np.zeros((size, size), np.float32)
    map_HW[y : y + side, x : x + side] = value
    return map_HW


def boxes(*rows):
    return np.array(rows, np.float64).reshape(-1, 4)


def test_the_authors_box_is_scored_against_the_best_of_several_actors():
    # The map's square is [4,12) x [4,12): IoU 32 / 96 with the first, 64 / 100 with the second.
    scores = frame_scores(square_map(4, 4, 8), truth_N4=boxes([8, 4, 16, 12], [4, 4, 14, 14]), thresholds=(0.5,))
    assert scores.hit
    assert scores.iou == 0.64


def test_touching_is_no_hit_and_one_shared_pixel_is():
    lit = square_map(4, 4, 8)
    assert not frame_scores(lit, truth_N4=boxes([12, 4, 16, 12]), thresholds=(0.5,)).hit
    assert frame_scores(lit, truth_N4=boxes([11, 11, 20, 20]), thresholds=(0.5,)).hit


def test_an_empty_map_and_a_truth_outside_the_crop_score_nothing():
    empty = frame_scores(np.zeros((20, 20), np.float32), truth_N4=boxes([2, 2, 9, 9]), thresholds=(0.0, 0.5))
    assert (empty.hit, empty.iou) == (False, 0.0)
    outside = frame_scores(square_map(4, 4, 8), truth_N4=boxes(), thresholds=(0.0, 0.5))
    assert (outside.hit, outside.iou, outside.oracle, outside.largest_P.tolist()) == (False, 0.0, 0.0, [0.0, 0.0])


def test_the_oracle_takes_a_threshold_and_a_contour_that_no_rule_would():
    # A dim large square without truth, a bright small one with: the union spans both, at t 0.5 only the small is left.
    map_HW = np.maximum(square_map(0, 0, 8, value=0.4), square_map(12, 12, 4))
    scores = frame_scores(map_HW, truth_N4=boxes([12, 12, 17, 17]), thresholds=(0.0, 0.5))
    # Choe et al.'s boxes are one pixel wider than the contour: here exactly the truth.
    assert scores.oracle == 1.0
    assert scores.largest_P.tolist() == [0.0, 1.0]
    # The authors' rule: (0.4 * 64 + 16) / 400 = .104, + .448 = .552: the small square alone, 16 / 25.
    assert scores.iou == 0.64


def test_the_oracle_may_take_a_contour_that_is_never_the_largest():
    map_HW = np.maximum(square_map(0, 0, 8), square_map(12, 12, 4))
    scores = frame_scores(map_HW, truth_N4=boxes([12, 12, 17, 17]), thresholds=(0.0, 0.5))
    assert (scores.largest_P.tolist(), scores.oracle) == ([0.0, 0.0], 1.0)


def test_counts_are_per_theta_and_acc2_wants_the_class_right_as_well():
    tally = MapTally(thetas=(0.5, 0.6, 0.7), thresholds=(0.5,))
    for right in (True, False, False):
        tally.add(square_map(4, 4, 8), truth_N4=boxes([4, 4, 14, 14]), class_right=right)  # IoU 0.64
    tally.add(square_map(4, 4, 8), truth_N4=boxes([13, 13, 14, 14]), class_right=True)  # misses
    counts = {name: count.tolist() for name, count in tally.counts.items()}
    assert (counts["hit"], counts["hit_right"]) == (3, 1)
    assert (counts["box"], counts["box_right"]) == ([3, 3, 0], [1, 1, 0])
    # 9 x 9 inclusive against 10 x 10: .81.
    assert (counts["sweep"], counts["sweep_right"]) == ([[3, 3, 3]], [[1, 1, 1]])
    assert (counts["oracle"], counts["oracle_right"]) == ([3, 3, 3], [1, 1, 1])


def test_a_fixed_box_is_scored_in_annotated_frames_alone():
    truth = [boxes([0, 0, 5, 10]), None, boxes(), boxes([0, 0, 1, 1], [0, 0, 10, 8]), boxes([20, 20, 30, 30])]
    counts = fixed_box_counts([0, 0, 10, 10], truth=truth, thetas=(0.5, 0.6), right=[True, True, True, False, True])
    # IoU .5 in the first, nothing in the third, .8 in the fourth, none in the last.
    assert {name: count.tolist() for name, count in counts.items()} == {
        "hit": 2,
        "box": [2, 1],
        "hit_right": 1,
        "box_right": [1, 0],
    }


def test_without_any_truth_a_fixed_box_counts_nothing():
    assert fixed_box_counts([0, 0, 1, 1], truth=[None, None], thetas=(0.5,))["box"].tolist() == [0]
