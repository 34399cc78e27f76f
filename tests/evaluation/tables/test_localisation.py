"""Oracle: clips whose bright square is known, against true boxes placed so that every count follows by hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sum3dcam.contract import LABELS_GRAPH
from sum3dcam.errors import ArtifactError
from sum3dcam.evaluation.datasets.labelled import LabelledVideo, Tube
from sum3dcam.evaluation.kinds import MapKind
from sum3dcam.evaluation.tables.localisation import AUTHORS, Protocol, count_localisation, count_trivial
from sum3dcam.evaluation.tables.specs import Column, LocalisationTable
from sum3dcam.video.footage import Video
from sum3dcam.video.geometry import shorter_side_centre_crop

NUM_FRAMES, SIZE_PX = 4, 16
TABLE = LocalisationTable(
    title="",
    dataset="",
    network="",
    rows=(MapKind("conv", "3DCAM", "layercam", ("conv",)), MapKind("deep", "3DCAM", "layercam", ("layer9",))),
    thetas=(0.3, 0.9),
    columns=(Column(".3", "box", 0), Column(".9", "box", 1)),
)
HIT_TABLE = dataclasses.replace(TABLE, thetas=(), columns=(Column("hit", "hit"), Column("Acc2", "hit_right")))
PROTOCOL = Protocol(thresholds=(0.0, 0.5))


@pytest.fixture
def engine(make_engine):
    return make_engine(num_frames=NUM_FRAMES, size_px=SIZE_PX)


def labelled(*tubes, **facts):
    return LabelledVideo(Path("v"), "bright", lambda: tuple(tubes), "bright/v", **facts)


def tube(box, *, frames, first=0):
    return Tube("bright", first, np.array([box] * frames, np.float32))


def decoded(squares, *, frames, source=(32, 16)):
    """A square (x, y, side) per frame, in the pixels of the crop; the source is twice as wide as high."""
    pixels = np.zeros((frames, SIZE_PX, SIZE_PX, 3), np.uint8)
    for frame, (x, y, side) in zip(pixels, squares, strict=True):
        frame[y : y + side, x : x + side] = 200
    geometry = shorter_side_centre_crop(*source, size_px=SIZE_PX)
    return Video(pixels, geometry, tuple(range(frames)), frames, None, None, None)


def count(engine, video, frames, *, table=TABLE, protocol=PROTOCOL, label_index=1):
    counts = count_localisation(engine, video, decoded=frames, label_index=label_index, table=table, protocol=protocol)
    return {name: values.tolist() for name, values in counts.items()}


def test_maps_meet_the_truth_of_their_own_frame_in_the_crops_pixels(engine):
    # The crop begins at x = 8 of the source. Six frames are a clip and a half: two frames only fill the second.
    squares = [(2 * frame, 3, 5) for frame in range(6)]
    truth = np.array([[8 + x, y, 8 + x + side, y + side] for x, y, side in squares], np.float32)
    found = count(engine, labelled(Tube("bright", 0, truth)), decoded(squares, frames=6))
    assert (found["videos"], found["clips"], found["frames"]) == (1, 2, 6)
    assert found["conv/box"] == [6, 6]
    # Choe et al.'s boxes are a pixel too wide and high: 25 / 36; at the right edge (the last) nothing is added.
    assert found["conv/sweep"] == [[6, 0], [6, 0]]
    assert found["conv/oracle"] == [6, 0]
    assert not any(name.startswith("deep/") for name in found)


def test_unannotated_frames_do_not_count_and_truth_outside_the_crop_is_a_miss(engine):
    squares = [(0, 0, 6)] * 8
    outside, inside = tube([0, 0, 7, 16], frames=2), tube([8, 0, 14, 6], frames=3, first=1)
    found = count(engine, labelled(outside, inside), decoded(squares, frames=8))
    # Frame 0 has its truth outside alone, 1 both, 2 and 3 the one inside, 4 to 7 none.
    assert found["frames"] == 4
    assert found["conv/box"] == [3, 3]
    # Full frame: 36 / 256 in the crop; uncropped 112 / 512 of the one outside at best.
    assert found["Full frame/box"] == [0, 0]
    assert found["Full frame, uncropped/box"] == [0, 0]
    tall = count(engine, labelled(tube([8, 0, 24, 8], frames=8)), decoded(squares, frames=8))
    assert (tall["Full frame/box"], tall["Full frame, uncropped/box"]) == ([8, 0], [0, 0])  # 1/2, 1/4


def test_hit_points_and_acc2_take_the_class_of_their_own_clip(engine):
    # 100 * 200/255 * side^2/256 - 1: side 6 is bright (10 > 0), side 1 is not (-.7).
    squares = [(0, 0, 6)] * 4 + [(0, 0, 1)] * 4
    video = labelled(tube([8, 0, 9, 1], frames=8))
    found = count(engine, video, decoded(squares, frames=8), table=HIT_TABLE)
    assert (found["conv/hit"], found["conv/hit_right"]) == (8, 4)
    assert (found["Full frame/hit"], found["Full frame/hit_right"]) == (8, 4)
    assert (found["clips_right"], found["video_right"]) == (1, 1)  # mean softmax (1 + .33) / 2
    assert "conv/box" not in found


def test_the_class_explained_is_the_true_one_or_the_authors_top_one(engine):
    video, frames = labelled(tube([8, 0, 14, 6], frames=4)), decoded([(0, 0, 6)] * 4, frames=4)
    assert count(engine, video, frames, label_index=0)["conv/box"] == [0, 0]  # nothing speaks for dark
    assert count(engine, video, frames, label_index=0, protocol=AUTHORS)["conv/box"] == [4, 4]
    assert engine.targets == [0, -1]


def test_corners_interpolate_otherwise(engine):
    half = dataclasses.replace(
        TABLE, rows=(MapKind("half", "3DCAM", "layercam", ("layer1",)),), thetas=tuple(np.arange(0.3, 1, 0.05))
    )
    video, frames = labelled(tube([11, 3, 18, 8], frames=4)), decoded([(3, 3, 5)] * 4, frames=4)
    protocols = (Protocol(), Protocol(coordinates="corners"))
    plain, corners = (count(engine, video, frames, table=half, protocol=protocol) for protocol in protocols)
    assert plain != corners


@pytest.mark.parametrize("batch_clips", [1, 2, 3])
def test_counts_do_not_depend_on_batches(engine, batch_clips):
    squares = [(frame % 10, 3, 5 if frame < 8 else 1) for frame in range(18)]
    truth = np.array([[8 + x, y, 8 + x + side, y + side] for x, y, side in squares], np.float32)
    video = labelled(Tube("bright", 0, truth))
    protocol = dataclasses.replace(PROTOCOL, batch_clips=batch_clips)
    found = count(engine, video, decoded(squares, frames=18), protocol=protocol)
    assert found == count(engine, video, decoded(squares, frames=18), protocol=PROTOCOL)
    assert max(engine.batches[:-2]) <= batch_clips


def test_trivial_boxes_need_annotations_alone():
    # A crop of 240 at x = 40. Two actors: in the crop the first is 160 wide, the second full: the best counts.
    first, second = tube([0, 0, 200, 240], frames=3), tube([40, 0, 280, 240], frames=1, first=2)
    table = dataclasses.replace(TABLE, thetas=(0.3, 0.6, 0.65))
    counts = count_trivial(labelled(first, second, frame_size_px=(320, 240)), table=table)
    found = {name: values.tolist() for name, values in counts.items()}
    assert found == {
        "videos": 1,
        "frames": 3,
        "Full frame/box": [3, 3, 3],  # 2/3, 2/3, 1
        # A square of 168 from 36 on: 124 * 168 / (168^2 + 160 * 240 - 124 * 168) = .455, and .7^2 of the whole crop.
        "Centre box 0.7/box": [3, 0, 0],
        "Full frame, uncropped/box": [3, 3, 1],  # 200/320, 200/320, 240/320
    }


def test_boxes_behind_the_videos_end_do_not_count():
    long = labelled(tube([0, 0, 320, 240], frames=9), frame_size_px=(320, 240), num_frames=4)
    assert count_trivial(long, table=TABLE)["frames"] == 4


def test_an_unknown_frame_size_is_said():
    with pytest.raises(ValueError, match="bright/v: the annotations do not tell the size"):
        count_trivial(labelled(tube([0, 0, 1, 1], frames=1)), table=TABLE)


def test_an_artefact_that_cannot_explain_or_lacks_every_tap_is_refused(engine, make_engine):
    video, frames = labelled(tube([8, 0, 14, 6], frames=4)), decoded([(0, 0, 6)] * 4, frames=4)
    with pytest.raises(ArtifactError, match="explain graph"):
        count(make_engine(num_frames=NUM_FRAMES, size_px=SIZE_PX, graph=LABELS_GRAPH), video, frames)
    with pytest.raises(ArtifactError, match="none of the table's rows"):
        count(engine, video, frames, table=dataclasses.replace(TABLE, rows=TABLE.rows[1:]))
