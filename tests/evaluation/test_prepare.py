"""Oracle: geometry worked out by hand; real files written by the rendered data set."""

import dataclasses

import numpy as np
import pytest

from sum3dcam.evaluation.datasets.labelled import Tube
from sum3dcam.evaluation.datasets.rendered import read_rendered
from sum3dcam.evaluation.prepare import prepare, truth_in_map
from sum3dcam.synthetic.dataset import write_dataset
from sum3dcam.synthetic.render import FPS
from sum3dcam.video.geometry import Geometry

# 200x100 to 32x16, then the middle 16 columns: the crop covers columns 50..150 of the source, 6.25 px per map pixel.
WIDE = Geometry(
    source_width_px=200,
    source_height_px=100,
    resized_width_px=32,
    resized_height_px=16,
    crop_left_px=8,
    crop_top_px=0,
    size_px=16,
)


def test_truth_is_brought_into_map_pixels_and_cut_at_the_crop():
    truth = truth_in_map([[62.5, 25, 125, 50], [0, 0, 75, 100], [100, 0, 200, 100]], geometry=WIDE)
    np.testing.assert_allclose(truth, [[2, 4, 12, 8], [0, 0, 4, 16], [8, 0, 16, 16]])


def test_truth_outside_the_crop_is_left_out():
    truth = truth_in_map([[0, 0, 50, 100], [62.5, 25, 125, 50], [160, 10, 190, 90]], geometry=WIDE)
    np.testing.assert_allclose(truth, [[2, 4, 12, 8]])
    assert truth_in_map([], geometry=WIDE).shape == (0, 4)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    directory = tmp_path_factory.mktemp("rendered")
    write_dataset(directory, num_videos=3, seed=5, difficulty="easy", num_frames=6, width=96, height=64)
    return directory


def test_the_rendered_data_set_is_read_with_its_truth_and_origin(data_set):
    videos = read_rendered(data_set, limit=2)
    assert len(videos.videos) == 2
    assert {video.label for video in videos.videos} <= set(videos.labels)
    assert all(video.read_tubes()[0].boxes_xyxy_px.shape == (6, 4) for video in videos.videos)
    assert {(video.frame_size_px, video.num_frames) for video in videos.videos} == {((96, 64), 6)}
    assert len({video.key for video in videos.videos}) == 2
    assert (videos.provenance["seed"], videos.provenance["difficulty"]) == (5, "easy")
    assert videos.provenance["videos_in_set"] == 3


def test_a_video_becomes_clips_and_truth_for_its_real_frames(data_set, make_engine):
    videos = read_rendered(data_set)
    card = make_engine(num_frames=4, size_px=32, labels=videos.labels).card
    prepared = prepare(videos.videos[1], card=card)
    assert prepared.clips_NTHWC.shape == (2, 4, 32, 32, 3)
    assert prepared.clips_NTHWC.dtype == np.uint8
    assert [truth_N4.shape for truth_N4 in prepared.truth] == [(1, 4)] * 6
    assert videos.labels[prepared.label_index] == videos.videos[1].label
    # 64 rows become 32: the tolerance of 15 source pixels halves, and so do heights.
    assert prepared.tolerance_px == 7.5
    (tube,) = videos.videos[1].read_tubes()
    np.testing.assert_allclose(np.concatenate(prepared.truth)[:, 3], tube.boxes_xyxy_px[:, 3] / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("share_of_rate", "source_frames"), [(0.5, [0, 2, 4]), (2.0, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])]
)
def test_truth_follows_the_source_frames_that_the_network_sees(data_set, make_engine, share_of_rate, source_frames):
    videos = read_rendered(data_set)
    card = make_engine(num_frames=4, size_px=32, labels=videos.labels).card
    every = prepare(videos.videos[1], card=card)
    resampled = prepare(videos.videos[1], card=dataclasses.replace(card, frames_per_second=FPS * share_of_rate))
    np.testing.assert_array_equal(resampled.truth, [every.truth[frame] for frame in source_frames])
    shown = resampled.clips_NTHWC.reshape(-1, 32, 32, 3)[: len(source_frames)]
    np.testing.assert_array_equal(shown, every.clips_NTHWC.reshape(-1, 32, 32, 3)[source_frames])


def test_the_networks_streams_are_prepared(data_set, make_engine):
    videos = read_rendered(data_set)
    card = make_engine(num_frames=4, size_px=32, labels=videos.labels).card
    prepared = prepare(videos.videos[0], card=dataclasses.replace(card, streams=("rgb", "flow")))
    assert prepared.clips_NTHWC.shape == (2, 4, 32, 32, 5)
    np.testing.assert_array_equal(prepared.clips_NTHWC[..., :3], prepare(videos.videos[0], card=card).clips_NTHWC)


def test_a_label_that_the_artefact_does_not_know_is_refused(data_set, make_engine):
    video = read_rendered(data_set).videos[0]
    with pytest.raises(ValueError, match="is not one of the artefact's"):
        prepare(video, card=make_engine(num_frames=4, size_px=32).card)


def test_the_truth_of_a_frame_is_that_of_all_actors_of_the_videos_label(data_set, make_engine):
    videos = read_rendered(data_set)
    card = make_engine(num_frames=4, size_px=32, labels=videos.labels).card
    label, other = videos.videos[1].label, videos.videos[0].label
    # Pixels of the source are halved, and 16 of its 96 columns cut off on either side.
    tubes = (
        Tube(label, 1, np.array([[20, 0, 40, 64], [np.nan] * 4, [20, 0, 40, 64]], np.float32)),
        Tube(label, 3, np.array([[60, 10, 70, 30]] * 9, np.float32)),
        Tube(other, 0, np.array([[30, 10, 50, 30]] * 6, np.float32)),
    )
    video = dataclasses.replace(videos.videos[1], read_tubes=lambda: tubes)
    first, second = [2, 0, 12, 32], [22, 5, 27, 15]
    truth = [truth_N4.tolist() for truth_N4 in prepare(video, card=card).truth]
    assert truth == [[], [first], [], [first, second], [second], [second]]


def test_annotations_of_another_length_than_the_video_are_refused(data_set, make_engine):
    videos = read_rendered(data_set)
    card = make_engine(num_frames=4, size_px=32, labels=videos.labels).card
    # Decoders disagree by a frame or two about the end of old files.
    prepare(dataclasses.replace(videos.videos[0], num_frames=4), card=card)
    for num_frames in (3, 9):
        with pytest.raises(ValueError, match=f"6 frames decoded, {num_frames} annotated"):
            prepare(dataclasses.replace(videos.videos[0], num_frames=num_frames), card=card)
