"""Frames, times, boxes and tensors of an answer. Oracle: short sequences of source frames written out."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sum3dcam.attribution.maps import build_maps
from sum3dcam.contract import EXPLAIN_GRAPH, EXPLAINED, GRIDS, LOGITS, Card, Tap, grid_name
from sum3dcam.serving.answer import build_answer
from sum3dcam.serving.options import parse_options
from sum3dcam.serving.request import Request
from sum3dcam.video.footage import Video
from sum3dcam.video.geometry import squash
from sum3dcam.video.sample import cut_clips

SIZE_PX = 8
RGB = (Tap("layer1", 1, (1, 4, 4)), Tap("layer2", 1, (1, 2, 2)))
FLOW = (Tap("flow_layer1", 1, (1, 4, 4), "flow"), Tap("flow_layer2", 1, (1, 2, 2), "flow"))


def _card(*, clip_length: int, taps: tuple[Tap, ...] = RGB) -> Card:
    return Card(
        graph=EXPLAIN_GRAPH,
        model="m",
        labels=("left", "right"),
        num_frames=clip_length,
        size_px=SIZE_PX,
        streams=tuple(dict.fromkeys(tap.stream for tap in taps)),
        frames_per_second=None,
        preprocessing="squash",
        taps=taps,
        gates=(),
        weights_sha256="",
        package_version="",
    )


def _answer(
    card: Card,
    *,
    source_frames: tuple[int, ...],
    num_source_frames: int,
    outputs: dict[str, Any] | None = None,
    **options: str,
) -> tuple[dict[str, Any], Any]:
    """The answer about a source of ten frames a second that was resampled to these; all its maps are full of ones."""
    frames_THWC = np.zeros((len(source_frames), SIZE_PX, SIZE_PX, card.num_channels), np.uint8)
    video = Video(
        frames_THWC=frames_THWC,
        geometry=squash(SIZE_PX, SIZE_PX, size_px=SIZE_PX),
        source_frames=source_frames,
        num_source_frames=num_source_frames,
        time_seconds=tuple(frame / 10 for frame in range(num_source_frames)),
        fps=10.0,
        duration_seconds=num_source_frames / 10,
    )
    clips_NTHWC, padded_frames = cut_clips(frames_THWC, clip_length=card.num_frames)
    request = Request(
        options=parse_options(options, card=card), video=video, clips_NTHWC=clips_NTHWC, padded_frames=padded_frames
    )
    items = len(clips_NTHWC)
    outputs = outputs or {
        grid_name(grid, tap.name): np.ones((items, *tap.grid_thw), np.float32) for tap in card.taps for grid in GRIDS
    }
    outputs |= {LOGITS: np.zeros((items, 2), np.float32), EXPLAINED: np.zeros(items, np.int64)}
    engine: Any = SimpleNamespace(card=card, name="fake", provider="cpu", sha256="0" * 64)
    return build_answer(request, outputs, engine=engine)


def _told(envelope: dict[str, Any], key: str) -> list[Any]:
    return [clip[key] for clip in envelope["clips"]]


def test_frames_that_were_dropped_belong_to_the_clip_before_and_have_no_box() -> None:
    envelope, _ = _answer(
        _card(clip_length=2), source_frames=(0, 2, 4, 6, 8), num_source_frames=11, explain="boxes", threshold="0.5"
    )
    assert _told(envelope, "frames") == [[0, 2], [4, 6], [8, 8]]
    assert _told(envelope, "start_frame") == [0, 4, 8]
    assert _told(envelope, "end_frame") == [4, 8, 11]
    assert _told(envelope, "start_seconds") == [0.0, 0.4, 0.8]
    assert _told(envelope, "end_seconds") == [0.4, 0.8, 1.1]
    boxes = [[(box["frame"], box["time_seconds"]) for box in clip["boxes"]] for clip in envelope["clips"]]
    assert boxes == [[(0, 0.0), (2, 0.2)], [(4, 0.4), (6, 0.6)], [(8, 0.8)]]
    assert (envelope["video"]["num_frames"], envelope["video"]["padded_frames"]) == (11, 1)
    assert (envelope["video"]["fps"], envelope["video"]["duration_seconds"]) == (10.0, 1.1)


def test_a_frame_that_is_repeated_has_the_boxes_of_its_first_place_alone() -> None:
    envelope, _ = _answer(
        _card(clip_length=3), source_frames=(0, 0, 1, 1, 2, 2, 3), num_source_frames=4, explain="boxes", threshold="0.5"
    )
    assert _told(envelope, "frames") == [[0, 0, 1], [1, 2, 2], [3, 3, 3]]
    assert list(zip(_told(envelope, "start_frame"), _told(envelope, "end_frame"), strict=True)) == [
        *((0, 2), (1, 3)),  # both show frame 1
        (3, 4),
    ]
    assert [[box["frame"] for box in clip["boxes"]] for clip in envelope["clips"]] == [[0, 1], [2], [3]]


def test_a_later_place_gives_no_box_where_the_first_has_none() -> None:
    card = _card(clip_length=2, taps=(Tap("layer1", 1, (2, 1, 1)),))
    # Nothing at the clip's first place, all at its second; both show frame 0.
    grid = np.array([0, 1], np.float32).reshape(1, 2, 1, 1)
    outputs = {grid_name(name, "layer1"): grid for name in GRIDS}
    envelope, tensors = _answer(
        card, source_frames=(0, 0), num_source_frames=1, outputs=outputs, explain="maps", threshold="0.5"
    )
    assert tensors["maps"][0, :, 0, 0].tolist() == [0, 255]
    assert envelope["clips"][0]["boxes"] == []


def test_a_network_of_single_frames_has_a_clip_for_each() -> None:
    envelope, tensors = _answer(_card(clip_length=1), source_frames=(0, 1, 2), num_source_frames=3, explain="maps")
    assert _told(envelope, "frames") == [[0], [1], [2]]
    assert _told(envelope, "end_frame") == [1, 2, 3]
    assert [[box["frame"] for box in clip["boxes"]] for clip in envelope["clips"]] == [[0], [1], [2]]
    assert tensors["maps"].shape == (3, 1, SIZE_PX, SIZE_PX)


def _random_outputs(card: Card, *, items: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        grid_name(grid, tap.name): rng.standard_normal((items, *tap.grid_thw)).astype(np.float32)
        for tap in card.taps
        for grid in GRIDS
    }


@pytest.mark.parametrize("map_dtype", ["u8", "f16", "f32"])
def test_taps_of_two_streams_give_a_map_of_each_beside_the_one_over_all(map_dtype: str) -> None:
    card = _card(clip_length=4, taps=RGB + FLOW)
    outputs = _random_outputs(card, items=2)
    envelope, tensors = _answer(
        card,
        source_frames=tuple(range(8)),
        num_source_frames=8,
        outputs=dict(outputs),
        explain="maps",
        map_dtype=map_dtype,
    )
    assert list(tensors) == ["maps", "maps_rgb", "maps_flow"]
    step = {"u8": 0.5 / 255 + 1e-7, "f16": 2**-11, "f32": 0.0}[map_dtype]
    for name, taps in (("maps", RGB + FLOW), ("maps_rgb", RGB), ("maps_flow", FLOW)):
        # Oracle: the sum over those taps alone; each is divided by its own max.
        names = [tap.name for tap in taps]
        expected = build_maps(outputs, taps=names, method="sum3dcam", num_frames=4, size_px=SIZE_PX).maps_BTHW
        got = tensors[name] / np.float32({"u8": 255}.get(map_dtype, 1))
        np.testing.assert_allclose(got, expected, rtol=0, atol=step)
        assert got.max() == 1.0
        assert envelope["tensors"][name] == {
            "dtype": str(tensors[name].dtype),
            "shape": [2, 4, SIZE_PX, SIZE_PX],
            "axes": "NTHW",
        }
    assert (tensors["maps_rgb"] != tensors["maps_flow"]).any()


@pytest.mark.parametrize("taps", ["layer1,layer2", "flow_layer1"])
def test_taps_of_one_stream_give_one_map(taps: str) -> None:
    card = _card(clip_length=4, taps=RGB + FLOW)
    _, tensors = _answer(card, source_frames=(0, 1, 2, 3), num_source_frames=4, explain="maps", taps=taps)
    assert list(tensors) == ["maps"]


def test_boxes_are_those_of_the_map_over_all_streams() -> None:
    card = _card(clip_length=1, taps=(Tap("a", 1, (1, 2, 2)), Tap("b", 1, (1, 2, 2), "flow")))
    outputs = {}
    for tap, corner in (("a", (0, 0)), ("b", (1, 1))):
        grid = np.zeros((1, 1, 2, 2), np.float32)
        grid[0, 0][corner] = 1.0
        outputs |= {grid_name(name, tap): grid for name in GRIDS}
    envelope, _ = _answer(
        card, source_frames=(0,), num_source_frames=1, outputs=outputs, explain="boxes", threshold="0.9"
    )
    (box,) = envelope["clips"][0]["boxes"]
    # One stream sees the top left, the other the bottom right: the union is the whole square.
    assert box["box_xyxy_px"] == [0.0, 0.0, SIZE_PX, SIZE_PX]


def test_grids_are_described_and_the_reply_names_the_stream_of_each_tap() -> None:
    card = _card(clip_length=4, taps=RGB + FLOW)
    envelope, tensors = _answer(card, source_frames=(0, 1, 2, 3), num_source_frames=4, explain="grids")
    assert set(tensors) == {grid_name(grid, tap.name) for grid in ("activation", "gradient") for tap in card.taps}
    assert {told["axes"] for told in envelope["tensors"].values()} == {"Nthw"}
    assert envelope["model"]["tap_streams"] == {
        "layer1": "rgb",
        "layer2": "rgb",
        "flow_layer1": "flow",
        "flow_layer2": "flow",
    }
