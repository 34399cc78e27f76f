"""Oracle: the same pictures in a file, and decoded one by one."""

import dataclasses

import cv2
import numpy as np
import pytest

from sum3dcam.errors import UnreadableMediaError
from sum3dcam.evaluation.datasets.frames import frame_files, read_frames
from sum3dcam.evaluation.datasets.labelled import LabelledVideo, no_tubes
from sum3dcam.video.footage import FrameSpec

SPEC = FrameSpec(
    size_px=24, preprocessing="shorter-side-centre-crop", clip_length=4, streams=("rgb",), frames_per_second=None
)


def at(path):
    return LabelledVideo(path, "wave", no_tubes, key="wave/one")


def test_a_file_is_decoded(tmp_path, write):
    write["video"](tmp_path / "a.avi", num_frames=5)
    assert read_frames(at(tmp_path / "a.avi"), spec=SPEC).frames_THWC.shape == (5, 24, 24, 3)


def test_numbered_images_are_one_video_in_order_of_their_numbers(tmp_path, write):
    # 10 sorts before 9 as text; a Mac's hidden files, which are no images, lie beside.
    for number in range(1, 11):
        write["image"](tmp_path / f"{number}.png", index=number)
    write["text"](tmp_path / "._1.png", "no image")
    write["text"](tmp_path / "Thumbs.db", "no image")
    video = read_frames(at(tmp_path), spec=dataclasses.replace(SPEC, frames_per_second=5.0))
    # The right half of the square is as bright as the number says.
    assert video.frames_THWC[:, 12, -1, 1].tolist() == [20 * number for number in range(1, 11)]
    assert (video.num_source_frames, video.source_frames) == (10, tuple(range(10)))
    assert (video.geometry.source_width_px, video.geometry.source_height_px) == (32, 24)


def test_flow_of_numbered_images_is_computed_across_them(tmp_path, write):
    for number in range(2):
        write["image"](tmp_path / f"{number:05d}.jpg", index=3)
    flow = read_frames(at(tmp_path), spec=dataclasses.replace(SPEC, streams=("rgb", "flow")))
    assert flow.frames_THWC.shape == (2, 24, 24, 5)
    np.testing.assert_array_equal(flow.frames_THWC[..., 3:], 128)  # nothing moves


def test_a_frame_that_is_missing_is_named(tmp_path, write):
    for number in (1, 2, 4):
        write["image"](tmp_path / f"{number:05d}.png")
    with pytest.raises(FileNotFoundError, match="frame 3 is missing of 4"):
        frame_files(tmp_path)


def test_a_folder_without_its_first_frames_is_not_taken_for_a_shorter_video(tmp_path, write):
    write["image"](tmp_path / "00002.png")
    with pytest.raises(FileNotFoundError, match="frame 1 is missing of 2"):
        frame_files(tmp_path)


def test_a_folder_without_images_and_a_missing_video_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no numbered frames"):
        read_frames(at(tmp_path), spec=SPEC)
    with pytest.raises(FileNotFoundError, match=r"gone\.avi: no such video; unpack"):
        read_frames(at(tmp_path / "gone.avi"), spec=SPEC)


def test_images_of_different_sizes_are_refused(tmp_path, write):
    write["image"](tmp_path / "1.png")
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((24, 40, 3), np.uint8))
    with pytest.raises(ValueError, match=r"image 1 of the folder has \(40, 24\) pixels, the first \(32, 24\)"):
        read_frames(at(tmp_path), spec=SPEC)


def test_a_damaged_video_is_named(tmp_path, write):
    write["text"](tmp_path / "a.avi", "RIFF no video")
    with pytest.raises(UnreadableMediaError, match="wave/one: "):
        read_frames(at(tmp_path / "a.avi"), spec=SPEC)
