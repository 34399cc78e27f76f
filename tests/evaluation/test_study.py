"""Oracle: clips whose bright square is the truth, so that every count is known."""

import dataclasses

import numpy as np
import pytest

from sum3dcam.contract import LABELS_GRAPH
from sum3dcam.errors import ArtifactError
from sum3dcam.evaluation.kinds import MapKind
from sum3dcam.evaluation.study import PreparedVideo, Settings, count_video

CONV = MapKind("conv", "3DCAM", "layercam", ("conv",))
SETTINGS = Settings(thresholds=(0.0, 0.5), ious=(0.3, 0.9))
NUM_FRAMES, SIZE_PX = 4, 16


@pytest.fixture
def engine(make_engine):
    return make_engine(num_frames=NUM_FRAMES, size_px=SIZE_PX)


def by_frame(boxes):
    """One box in each frame."""
    return tuple(np.array([box], float) for box in boxes)


def video(*, squares, frames=None, label_index=1, tolerance_px=0.0):
    """One clip per square (x, y, side), the truth on the square in every frame; `frames`: the video's real length."""
    clips = np.zeros((len(squares), NUM_FRAMES, SIZE_PX, SIZE_PX, 3), np.uint8)
    truth = []
    for clip, (x, y, side) in zip(clips, squares, strict=True):
        clip[:, y : y + side, x : x + side] = 200
        truth += [[x, y, x + side, y + side]] * NUM_FRAMES
    return PreparedVideo(clips, by_frame(truth[:frames]), label_index, tolerance_px)


FOUR_SQUARES = ((0, 0, 6), (10, 2, 6), (3, 10, 6), (8, 9, 6))


@pytest.mark.parametrize("batch_clips", [1, 2, 3, 16])
def test_maps_meet_the_truth_of_their_own_clip_and_frame(engine, batch_clips):
    settings = dataclasses.replace(SETTINGS, batch_clips=batch_clips)
    counts = count_video(engine, video(squares=FOUR_SQUARES), kinds=[CONV], settings=settings)
    assert counts.frames == counts.kinds["conv"].peak_inside == 16
    # The box is one pixel too wide and high where there is room: 36 / 49 >= .3, never .9 unless it touches the edges.
    np.testing.assert_array_equal(counts.kinds["conv"].hits["v1"], [[16, 0], [16, 0]])
    assert max(engine.batches) <= batch_clips
    assert sum(engine.batches) == 4


def test_frames_that_only_fill_the_last_clip_are_not_counted(engine):
    counts = count_video(engine, video(squares=FOUR_SQUARES, frames=13), kinds=[CONV], settings=SETTINGS)
    assert counts.frames == 13
    assert counts.kinds["conv"].hits["v1"][0, 0] == 13
    assert counts.kinds["Full frame"].hits["v1"][0, 0] == 0  # 36 / 256


def test_frames_without_truth_are_not_counted(engine):
    whole = video(squares=FOUR_SQUARES[:1])
    prepared = dataclasses.replace(whole, truth=(whole.truth[0], np.zeros((0, 4)), *whole.truth[2:]))
    counts = count_video(engine, prepared, kinds=[CONV], settings=SETTINGS)
    assert counts.frames == 3
    assert counts.kinds["conv"].hits["v1"][0, 0] == 3


def test_of_several_actors_the_nearest_counts_and_a_frame_counts_once(engine):
    whole = video(squares=FOUR_SQUARES[:1])
    far = np.array([[12.0, 12, 16, 16]])
    crowd = dataclasses.replace(
        whole, truth=(far, np.concatenate([far, whole.truth[1]]), np.concatenate([whole.truth[2], far]), whole.truth[3])
    )
    counts = count_video(engine, crowd, kinds=[CONV], settings=SETTINGS)
    assert counts.frames == NUM_FRAMES
    assert counts.kinds["conv"].hits["v1"][0, 0] == counts.kinds["conv"].peak_inside == 3


