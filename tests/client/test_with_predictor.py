"""Client and server agree: the client reads what the real predictor answers, and rebuilds its maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sum3dcam.client.overlay import write_overlay
from sum3dcam.client.prediction import Prediction
from sum3dcam.client.rebuild import rebuild_maps, rebuild_stream_maps
from sum3dcam.client.reply import read_reply
from sum3dcam.client.request import Options
from sum3dcam.contract import (
    BOX_MODES,
    EXPLAIN_GRAPH,
    EXPLAINED,
    GRIDS,
    LABELS_GRAPH,
    LOGITS,
    OPTION_KEYS,
    Card,
    Tap,
    grid_name,
)
from sum3dcam.errors import BadOptionError, UnknownOptionError
from sum3dcam.serving.predictor import Predictor
from sum3dcam.video.geometry import PREPROCESSING

SIZE_PX = 32
CLIP_LENGTH = 4


class MadeUpEngine:
    """Random grids that depend on the clip alone; class 1 is always the top."""

    name, provider, sha256 = "made up", "cpu", "0" * 64

    def __init__(self, graph: str, **changes: Any) -> None:
        facts: dict[str, Any] = {
            "graph": graph,
            "model": "made-up",
            "labels": ("jump", "wave"),
            "num_frames": CLIP_LENGTH,
            "size_px": SIZE_PX,
            "streams": ("rgb",),
            "frames_per_second": None,
            "preprocessing": next(iter(PREPROCESSING)),
            "taps": (Tap("layer1", 8, (2, 8, 8)), Tap("layer2", 16, (1, 4, 4))),
            "gates": (),
            "weights_sha256": "0" * 64,
            "package_version": "0",
        }
        self.card = Card(**facts | changes)
        self.shapes: set[tuple[int, ...]] = set()

    def run(self, clip_BTHWC: Any, *, target_B: Any, outputs: Any = None) -> dict[str, Any]:
        items = len(clip_BTHWC)
        self.shapes |= {clip.shape for clip in clip_BTHWC}
        outputs = {LOGITS: np.tile(np.array([0.0, 2.0], np.float32), (items, 1))}
        outputs[EXPLAINED] = np.where(target_B < 0, 1, target_B)
        for tap in self.card.taps:
            for grid in GRIDS:
                name = grid_name(grid, tap.name)
                outputs[name] = np.stack(
                    [
                        np.random.default_rng([int(clip.sum()), *name.encode()]).standard_normal(
                            tap.grid_thw, np.float32
                        )
                        for clip in clip_BTHWC
                    ]
                )
        return outputs


@pytest.fixture
def ask_of(make: Any, tmp_path: Path) -> Any:
    """ask_of(**facts of the card) -> asks its predictor about one small video of 6 frames, 25 a second."""
    video = make.video(tmp_path / "source.mp4", make.grey_frames(6))

    def make_ask(**facts: Any) -> Any:
        explain = MadeUpEngine(EXPLAIN_GRAPH, **facts)
        predictor = Predictor(explain, MadeUpEngine(LABELS_GRAPH, **facts))

        def predict(**options: str) -> Prediction:
            prediction = read_reply(predictor.predict([{"data": video.read_bytes(), **options}])[0].body)
            assert explain.shapes <= {explain.card.clip_shape_THWC}
            return prediction

        return predict

    return make_ask


@pytest.fixture
def ask(ask_of: Any) -> Any:
    """Asks about the video as two clips of 4 frames, the last padded by two."""
    return ask_of()


def test_labels_alone_are_read(ask: Any) -> None:
    prediction = ask()
    assert prediction.video.labels[0].label == "wave"
    # Oracle: softmax of (0, 2) by hand.
    assert prediction.video.labels[0].score == pytest.approx(np.exp(2) / (1 + np.exp(2)))
    assert (prediction.video.width_px, prediction.video.height_px, prediction.video.fps) == (160, 120, 25.0)
    assert prediction.clip_length == CLIP_LENGTH
    assert prediction.maps_NETHW is None


def test_boxes_lie_in_the_source_and_in_their_clip(ask: Any) -> None:
    prediction = ask(explain="boxes", target="jump")
    assert [clip.explanations[0].label for clip in prediction.clips] == ["jump", "jump"]
    assert prediction.map_region_xyxy_px == pytest.approx((20, 0, 140, 120), abs=3)
    for clip in prediction.clips:
        (explanation,) = clip.explanations
        assert explanation.boxes
        assert all(clip.start_frame <= box.frame < clip.end_frame for box in explanation.boxes)


@pytest.mark.parametrize("method", ["sum3dcam", "sum3dcam-elementwise"])
def test_maps_rebuilt_from_a_grids_reply_are_the_maps_of_a_maps_reply(ask: Any, method: str) -> None:
    sent = ask(explain="maps", map_dtype="f32", method=method)
    rebuilt = rebuild_maps(ask(explain="grids", method=method))
    assert rebuilt.shape == (2, 1, CLIP_LENGTH, SIZE_PX, SIZE_PX)
    # Oracle: the server's own maps, made by the same function from the same float32 grids: equal bits.
    np.testing.assert_array_equal(rebuilt, sent.maps_NETHW)
    # u8 rounds to the nearest of 255 steps.
    np.testing.assert_allclose(ask(explain="maps", method=method).maps_NETHW, rebuilt, atol=0.5 / 255 + 1e-6)


TWO_STREAMS = (Tap("layer1", 8, (2, 8, 8)), Tap("layer2", 16, (1, 4, 4)), Tap("flow_layer1", 8, (2, 8, 8), "flow"))


@pytest.mark.parametrize("method", ["sum3dcam", "sum-gradcam"])
def test_maps_of_streams_rebuilt_from_grids_are_those_that_the_server_sends(ask_of: Any, method: str) -> None:
    ask = ask_of(streams=("rgb", "flow"), taps=TWO_STREAMS)
    sent = ask(explain="maps", map_dtype="f32", method=method)
    grids = ask(explain="grids", method=method)
    rebuilt = rebuild_stream_maps(grids)
    assert set(sent.stream_maps) == set(rebuilt) == {"rgb", "flow"}
    # Oracle: the server's own maps, made by the same function from the same float32 grids: equal bits.
    for stream in rebuilt:
        np.testing.assert_array_equal(rebuilt[stream], sent.stream_maps[stream])
    np.testing.assert_array_equal(rebuild_maps(grids), sent.maps_NETHW)
    assert rebuild_stream_maps(sent) is sent.stream_maps


@pytest.mark.parametrize(
    ("fps", "clip_length", "frames"),
    [
        (12.5, 4, [(0, 2, 4, 0)]),
        (50.0, 4, [(0, 0, 1, 1), (2, 2, 3, 3), (4, 4, 5, 5)]),
        (None, 1, [(0,), (1,), (2,), (3,), (4,), (5,)]),
        (12.5, 1, [(0,), (2,), (4,)]),
    ],
)
@pytest.mark.parametrize("explain", ["maps", "grids"])
def test_another_rate_or_clip_length_is_read_and_drawn(
    ask_of: Any, tmp_path: Path, fps: float | None, clip_length: int, frames: list[tuple[int, ...]], explain: str
) -> None:
    taps = (Tap("layer1", 8, (1, 8, 8)),)
    prediction = ask_of(frames_per_second=fps, num_frames=clip_length, taps=taps)(explain=explain)
    assert [clip.frames for clip in prediction.clips] == frames
    assert (prediction.video.num_frames, prediction.clips[-1].end_frame) == (6, 6)
    assert prediction.clip_length == clip_length
    assert rebuild_maps(prediction).shape == (len(frames), 1, clip_length, SIZE_PX, SIZE_PX)
    boxed = [box.frame for clip in prediction.clips for box in clip.explanations[0].boxes]
    assert len(boxed) == len(set(boxed))
    assert set(boxed) <= {frame for clip in frames for frame in clip}
    write_overlay(prediction, source=tmp_path / "source.mp4", output=tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").stat().st_size > 0


@pytest.mark.parametrize("explain", ["maps", "grids"])
def test_an_overlay_is_drawn_from_either(ask: Any, tmp_path: Path, explain: str) -> None:
    write_overlay(ask(explain=explain), source=tmp_path / "source.mp4", output=tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").stat().st_size > 0


def test_a_refusal_arrives_as_the_type_it_was_raised_with(ask: Any) -> None:
    with pytest.raises(UnknownOptionError, match="explian"):
        ask(explian="maps")


def test_the_client_knows_the_servers_options() -> None:
    assert set(Options.__annotations__) == set(OPTION_KEYS)


@pytest.mark.parametrize("box_mode", BOX_MODES)
@pytest.mark.parametrize("tubes", ["linked", "smoothed"])
def test_every_box_of_every_clip_is_in_exactly_one_tube(ask: Any, box_mode: str, tubes: str) -> None:
    prediction = ask(explain="boxes", method="layercam", box_mode=box_mode, tubes=tubes)
    of_clips = [(box.frame, box.score) for clip in prediction.clips for box in clip.explanations[0].boxes]
    of_tubes = [(box.frame, box.score) for tube in prediction.video.tubes for box in tube.boxes]
    assert len(of_clips) >= 6
    assert sorted(of_tubes) == sorted(of_clips)
    for tube in prediction.video.tubes:
        frames = [box.frame for box in tube.boxes]
        assert frames == sorted(set(frames))
        assert (tube.start_frame, tube.end_frame) == (frames[0], frames[-1] + 1)
        assert tube.explained.label == "wave"
        assert tube.start_seconds == pytest.approx(tube.start_frame / 25, abs=1e-9)  # 25 frames a second


@pytest.mark.parametrize("fps", [12.5, 50.0])
def test_tubes_of_a_resampled_video_are_drawn(ask_of: Any, tmp_path: Path, fps: float) -> None:
    prediction = ask_of(frames_per_second=fps)(explain="grids", tubes="smoothed")
    assert prediction.video.tubes
    write_overlay(prediction, source=tmp_path / "source.mp4", output=tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").stat().st_size > 0


def test_tubes_without_an_explanation_are_refused_by_the_server(ask: Any) -> None:
    with pytest.raises(BadOptionError, match="explain=none"):
        ask(tubes="linked")
