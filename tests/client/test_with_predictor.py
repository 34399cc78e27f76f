"""Client and server agree: the client reads what the real predictor answers, and rebuilds its maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sum3dcam.client.overlay import write_overlay
from sum3dcam.client.prediction import Prediction, read_reply
from sum3dcam.client.rebuild import rebuild_maps
from sum3dcam.contract import EXPLAIN_GRAPH, EXPLAINED, GRIDS, LABELS_GRAPH, LOGITS, Card, Tap, grid_name
from sum3dcam.errors import UnknownOptionError
from sum3dcam.serving.predictor import Predictor
from sum3dcam.video.geometry import PREPROCESSING

SIZE_PX = 32
CLIP_LENGTH = 4


class MadeUpEngine:
    """Random grids that depend on the clip alone; class 1 is always the top."""

    name, provider, sha256 = "made up", "cpu", "0" * 64

    def __init__(self, graph: str) -> None:
        self.card = Card(
            graph=graph,
            model="made-up",
            labels=("jump", "wave"),
            num_frames=CLIP_LENGTH,
            size_px=SIZE_PX,
            streams=("rgb",),
            frames_per_second=None,
            preprocessing=next(iter(PREPROCESSING)),
            taps=(Tap("layer1", 8, (2, 8, 8)), Tap("layer2", 16, (1, 4, 4))),
            gates=(),
            weights_sha256="0" * 64,
            package_version="0",
        )

    def run(self, clip_BTHWC: Any, *, target_B: Any) -> dict[str, Any]:
        items = len(clip_BTHWC)
        outputs = {LOGITS: np.tile(np.array([0.0, 2.0], np.float32), (items, 1))}
        outputs[EXPLAINED] = np.where(target_B < 0, 1, target_B)
        for tap in self.card.taps:
            for number, grid in enumerate(GRIDS):
                outputs[grid_name(grid, tap.name)] = np.stack(
                    [
                        np.random.default_rng([int(clip.sum()), number]).standard_normal(tap.grid_thw, np.float32)
                        for clip in clip_BTHWC
                    ]
                )
        return outputs


@pytest.fixture
def ask(make: Any, tmp_path: Path) -> Any:
    """Asks the predictor about one small video of 6 frames (two clips, the last padded by two)."""
    predictor = Predictor(MadeUpEngine(EXPLAIN_GRAPH), MadeUpEngine(LABELS_GRAPH))
    video = make.video(tmp_path / "source.mp4", make.grey_frames(6))

    def predict(**options: str) -> Prediction:
        return read_reply(predictor.predict([{"data": video.read_bytes(), **options}])[0].body)

    return predict


def test_labels_alone_are_read(ask: Any) -> None:
    prediction = ask()
    assert prediction.video.labels[0].label == "wave"
    # Oracle: softmax of (0, 2) by hand.
    assert prediction.video.labels[0].score == pytest.approx(np.exp(2) / (1 + np.exp(2)))
    assert (prediction.video.width_px, prediction.video.height_px, prediction.video.fps) == (160, 120, 25.0)
    assert prediction.clip_length == CLIP_LENGTH
    assert prediction.maps_NTHW is None


def test_boxes_lie_in_the_source_and_in_their_clip(ask: Any) -> None:
    prediction = ask(explain="boxes", target="jump")
    assert [clip.explained.label for clip in prediction.clips] == ["jump", "jump"]
    assert prediction.map_region_xyxy_px == pytest.approx((20, 0, 140, 120), abs=3)
    for clip in prediction.clips:
        assert clip.boxes
        assert all(clip.start_frame <= box.frame < clip.end_frame for box in clip.boxes)


@pytest.mark.parametrize("method", ["sum3dcam", "sum3dcam-elementwise"])
def test_maps_rebuilt_from_a_grids_reply_are_the_maps_of_a_maps_reply(ask: Any, method: str) -> None:
    sent = ask(explain="maps", map_dtype="f32", method=method)
    rebuilt = rebuild_maps(ask(explain="grids", method=method))
    assert rebuilt.shape == (2, CLIP_LENGTH, SIZE_PX, SIZE_PX)
    # Oracle: the server's own maps, made by the same function from the same float32 grids: equal bits.
    np.testing.assert_array_equal(rebuilt, sent.maps_NTHW)
    # u8 rounds to the nearest of 255 steps.
    np.testing.assert_allclose(ask(explain="maps", method=method).maps_NTHW, rebuilt, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("explain", ["maps", "grids"])
def test_an_overlay_is_drawn_from_either(ask: Any, tmp_path: Path, explain: str) -> None:
    write_overlay(ask(explain=explain), source=tmp_path / "source.mp4", output=tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").stat().st_size > 0


def test_a_refusal_arrives_as_the_type_it_was_raised_with(ask: Any) -> None:
    with pytest.raises(UnknownOptionError, match="explian"):
        ask(explian="maps")
