"""Oracle: puppets drawn by hand, saved by SciPy as MATLAB saves them."""

import numpy as np
import pytest
from scipy.io import savemat

from sum3dcam.evaluation.datasets.frames import read_frames
from sum3dcam.evaluation.datasets.jhmdb import joint_boxes, mask_boxes, read_jhmdb
from sum3dcam.video.footage import FrameSpec

NAME = "The_Matrix_(1999)_#2_catch;_f_cm_np1_fr_goo_1"
HEIGHT, WIDTH = 240, 320


def save(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, content, do_compression=True)


def masks(num_frames):
    mask = np.zeros((HEIGHT, WIDTH, num_frames), np.uint8)
    for frame in range(num_frames):
        mask[20:60, 100 + frame : 150 + frame, frame] = 1 + frame
    return mask


def joints(num_frames):
    """(2,15,T): x and y counted from 1, all on one spot but two."""
    positions = np.full((2, 15, num_frames), 50.0)
    positions[:, 3] = [[30.0], [40.0]]
    positions[:, 7] = [[90.5], [200.0]]
    return positions


@pytest.fixture
def directory(tmp_path, write):
    write["text"](tmp_path / "splits" / "catch_test_split1.txt", f"{NAME}.avi 2 \r\nother.avi 1 \r\n")
    for number in range(1, 6):
        write["image"](tmp_path / "Rename_Images" / "catch" / NAME / f"{number:05d}.png", width=WIDTH, height=HEIGHT)
    return tmp_path


def mat(directory, name):
    return directory / name / "catch" / NAME / f"{name}.mat"


def boxes(directory):
    (tube,) = read_jhmdb(directory).videos[0].read_tubes()
    assert (tube.label, tube.first_frame, tube.boxes_xyxy_px.dtype) == ("catch", 0, np.float32)
    return tube.boxes_xyxy_px


def test_the_truth_is_the_masks_extent_half_open(directory):
    save(mat(directory, "puppet_mask"), part_mask=masks(5))
    data = read_jhmdb(directory)
    assert (data.labels, data.videos[0].key, data.videos[0].frame_size_px) == (("catch",), f"catch/{NAME}", (320, 240))
    # No joints file is there: it is not asked for.
    np.testing.assert_array_equal(boxes(directory), [[100 + frame, 20, 150 + frame, 60] for frame in range(5)])
    video = read_frames(data.videos[0], spec=FrameSpec(24, "squash", None, ("rgb",), None))
    assert video.num_source_frames == 5


def test_masks_shorter_than_the_video_leave_its_last_frames_without_truth(directory):
    save(mat(directory, "puppet_mask"), part_mask=masks(3))
    assert len(boxes(directory)) == 3


def test_a_single_frame_has_lost_its_last_axis(directory):
    save(mat(directory, "puppet_mask"), part_mask=masks(1)[..., 0])
    np.testing.assert_array_equal(boxes(directory), [[100, 20, 150, 60]])


def test_where_a_mask_is_empty_the_joints_extent_is_taken_and_others_keep_theirs(directory):
    mask = masks(4)
    mask[..., [1, 3]] = 0
    save(mat(directory, "puppet_mask"), part_mask=mask)
    # Joints end before the masks do.
    save(mat(directory, "joint_positions"), pos_img=joints(3), scale=np.ones((1, 3)))
    got = boxes(directory)
    np.testing.assert_array_equal(got[[0, 2]], [[100, 20, 150, 60], [102, 20, 152, 60]])
    np.testing.assert_array_equal(got[1], [29, 39, 90.5, 200])
    assert np.isnan(got[3]).all()


def test_joints_are_counted_from_1_and_cut_at_the_frame():
    positions = np.array([[[-20.0, 400.0], [1.0, 350.0]], [[1.0, 5.0], [240.0, 6.0]]])  # (2, 2 joints, 2 frames)
    got = joint_boxes(positions, frame_size_px=(320, 240))
    np.testing.assert_array_equal(got[0], [0, 0, 1, 240])
    assert np.isnan(got[1]).all()


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.float64, np.int32])
def test_a_mask_may_touch_every_edge(dtype):
    mask = np.zeros((3, 4, 3), dtype)
    mask[:, :, 0] = 1
    mask[2, 3, 2] = 1
    got = mask_boxes(mask)
    np.testing.assert_array_equal(got[[0, 2]], [[0, 0, 4, 3], [3, 2, 4, 3]])
    assert np.isnan(got[1]).all()


def test_a_missing_mask_names_the_file_and_the_archive(directory):
    with pytest.raises(FileNotFoundError, match=r"puppet_mask\.mat: no such file; unpack JHMDB's puppet_mask\.zip"):
        boxes(directory)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"no MATLAB file"),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(64)),
        lambda path: path.write_bytes(b""),
        lambda path: savemat(path, {"other": np.zeros(3)}),
        lambda path: savemat(path, {"part_mask": np.array(["a", {"a": 1}], dtype=object)}),
        lambda path: savemat(path, {"part_mask": np.zeros((2, 3, 4, 5))}),
    ],
)
def test_a_damaged_mask_is_named(directory, spoil):
    path = mat(directory, "puppet_mask")
    save(path, part_mask=masks(2))
    spoil(path)
    with pytest.raises(ValueError, match=r"puppet_mask\.mat: "):
        boxes(directory)


def test_joints_of_another_shape_are_named(directory):
    save(mat(directory, "puppet_mask"), part_mask=np.zeros((HEIGHT, WIDTH, 2), np.uint8))
    save(mat(directory, "joint_positions"), pos_img=np.zeros((15, 2, 2)))
    with pytest.raises(ValueError, match=r"joint_positions\.mat: got joints \(15, 2, 2\)"):
        boxes(directory)
