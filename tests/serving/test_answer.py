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
    explained: tuple[int, ...] | None = None,
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
    outputs |= {LOGITS: np.zeros((items, 2), np.float32), EXPLAINED: np.array(explained or [0] * items, np.int64)}
    outputs = {name: values[:, None] for name, values in outputs.items()}  # one class of each clip
    engine: Any = SimpleNamespace(card=card, name="fake", provider="cpu", sha256="0" * 64)
    return build_answer(request, outputs, engine=engine)


def _boxes(envelope: dict[str, Any]) -> list[Any]:
    """Those of each clip's one explanation."""
    return [explanation["boxes"] for (explanation,) in _told(envelope, "explanations")]


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
    boxes = [[(box["frame"], box["time_seconds"]) for box in boxes] for boxes in _boxes(envelope)]
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
    assert [[box["frame"] for box in boxes] for boxes in _boxes(envelope)] == [[0, 1], [2], [3]]


def test_a_later_place_gives_no_box_where_the_first_has_none() -> None:
    card = _card(clip_length=2, taps=(Tap("layer1", 1, (2, 1, 1)),))
    # Nothing at the clip's first place, all at its second; both show frame 0.
    grid = np.array([0, 1], np.float32).reshape(1, 2, 1, 1)
    outputs = {grid_name(name, "layer1"): grid for name in GRIDS}
    envelope, tensors = _answer(
        card, source_frames=(0, 0), num_source_frames=1, outputs=outputs, explain="maps", threshold="0.5"
    )
    assert tensors["maps"][0, 0, :, 0, 0].tolist() == [0, 255]
    assert _boxes(envelope)[0] == []


