"""Replies that keep the contract are read; others are refused by name."""

from typing import Any

import numpy as np
import pytest

from sum3dcam.client.prediction import Attribution, Box, Explained, Explanation
from sum3dcam.client.reply import read_reply
from sum3dcam.errors import ServerError


def test_a_labels_reply_has_neither_maps_nor_grids(make: Any) -> None:
    envelope = make.envelope(map_region_xyxy_px=None, attribution=None)
    for clip in envelope["clips"]:
        clip.update(explanations=[])
    prediction = read_reply(make.reply(envelope))
    assert prediction.maps_NETHW is None
    assert prediction.grids == {}
    assert prediction.map_region_xyxy_px is None
    assert prediction.clips[0].explanations == ()
    assert prediction.attribution is None


def test_a_source_without_a_clock_has_no_times(make: Any) -> None:
    envelope = make.envelope()
    envelope["video"].update(fps=None, duration_seconds=None)
    for clip in envelope["clips"]:
        clip.update(start_seconds=None, end_seconds=None)
    prediction = read_reply(make.reply(envelope))
    assert (prediction.video.fps, prediction.clips[0].start_seconds) == (None, None)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_float_maps_are_given_as_float32(make: Any, dtype: Any) -> None:
    maps = (make.blob_maps(2) / 255.0).astype(dtype)
    prediction = read_reply(make.reply(make.envelope(), {"maps": maps}))
    assert prediction.maps_NETHW is not None
    np.testing.assert_array_equal(prediction.maps_NETHW, maps.astype(np.float32))


def test_grids_are_not_maps(make: Any) -> None:
    grids = {
        "activation_layer1": np.ones((2, 1, 2, 3, 3), np.float32),
        "gradient_layer1": np.ones((2, 1, 2, 3, 3), np.float32),
    }
    prediction = read_reply(make.reply(make.envelope(), grids))
    assert prediction.maps_NETHW is None
    assert set(prediction.grids) == set(grids)


def test_tensors_are_dropped_and_the_answer_stays(make: Any) -> None:
    prediction = read_reply(make.reply(make.envelope(), {"maps": make.blob_maps(2)}))
    kept = prediction.without_tensors()
    assert kept.maps_NETHW is None
    assert kept.clips == prediction.clips


def test_a_reply_without_a_promised_key_is_refused(make: Any) -> None:
    envelope = make.envelope()
    del envelope["video"]["width_px"]
    with pytest.raises(ServerError, match="width_px"):
        read_reply(make.reply(envelope))


def test_tensors_for_another_number_of_clips_are_refused(make: Any) -> None:
    with pytest.raises(ServerError, match="\\(2, 1\\)"):
        read_reply(make.reply(make.envelope(), {"maps": make.blob_maps(3)}))


def test_another_contract_version_is_refused(make: Any) -> None:
    with pytest.raises(ServerError):
        read_reply(make.reply(make.envelope(contract_version=1)))


def test_each_clip_names_the_source_frame_at_each_of_its_places(make: Any) -> None:
    prediction = read_reply(make.reply(make.envelope()))
    assert [clip.frames for clip in prediction.clips] == [(0, 1, 2, 3), (4, 5, 4, 5)]
    assert prediction.clip_length == 4


def test_the_length_of_a_clip_does_not_depend_on_the_sources_number_of_frames(make: Any) -> None:
    envelope = make.envelope(num_frames=8)  # as if its every other frame had been dropped
    envelope["video"]["num_frames"] = 16
    envelope["clips"][0].update(frames=[0, 2, 4, 6], end_frame=8)
    envelope["clips"][1].update(frames=[8, 10, 12, 14], start_frame=8, end_frame=16)
    assert read_reply(make.reply(envelope)).clip_length == 4


def test_maps_of_streams_are_neither_grids_nor_the_map_over_all(make: Any) -> None:
    maps = make.blob_maps(2)
    tensors = {"maps": maps, "maps_rgb": maps // 2, "maps_flow": (maps / 255.0).astype(np.float16)}
    prediction = read_reply(make.reply(make.envelope(), tensors))
    assert set(prediction.stream_maps) == {"rgb", "flow"}
    assert prediction.grids == {}
    np.testing.assert_array_equal(prediction.stream_maps["rgb"], (maps // 2).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(prediction.stream_maps["flow"], tensors["maps_flow"].astype(np.float32))
    assert prediction.without_tensors().stream_maps == {}


def test_a_reply_about_one_stream_has_no_map_of_streams(make: Any) -> None:
    assert read_reply(make.reply(make.envelope(), {"maps": make.blob_maps(2)})).stream_maps == {}


def test_each_class_explained_has_its_own_boxes(make: Any) -> None:
    envelope = make.envelope()
    for clip in envelope["clips"]:
        clip["explanations"].append({"index": 0, "label": "jump", "score": 0.25, "empty_taps": [], "boxes": []})
    prediction = read_reply(make.reply(envelope))
    first, second = prediction.clips[0].explanations
    assert first == Explanation(
        index=2,
        label="wave",
        score=0.75,
        empty_taps=("layer2",),
        boxes=(Box(frame=1, time_seconds=0.04, box_xyxy_px=(30.0, 20.0, 70.0, 60.5), score=0.8),),
    )
    assert (second.label, second.boxes) == ("jump", ())
    assert prediction.attribution == Attribution("sum3dcam", ("layer1", "layer2"), "half-pixel", "clip")
    with pytest.raises(ServerError, match=r"\(2, 2\)"):  # one map where two classes were explained
        read_reply(make.reply(envelope, {"maps": make.blob_maps(2)}))


def test_tubes_are_read_in_the_servers_order(make: Any) -> None:
    envelope = make.envelope()
    envelope["video"]["tubes"] = [make.tube(1, 2, 4), make.tube(0, x=100.0)]
    first, second = read_reply(make.reply(envelope)).video.tubes
    assert first.explained == Explained(index=2, label="wave")
    assert (first.start_frame, first.end_frame, first.start_seconds, first.end_seconds) == (1, 5, 0.04, 0.2)
    assert (first.score, [box.frame for box in first.boxes]) == (0.8, [1, 2, 4])
    assert second.boxes == (Box(frame=0, time_seconds=0.0, box_xyxy_px=(100.0, 20.0, 140.0, 60.0), score=0.8),)


def test_tubes_of_a_source_without_a_clock_have_no_times(make: Any) -> None:
    envelope, tube = make.envelope(), make.tube(0, 1)
    tube.update(start_seconds=None, end_seconds=None)
    for box in tube["boxes"]:
        box["time_seconds"] = None
    envelope["video"]["tubes"] = [tube]
    (read,) = read_reply(make.reply(envelope)).video.tubes
    assert (read.start_seconds, read.end_seconds, read.boxes[0].time_seconds) == (None, None, None)


def test_a_reply_of_a_server_that_knows_no_tubes_has_none(make: Any) -> None:
    envelope = make.envelope()
    del envelope["video"]["tubes"]
    assert read_reply(make.reply(envelope)).video.tubes == ()
