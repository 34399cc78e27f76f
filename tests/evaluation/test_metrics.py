"""Oracles: worked out by hand, and Choe et al.'s procedure written as plain loops."""

import cv2
import numpy as np
import pytest

from sum3dcam.evaluation.metrics import (
    centred_boxes,
    contour_boxes,
    distance_px,
    fixed_box_ious,
    inclusive_iou,
    map_ious,
    peak_xy,
    scoremap_u8,
)


def test_iou_of_inclusive_boxes_counts_the_last_pixel():
    # Pixels 0..1 and 1..2 in both directions: the same 1 / 7; a box of one pixel has the area 1.
    np.testing.assert_allclose(inclusive_iou([0, 0, 1, 1], [1, 1, 2, 2]), [[1 / 7]])
    np.testing.assert_allclose(inclusive_iou([3, 3, 3, 3], [3, 3, 3, 3]), [[1]])


def test_a_map_is_stretched_over_its_range_and_truncated():
    np.testing.assert_array_equal(scoremap_u8(np.array([[-1.0, 0.0, 1.0]])), [[0, 127, 255]])


@pytest.mark.parametrize("value", [0.0, 0.4, -2.0, np.nan])
def test_a_constant_map_says_nothing(value):
    assert not scoremap_u8(np.full((2, 3), value)).any()


def test_the_threshold_is_strict_and_a_whole_number():
    scoremap = np.array([[0, 100, 101, 0, 0, 200]], np.uint8)
    boxes, _ = contour_boxes(scoremap, threshold=0.5049)  # int(100.98) = 100: 100 is out, 101 is in
    assert sorted(boxes.tolist()) == [[2, 0, 3, 0], [5, 0, 5, 0]]


def test_a_contours_box_ends_one_past_its_last_pixel_but_inside_the_map():
    scoremap = np.zeros((6, 8), np.uint8)
    scoremap[1:3, 2:4] = 255
    assert contour_boxes(scoremap, threshold=0.5)[0].tolist() == [[2, 1, 4, 3]]
    scoremap[:] = 255
    assert contour_boxes(scoremap, threshold=0.5)[0].tolist() == [[0, 0, 7, 5]]


def test_a_map_without_contour_gives_the_pixel_in_the_corner():
    boxes, largest = contour_boxes(np.zeros((4, 4), np.uint8), threshold=0.0)
    assert boxes.tolist() == [[0, 0, 0, 0]]
    assert largest == 0


# A 4x4 blob far from the truth and a 3x3 blob on it, half as high.
def two_blobs():
    map_HW = np.zeros((20, 20))
    map_HW[10:14, 12:16] = 1.0
    map_HW[2:5, 3:6] = 0.5
    return map_HW


def test_v1_takes_the_largest_contour_and_v2_the_best():
    ious = map_ious(two_blobs(), truth_N4=[3, 2, 6, 5], thresholds=(0.25, 0.75))
    # The small blob's box is columns 3..6 and rows 2..5, one more than its pixels: 9 / 16.
    np.testing.assert_allclose(ious.v1_P, [0, 0])
    np.testing.assert_allclose(ious.v2_P, [9 / 16, 0])


def test_the_nearest_of_several_truths_counts():
    ious = map_ious(two_blobs(), truth_N4=[[12, 10, 17, 15], [0, 0, 1, 1]], thresholds=(0.75,))
    np.testing.assert_allclose(ious.v1_P, [1])


def choe_ious(map_HW, truth_xyxy, threshold):
    """One map, one threshold, one truth (inclusive), as the paper's code goes about it."""
    low = map_HW - map_HW.min()
    image = (low / low.max() * 255).astype(np.uint8)
    mask = np.where(image > int(threshold * image.max()), 255, 0).astype(np.uint8)
    contours = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]

    def iou(contour):
        x, y, w, h = cv2.boundingRect(contour)
        x2, y2 = min(x + w, map_HW.shape[1] - 1), min(y + h, map_HW.shape[0] - 1)
        tx1, ty1, tx2, ty2 = truth_xyxy
        wide = max(0.0, min(x2, tx2) - max(x, tx1) + 1)
        high = max(0.0, min(y2, ty2) - max(y, ty1) + 1)
        both = (x2 - x + 1) * (y2 - y + 1) + (tx2 - tx1 + 1) * (ty2 - ty1 + 1)
        return wide * high / (both - wide * high)

    return iou(max(contours, key=cv2.contourArea)), max(iou(contour) for contour in contours)


@pytest.mark.parametrize("seed", range(5))
def test_maps_of_many_contours_agree_with_the_procedure_in_loops(seed):
    rng = np.random.default_rng(seed)
    map_HW = cv2.GaussianBlur(rng.standard_normal((40, 50)), (0, 0), 2.0)
    thresholds = [step / 20 for step in range(20)]
    ious = map_ious(map_HW, truth_N4=[10.5, 7.0, 30.25, 24.0], thresholds=thresholds)
    oracle = [choe_ious(map_HW, (10.5, 7.0, 29.25, 23.0), threshold) for threshold in thresholds]
    np.testing.assert_allclose(ious.v1_P, [v1 for v1, _ in oracle], atol=1e-12)
    np.testing.assert_allclose(ious.v2_P, [v2 for _, v2 in oracle], atol=1e-12)


def test_centred_boxes_are_shares_of_each_side():
    np.testing.assert_allclose(
        centred_boxes((1.0, 0.5), width_px=20, height_px=10), [[0, 0, 20, 10], [5, 2.5, 15, 7.5]]
    )


def test_the_full_frame_scores_the_truths_share_of_it():
    ious = fixed_box_ious(centred_boxes((1.0,), width_px=10, height_px=10), truth_N4=[0, 0, 5, 4])
    np.testing.assert_allclose(ious.v1_P, [0.2])
    np.testing.assert_allclose(ious.v2_P, [0.2])


def test_the_peak_is_the_centre_of_the_highest_pixel():
    map_HW = np.zeros((4, 6))
    map_HW[1, 3] = map_HW[2, 0] = 1
    assert peak_xy(map_HW) == (3.5, 1.5)


@pytest.mark.parametrize(
    ("point", "distance"),
    [((5.0, 5.0), 0.0), ((4.0, 8.0), 0.0), ((1.0, 5.0), 3.0), ((1.0, 12.0), 5.0), ((9.0, 3.0), 2**0.5)],
)
def test_distance_to_a_box_is_zero_inside_and_straight_outside(point, distance):
    assert distance_px(point, truth_N4=[[4, 4, 8, 8]]) == pytest.approx(distance)


def test_distance_is_to_the_nearest_of_several_boxes():
    assert distance_px((0.0, 0.0), truth_N4=[[10, 0, 11, 1], [2, 0, 3, 1]]) == 2.0