def test_a_network_of_single_frames_has_a_clip_for_each() -> None:
    envelope, tensors = _answer(_card(clip_length=1), source_frames=(0, 1, 2), num_source_frames=3, explain="maps")
    assert _told(envelope, "frames") == [[0], [1], [2]]
    assert _told(envelope, "end_frame") == [1, 2, 3]
    assert [[box["frame"] for box in boxes] for boxes in _boxes(envelope)] == [[0], [1], [2]]
    assert tensors["maps"].shape == (3, 1, 1, SIZE_PX, SIZE_PX)


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
        got = tensors[name][:, 0] / np.float32({"u8": 255}.get(map_dtype, 1))
        np.testing.assert_allclose(got, expected, rtol=0, atol=step)
        assert got.max() == 1.0
        assert envelope["tensors"][name] == {
            "dtype": str(tensors[name].dtype),
            "shape": [2, 1, 4, SIZE_PX, SIZE_PX],
            "axes": "NETHW",
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
    (box,) = _boxes(envelope)[0]
    # One stream sees the top left, the other the bottom right: the union is the whole square.
    assert box["box_xyxy_px"] == [0.0, 0.0, SIZE_PX, SIZE_PX]


def test_grids_are_described_and_the_reply_names_the_stream_of_each_tap() -> None:
    card = _card(clip_length=4, taps=RGB + FLOW)
    envelope, tensors = _answer(card, source_frames=(0, 1, 2, 3), num_source_frames=4, explain="grids")
    assert set(tensors) == {grid_name(grid, tap.name) for grid in ("activation", "gradient") for tap in card.taps}
    assert {told["axes"] for told in envelope["tensors"].values()} == {"NEthw"}
    assert envelope["model"]["tap_streams"] == {
        "layer1": "rgb",
        "layer2": "rgb",
        "flow_layer1": "flow",
        "flow_layer2": "flow",
    }


def _spans(envelope: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Explained class, first frame and end of each tube."""
    return [(tube["explained"]["index"], tube["start_frame"], tube["end_frame"]) for tube in envelope["video"]["tubes"]]


def _frames(tube: dict[str, Any]) -> list[int]:
    return [box["frame"] for box in tube["boxes"]]


def _grids(card: Card, *clips: Any) -> dict[str, Any]:
    """Every grid of every tap holds these values, one array (t,h,w) for each clip."""
    return {grid_name(name, tap.name): np.stack(clips).astype(np.float32) for name in GRIDS for tap in card.taps}


@pytest.mark.parametrize("options", [{}, {"tubes": "none"}, {"explain": "none"}])
def test_there_are_no_tubes_unless_they_are_asked_for(options: dict[str, str]) -> None:
    asked = {"explain": "boxes"} | options
    envelope, _ = _answer(_card(clip_length=2), source_frames=(0, 1), num_source_frames=2, **asked)
    assert envelope["video"]["tubes"] == []


@pytest.mark.parametrize("explain", ["boxes", "maps", "grids"])
def test_a_tube_runs_on_through_the_clips_of_a_video(explain: str) -> None:
    envelope, _ = _answer(
        _card(clip_length=2), source_frames=(0, 1, 2, 3, 4), num_source_frames=5, explain=explain, tubes="linked"
    )
    (tube,) = envelope["video"]["tubes"]
    boxes = [box for boxes in _boxes(envelope) for box in boxes]
    assert tube == {
        "explained": {"index": 0, "label": "left"},
        "start_frame": 0,
        "end_frame": 5,
        "start_seconds": 0.0,
        "end_seconds": 0.5,
        "score": 1.0,
        "boxes": boxes,
    }
    assert [(box["frame"], box["time_seconds"]) for box in boxes] == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]


def test_frames_that_were_dropped_are_no_gap_and_belong_to_the_tube_before_them() -> None:
    # Seven frames missing each time: more than the greatest gap.
    envelope, _ = _answer(
        _card(clip_length=2), source_frames=(0, 8, 16, 24), num_source_frames=30, explain="boxes", tubes="smoothed"
    )
    (tube,) = envelope["video"]["tubes"]
    assert _frames(tube) == [0, 8, 16, 24]
    assert (tube["start_frame"], tube["end_frame"], tube["end_seconds"]) == (0, 30, 3.0)


def test_a_tube_that_ends_early_ends_where_the_next_frame_shown_begins() -> None:
    card = _card(clip_length=4, taps=(Tap("layer1", 1, (4, 1, 1)),))
    seen = np.array([1, 1, 0, 0]).reshape(4, 1, 1)
    envelope, _ = _answer(
        card,
        source_frames=(0, 3, 6, 9),
        num_source_frames=12,
        outputs=_grids(card, seen),
        explain="boxes",
        tubes="linked",
    )
    (tube,) = envelope["video"]["tubes"]
    assert (_frames(tube), tube["end_frame"], tube["end_seconds"]) == ([0, 3], 6, 0.6)


def test_a_frame_that_is_repeated_is_in_a_tube_once() -> None:
    envelope, _ = _answer(
        _card(clip_length=3),
        source_frames=(0, 0, 1, 1, 2, 2, 3),
        num_source_frames=4,
        explain="boxes",
        tubes="linked",
    )
    (tube,) = envelope["video"]["tubes"]
    assert (_frames(tube), tube["end_frame"]) == ([0, 1, 2, 3], 4)


@pytest.mark.parametrize(("gap", "spans"), [(5, [(0, 0, 12)]), (6, [(0, 0, 4), (0, 10, 13)])])
def test_a_gap_of_more_than_five_frames_ends_a_tube(gap: int, spans: list[tuple[int, int, int]]) -> None:
    card = _card(clip_length=16, taps=(Tap("layer1", 1, (16, 1, 1)),))
    seen = np.array(([1] * 4 + [0] * gap + [1] * 3 + [0] * 16)[:16]).reshape(16, 1, 1)
    envelope, _ = _answer(
        card,
        source_frames=tuple(range(16)),
        num_source_frames=16,
        outputs=_grids(card, seen),
        explain="boxes",
        tubes="linked",
    )
    assert _spans(envelope) == spans


def test_boxes_of_clips_that_explain_different_classes_are_not_linked() -> None:
    card = _card(clip_length=4)
    envelope, _ = _answer(
        card,
        source_frames=tuple(range(12)),
        num_source_frames=12,
        explained=(1, 0, 0),
        explain="boxes",
        tubes="linked",
    )
    # The longer one first: with equal scores its sum is greater.
    assert _spans(envelope) == [(0, 4, 12), (1, 0, 4)]
    assert [tube["explained"]["label"] for tube in envelope["video"]["tubes"]] == ["left", "right"]


def test_components_that_stay_apart_are_tubes_of_their_own() -> None:
    card = _card(clip_length=2, taps=(Tap("layer1", 1, (2, 4, 4)),))
    corners = np.zeros((2, 4, 4))
    corners[:, 0, 0] = corners[:, 3, 3] = 1.0
    lower = corners.copy()
    lower[:, 0, 0] = 0.0
    envelope, _ = _answer(
        card,
        source_frames=(0, 1, 2, 3),
        num_source_frames=4,
        outputs=_grids(card, corners, lower),
        explain="boxes",
        box_mode="all",
        threshold="0.5",
        tubes="linked",
    )
    # A cell is two pixels wide; its linear interpolation reaches half its height, squared, within those.
    assert [[(box["frame"], box["box_xyxy_px"]) for box in tube["boxes"]] for tube in envelope["video"]["tubes"]] == [
        [(frame, [6.0, 6.0, 8.0, 8.0]) for frame in range(4)],
        [(frame, [0.0, 0.0, 2.0, 2.0]) for frame in range(2)],
    ]


def test_smoothing_moves_the_boxes_of_tubes_and_not_those_of_clips() -> None:
    card = _card(clip_length=4, taps=(Tap("layer1", 1, (4, 4, 4)),))
    shaken = np.ones((4, 4, 4))
    shaken[0::2, :, 3] = shaken[1::2, :, 0] = 0.0  # columns 0..5, then 2..7, of eight pixels
    video: dict[str, Any] = {"source_frames": tuple(range(8)), "num_source_frames": 8}
    linked, smoothed = (
        _answer(card, **video, outputs=_grids(card, shaken, shaken), explain="boxes", threshold="0.5", tubes=tubes)[0]
        for tubes in ("linked", "smoothed")
    )
    assert linked["clips"] == smoothed["clips"]
    ((raw,), (calm,)) = linked["video"]["tubes"], smoothed["video"]["tubes"]
    assert [box["box_xyxy_px"][0] for box in raw["boxes"]] == [0, 2, 0, 2, 0, 2, 0, 2]
    # By hand: the ends alone, their neighbours with one pair, the others with two.
    expected = [0, 2 / 3, 4 / 5, 6 / 5, 4 / 5, 6 / 5, 4 / 3, 2]
    assert [box["box_xyxy_px"][0] for box in calm["boxes"]] == pytest.approx(expected, abs=1e-12)
    assert _frames(calm) == _frames(raw)
    assert calm["score"] == raw["score"]
