"""Oracle: boxes and scores worked out by hand on small maps."""

import numpy as np
import pytest

from sum3dcam.attribution.boxes import _BOXES_OF_MASK, FrameBox, box_iou, find_boxes
from sum3dcam.contract import BOX_MODES
from sum3dcam.errors import BadOptionError

MODES = pytest.mark.parametrize("box_mode", BOX_MODES)


def frames(*rows_of_frames):
    return np.array(rows_of_frames, np.float32)


def test_the_modes_are_those_of_the_contract():
    assert set(_BOXES_OF_MASK) == set(BOX_MODES)


TWO_BLOBS = frames([
    [1.0, 0.5, 0.0, 0.0, 0.0],
    [0.0, 0.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 0.0, 0.75, 0.75],
    [0.0, 0.0, 0.0, 0.75, 0.0],
])  # fmt: skip


def test_union_is_the_tight_half_open_box_of_all_pixels():
    assert find_boxes(TWO_BLOBS, threshold=0.5, box_mode="union") == (
        FrameBox(frame=0, box_xyxy=(0.0, 0.0, 5.0, 4.0), score=(1 + 0.5 + 3 * 0.75) / 5),
    )


def test_largest_is_the_component_of_most_pixels():
    assert find_boxes(TWO_BLOBS, threshold=0.5, box_mode="largest") == (FrameBox(0, (3.0, 2.0, 5.0, 4.0), 0.75),)


def test_all_gives_every_component_largest_first():
    assert find_boxes(TWO_BLOBS, threshold=0.5, box_mode="all") == (
        FrameBox(0, (3.0, 2.0, 5.0, 4.0), 0.75),
        FrameBox(0, (0.0, 0.0, 2.0, 1.0), 0.75),
    )


def test_a_pixel_exactly_at_the_threshold_is_in_and_one_below_is_out():
    assert find_boxes(TWO_BLOBS, threshold=0.75, box_mode="union")[0].box_xyxy == (0.0, 0.0, 5.0, 4.0)
    assert find_boxes(TWO_BLOBS, threshold=0.76, box_mode="union")[0].box_xyxy == (0.0, 0.0, 1.0, 1.0)


@MODES
def test_the_whole_range_of_thresholds_ends_at_the_peak(box_mode):
    assert find_boxes(TWO_BLOBS, threshold=1.0, box_mode=box_mode) == (FrameBox(0, (0.0, 0.0, 1.0, 1.0), 1.0),)


def test_of_two_components_of_equal_size_the_higher_mean_is_largest():
    tie = frames([[0.5, 0.5, 0.0, 1.0, 0.75]])
    assert find_boxes(tie, threshold=0.5, box_mode="largest") == (FrameBox(0, (3.0, 0.0, 5.0, 1.0), 0.875),)


def test_of_two_equal_components_the_leftmost_is_largest():
    tie = frames([[0.0, 0.0, 0.5], [0.5, 0.0, 0.0]])
    assert find_boxes(tie, threshold=0.5, box_mode="largest") == (FrameBox(0, (0.0, 1.0, 1.0, 2.0), 0.5),)


def test_diagonal_neighbours_are_one_component():
    diagonal = frames([[1.0, 0.0], [0.0, 1.0]])
    assert find_boxes(diagonal, threshold=0.5, box_mode="all") == (FrameBox(0, (0.0, 0.0, 2.0, 2.0), 1.0),)


def test_the_authors_rule_is_halfway_between_the_mean_and_the_max_of_each_frame():
    # Frame 0: mean 0.4, max 1, level 0.7. Frame 1: mean 0.04, max 0.1, level 0.07.
    two = frames([[1.0, 0.7001, 0.2999, 0.0, 0.0]], [[0.06, 0.0, 0.1, 0.04, 0.0]])
    assert [box.box_xyxy for box in find_boxes(two, threshold=None, box_mode="union")] == [
        (0.0, 0.0, 2.0, 1.0),
        (2.0, 0.0, 3.0, 1.0),
    ]


def test_a_given_threshold_is_a_share_of_the_clips_max_so_a_dim_frame_has_no_box():
    two = frames([[1.0, 0.0]], [[0.2, 0.1]])
    assert [box.frame for box in find_boxes(two, threshold=0.5, box_mode="union")] == [0]
    assert [box.frame for box in find_boxes(two, threshold=None, box_mode="union")] == [0, 1]


@MODES
@pytest.mark.parametrize("threshold", [None, 0.5, 1e-9])
def test_a_zero_map_has_no_box(threshold, box_mode):
    assert find_boxes(np.zeros((3, 4, 5), np.float32), threshold=threshold, box_mode=box_mode) == ()


@MODES
@pytest.mark.parametrize("value", [1.0, 0.3, 1e-7])
@pytest.mark.parametrize("threshold", [None, 0.3, 1.0])
def test_a_constant_frame_is_boxed_whole(value, threshold, box_mode):
    # 0.3 has no exact float: a mean that rounds to above the max must not lose the box.
    (box,) = find_boxes(np.full((1, 7, 9), value, np.float32), threshold=threshold, box_mode=box_mode)
    assert box.box_xyxy == (0.0, 0.0, 9.0, 7.0)
    assert box.score == pytest.approx(value, rel=1e-6)


@MODES
def test_a_single_pixel_is_a_box_of_one_by_one(box_mode):
    map_THW = np.zeros((2, 6, 8), np.float32)
    map_THW[1, 4, 7] = 0.25
    assert find_boxes(map_THW, threshold=None, box_mode=box_mode) == (FrameBox(1, (7.0, 4.0, 8.0, 5.0), 0.25),)


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.1, float("nan")])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(BadOptionError, match="threshold"):
        find_boxes(TWO_BLOBS, threshold=threshold, box_mode="union")


def test_an_unknown_box_mode_is_refused_with_those_allowed():
    with pytest.raises(BadOptionError) as caught:
        find_boxes(TWO_BLOBS, threshold=None, box_mode="some")
    assert caught.value.allowed == list(BOX_MODES)


def test_iou_of_half_open_boxes():
    # Overlap 1x1 of two 2x2 boxes: 1 / (4 + 4 - 1).
    np.testing.assert_allclose(box_iou([0, 0, 2, 2], [[1, 1, 3, 3], [2, 0, 4, 2], [0, 0, 2, 2]]), [[1 / 7, 0, 1]])


def test_iou_with_an_empty_box_is_zero():
    np.testing.assert_array_equal(box_iou([1, 1, 1, 1], [[1, 1, 1, 1], [0, 0, 2, 2]]), [[0, 0]])


def test_iou_of_no_boxes_is_an_empty_table():
    assert box_iou([], [[0, 0, 2, 2]]).shape == (0, 1)