def test_the_class_explained_is_the_true_one_or_the_top_one(engine):
    dark = dataclasses.replace(video(squares=FOUR_SQUARES[:1]), label_index=0)
    true = count_video(engine, dark, kinds=[CONV], settings=SETTINGS)
    assert engine.targets == [0]
    assert true.kinds["conv"].empty_clips == 1
    assert true.kinds["conv"].peak_inside == 0  # an empty map points nowhere, not at its first pixel
    top = count_video(engine, dark, kinds=[CONV], settings=dataclasses.replace(SETTINGS, target="top"))
    assert engine.targets == [0, -1]
    assert top.kinds["conv"].empty_clips == 0
    assert top.kinds["conv"].peak_inside == NUM_FRAMES


def test_labels_count_per_clip_and_the_video_by_its_mean_softmax(engine):
    # 100 * 200/255 * side^2/256 - 1: the logits of class 1 are 10 for side 6 and -0.7 for side 1.
    counts = count_video(engine, video(squares=((0, 0, 6), (0, 0, 1), (0, 0, 1))), kinds=[CONV], settings=SETTINGS)
    assert (counts.clips, counts.clips_right) == (3, 1)
    # Softmax of class 1: about 1, .33 and .33, mean .55 > .5: right, though two of three clips are wrong.
    assert counts.video_right == 1


def test_mean_softmax_is_not_mean_logit(engine):
    # 10 against four of -0.7: the mean logit is positive, the mean softmax (1 + 4 * .33) / 5 = .47 below half.
    counts = count_video(engine, video(squares=((0, 0, 6), *[(0, 0, 1)] * 4)), kinds=[CONV], settings=SETTINGS)
    assert counts.video_right == 0


def test_the_centre_box_of_the_best_size_is_swept(engine):
    counts = count_video(engine, video(squares=((4, 4, 8),)), kinds=[], settings=SETTINGS)
    hits = counts.kinds["Centre box, best size"].hits["v1"]
    assert hits.shape == (20, 2)
    assert hits[9, 1] == NUM_FRAMES  # side 0.5: exactly the truth
    assert hits[19, 1] == 0
    np.testing.assert_array_equal(counts.kinds["Centre box 0.7"].hits["v1"], [[NUM_FRAMES, 0]])  # 64 / 125
    assert counts.kinds["Full frame"].peak_inside == NUM_FRAMES


def test_pointing_allows_its_tolerance(engine):
    # The peak is (0.5, 0.5): 4 away.
    prepared = dataclasses.replace(video(squares=((0, 0, 6),)), truth=by_frame([[4.5, 0, 12, 6]] * NUM_FRAMES))
    for tolerance, pointed in ((3.9, 0), (4.0, NUM_FRAMES)):
        counted = count_video(
            engine, dataclasses.replace(prepared, tolerance_px=tolerance), kinds=[CONV], settings=SETTINGS
        ).kinds["conv"]
        assert (counted.pointed, counted.peak_inside) == (pointed, 0)


def test_the_oracle_takes_the_best_threshold_of_each_frame(engine):
    # A bright small square inside a dim large one: the truth is the small one in one clip, the large in the other.
    clips = np.zeros((2, NUM_FRAMES, SIZE_PX, SIZE_PX, 3), np.uint8)
    clips[:, :, 0:12, 0:12], clips[:, :, 4:8, 4:8] = 80, 250
    truth = by_frame([[4, 4, 8, 8]] * NUM_FRAMES + [[0, 0, 12, 12]] * NUM_FRAMES)
    counts = count_video(
        engine, PreparedVideo(clips, truth, 1, 0.0), kinds=[CONV], settings=Settings(thresholds=(0.0, 0.5), ious=(0.5,))
    ).kinds["conv"]
    np.testing.assert_array_equal(counts.hits["v1"], [[NUM_FRAMES], [NUM_FRAMES]])
    assert counts.oracle_I.tolist() == [2 * NUM_FRAMES]


def test_the_graphs_own_saliency_is_held_against_the_rebuilt_map(engine):
    every = MapKind("all", "3DCAM", "sum3dcam", ("conv", "layer1"))
    counts = count_video(engine, video(squares=FOUR_SQUARES), kinds=[every], settings=SETTINGS)
    assert counts.saliency_difference == 0.0


def test_a_graph_that_cannot_explain_is_refused(make_engine):
    engine = make_engine(num_frames=NUM_FRAMES, size_px=SIZE_PX, graph=LABELS_GRAPH)
    with pytest.raises(ArtifactError, match="explain graph"):
        count_video(engine, video(squares=FOUR_SQUARES), kinds=[CONV], settings=SETTINGS)
