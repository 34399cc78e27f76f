import pickle

import numpy as np
import pytest

from sum3dcam.evaluation.datasets.frames import read_frames
from sum3dcam.evaluation.datasets.ucf24 import read_ucf24
from sum3dcam.video.footage import FrameSpec

BIKE, DIVE = "Biking/v_Biking_g01_c01", "Diving/v_Diving_g01_c02"


def actor(first, boxes, *, dtype=np.uint8):
    return {"label": 0, "sf": first, "ef": first + len(boxes), "boxes": np.array(boxes, dtype, order="F")}


ANNOTATIONS = {
    # Two actors, from frame 0 and from frame 2; 200 + 100 and 180 + 60 overflow in uint8.
    np.str_(BIKE): {
        "annotations": [actor(0, [[200, 10, 100, 20]] * 3), actor(2, [[10, 180, 20, 60], [11, 181, 20, 59]])],
        "numf": np.uint8(6),
        "label": 0,
    },
    np.str_(DIVE): {
        "annotations": [actor(1, [[300, 0, 20, 240]], dtype=np.uint16)],
        "numf": np.uint16(300),
        "label": 1,
    },
    np.str_("Diving/v_Diving_g09_c09"): {"annotations": [], "numf": np.uint8(9), "label": 1},
}


def write_annotations(path, annotations=ANNOTATIONS):
    data = pickle.dumps(annotations, protocol=3)
    path.write_bytes(data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


@pytest.fixture
def directory(tmp_path, write):
    write_annotations(tmp_path / "pyannot.pkl")
    # UCF101's own list would do too: other classes, endings, a video without annotation.
    write["text"](
        tmp_path / "testlist01.txt", f"{DIVE}.avi \r\n{BIKE}\nYoYo/v_YoYo_g01_c01.avi\nBiking/v_Biking_g07_c07"
    )
    return tmp_path


def test_boxes_are_read_without_any_video(directory):
    data = read_ucf24(directory, split="test1")
    assert data.labels == ("Biking", "Diving")
    assert [video.key for video in data.videos] == [DIVE, BIKE]
    dive, bike = data.videos
    assert (bike.frame_size_px, bike.num_frames, dive.num_frames) == ((320, 240), 6, 300)
    assert bike.path == directory / "rgb-images" / BIKE
    assert data.provenance["videos_without_annotation"] == 1
    assert data.provenance["videos_in_set"] == 2


def test_sums_of_corner_and_size_do_not_overflow(directory):
    dive, bike = read_ucf24(directory).videos
    first, second = bike.read_tubes()
    assert (first.label, first.first_frame, second.first_frame) == ("Biking", 0, 2)
    np.testing.assert_array_equal(first.boxes_xyxy_px, [[200, 10, 300, 30]] * 3)
    np.testing.assert_array_equal(second.boxes_xyxy_px, [[10, 180, 30, 240], [11, 181, 31, 240]])
    assert first.boxes_xyxy_px.dtype == np.float32
    (only,) = dive.read_tubes()
    assert (only.first_frame, only.boxes_xyxy_px.tolist()) == (1, [[300, 0, 320, 240]])


def test_reading_twice_gives_the_same(directory):
    video = read_ucf24(directory, limit=1).videos[0]
    np.testing.assert_array_equal(video.read_tubes()[0].boxes_xyxy_px, video.read_tubes()[0].boxes_xyxy_px)


def test_frames_come_from_the_images_or_from_ucf101s_files(directory, write):
    spec = FrameSpec(24, "squash", None, ("rgb",), None)
    write["video"](directory / "UCF-101" / f"{BIKE}.avi", num_frames=6)
    assert read_frames(read_ucf24(directory).videos[1], spec=spec).num_source_frames == 6
    for number in (1, 2):
        write["image"](directory / "rgb-images" / BIKE / f"{number:05d}.jpg")
    assert read_frames(read_ucf24(directory).videos[1], spec=spec).num_source_frames == 2


def test_a_missing_pickle_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none of these holds pyannot\.pkl: .*corrected-UCF101-Annots"):
        read_ucf24(tmp_path)


@pytest.mark.parametrize("content", [[1], {"Biking": {"annotations": [], "numf": 3}}, {BIKE: {"numf": 3}}, {3: {}}])
def test_a_pickle_of_something_else_is_refused(directory, content):
    write_annotations(directory / "pyannot.pkl", content)
    with pytest.raises(ValueError, match=r"pyannot\.pkl"):
        read_ucf24(directory)


@pytest.mark.parametrize(
    "change", [{"ef": 4}, {"sf": -1, "ef": 2}, {"boxes": np.zeros((3, 5), np.uint8)}, {"boxes": [[1, 2, 3, 4]] * 3}]
)
def test_boxes_that_do_not_fit_their_frames_are_refused_with_the_videos_name(directory, change):
    broken = {**actor(0, [[0, 0, 1, 1]] * 3), **change}
    write_annotations(directory / "pyannot.pkl", {BIKE: {"annotations": [broken], "numf": 6, "label": 0}})
    with pytest.raises(ValueError, match=BIKE):
        read_ucf24(directory).videos[0].read_tubes()
