"""The predictor with a made-up engine: every row gets the answer it would get alone, good or bad."""

import json
from collections.abc import Callable
from concurrent.futures import Future
from io import BytesIO
from threading import Timer
from typing import Any

import numpy as np
import pytest

from sum3dcam.attribution.maps import build_maps
from sum3dcam.contract import COMPRESSED_SHARE, CONTRACT_VERSION, JSON_TYPE, SAFETENSORS_TYPE
from sum3dcam.serving.predictor import Predictor
from sum3dcam.serving.request import frame_spec
from sum3dcam.serving.settings import Settings
from sum3dcam.video.decoder import InProcessDecoder
from sum3dcam.video.footage import Video
from sum3dcam.wire import decode_reply

Clip = Callable[..., bytes]


def envelope_of(reply: Any) -> dict[str, Any]:
    return decode_reply(reply.body)[0]


def error_of(reply: Any) -> dict[str, Any]:
    envelope = json.loads(reply.body)
    assert envelope["status"] == "error"
    return envelope["error"]


def test_labels_only_reply(engines: Any, clip_bytes: Clip) -> None:
    explain, labels = engines
    (reply,) = Predictor(explain, labels).predict([{"body": clip_bytes(1, num_frames=6), "request_id": "r"}])
    assert (reply.content_type, reply.http_status) == (JSON_TYPE, 200)
    envelope = envelope_of(reply)
    assert (envelope["contract_version"], envelope["status"], envelope["request_id"]) == (CONTRACT_VERSION, "ok", "r")
    assert envelope["model"]["name"] == "tiny"
    assert envelope["model"]["engine"] == "fake"
    assert envelope["video"]["num_frames"] == 6
    assert envelope["video"]["padded_frames"] == 2
    first, second = envelope["clips"]
    assert (first["start_frame"], first["end_frame"], second["start_frame"], second["end_frame"]) == (0, 4, 4, 6)
    assert first["labels"][0]["label"] == "right"
    assert (envelope["attribution"], first["explanations"]) == (None, [])
    assert envelope["map_region_xyxy_px"] is None
    assert explain.batch_sizes == []  # nobody asked, nobody pays


def test_scores_are_the_softmax_and_the_videos_their_mean(engines: Any, clip_bytes: Clip, npy: Any) -> None:
    row = {"body": clip_bytes(0, num_frames=8), "top_k": "3"}
    envelope = envelope_of(Predictor(*engines).predict([row])[0])
    scores = [{label["index"]: label["score"] for label in clip["labels"]} for clip in envelope["clips"]]
    clips = np.load(BytesIO(row["body"])).reshape(2, 4, 16, 16, 3)
    logits = engines[1].run(clips, target_B=np.array([-1, -1]))["logits"].astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # 1e-12: float64 on both sides, of order 1.
    np.testing.assert_allclose([[clip[k] for k in range(3)] for clip in scores], expected, atol=1e-12)
    for label in envelope["video"]["labels"]:
        assert label["score"] == pytest.approx(expected[:, label["index"]].mean(), abs=1e-12)


def test_top_k_is_best_first(engines: Any, clip_bytes: Clip) -> None:
    labels = envelope_of(Predictor(*engines).predict([{"body": clip_bytes(), "top_k": "2"}])[0])["video"]["labels"]
    assert len(labels) == 2
    assert labels[0]["score"] > labels[1]["score"]


def test_boxes_lie_where_the_explained_class_looks(engines: Any, npy: Any) -> None:
    # 32x64 source: halved, columns 16..48 of the source are the square. Bright below: the class looks there.
    frames = np.full((6, 32, 64, 3), 10, np.uint8)
    frames[:, 16:] = 250
    row = {"body": npy(frames), "explain": "boxes", "threshold": "0.5"}
    envelope = envelope_of(Predictor(*engines).predict([row])[0])
    assert envelope["map_region_xyxy_px"] == [16.0, 0.0, 48.0, 32.0]
    (first,), (second,) = (clip["explanations"] for clip in envelope["clips"])
    assert (first["index"], first["label"], first["empty_taps"]) == (1, "right", [])
    assert first["score"] == envelope["clips"][0]["labels"][0]["score"]
    assert envelope["attribution"] == {
        "method": "sum3dcam",
        "taps": ["pool"],
        "coordinates": "half-pixel",
        "normalisation": "clip",
    }
    assert [box["frame"] for box in first["boxes"]] == [0, 1, 2, 3]
    # Two of the second clip's four frames are repeats beyond the video's end.
    assert [box["frame"] for box in second["boxes"]] == [4, 5]
    for box in first["boxes"] + second["boxes"]:
        x1, y1, x2, y2 = box["box_xyxy_px"]
        assert (x1, x2, y2) == (16.0, 48.0, 32.0)
        assert 12 <= y1 <= 18  # the edge is at 16; the map's cells are 8 source pixels high and interpolated
        assert 0 < box["score"] <= 1
        assert box["time_seconds"] is None


@pytest.mark.parametrize("tubes", ["linked", "smoothed"])
def test_the_boxes_of_a_video_without_a_clock_are_a_tube(tubes: str, engines: Any, npy: Any) -> None:
    # Bright below on every frame: the box hardly moves, through two clips of which the second is padded.
    frames = np.full((6, 32, 64, 3), 10, np.uint8)
    frames[:, 16:] = 250
    row = {"body": npy(frames), "explain": "maps", "threshold": "0.5", "tubes": tubes}
    envelope, _ = decode_reply(Predictor(*engines).predict([row])[0].body)
    (tube,) = envelope["video"]["tubes"]
    assert tube["explained"] == {"index": 1, "label": "right"}
    assert (tube["start_frame"], tube["end_frame"]) == (0, 6)
    assert (tube["start_seconds"], tube["end_seconds"]) == (None, None)
    boxes = [box for clip in envelope["clips"] for box in clip["explanations"][0]["boxes"]]
    assert [(box["frame"], box["score"]) for box in tube["boxes"]] == [(box["frame"], box["score"]) for box in boxes]
    assert tube["score"] == pytest.approx(np.mean([box["score"] for box in boxes]), abs=1e-12)  # float64, below 1
    for box, raw in zip(tube["boxes"], boxes, strict=True):
        assert box["box_xyxy_px"] == pytest.approx(raw["box_xyxy_px"], abs=1e-12)  # still: smoothing has nothing to do
        assert box["time_seconds"] is None


def test_target_by_label_or_index_is_what_is_explained(engines: Any, clip_bytes: Clip) -> None:
    rows = [{"body": clip_bytes(), "explain": "boxes", "target": target} for target in ("top", "right", "1", "still")]
    replies = Predictor(*engines).predict(rows)
    assert engines[0].targets == [-1, 1, 1, 2]
    explained = [envelope_of(reply)["clips"][0]["explanations"][0] for reply in replies]
    assert [item["index"] for item in explained] == [0, 1, 1, 2]


@pytest.mark.parametrize("max_batch_clips", [1, 3, 8])
def test_each_of_several_classes_has_the_answer_that_it_has_alone(
    max_batch_clips: int, engines: Any, clip_bytes: Clip
) -> None:
    # Two clips: bright above, then below, so that their best classes differ.
    frames = np.concatenate([np.load(BytesIO(clip_bytes(seed))) for seed in (0, 1)])
    buffer = BytesIO()
    np.save(buffer, frames)
    row = {"body": buffer.getvalue(), "explain": "maps", "map_dtype": "f32"}
    predictor = Predictor(*engines, settings=Settings(max_batch_clips=max_batch_clips))
    alone = [decode_reply(predictor.predict([{**row, "target": str(index)}])[0].body) for index in range(3)]
    ranked, listed = (
        decode_reply(reply.body)
        for reply in predictor.predict([{**row, "target": "top-3"}, {**row, "target": "still,top"}])
    )
    for (envelope, tensors), orders in ((ranked, [[0, 1, 2], [1, 0, 2]]), (listed, [[2, 0], [2, 1]])):
        for clip, order in enumerate(orders):
            explanations = envelope["clips"][clip]["explanations"]
            assert [explanation["index"] for explanation in explanations] == order
            for place, index in enumerate(order):
                assert explanations[place] == alone[index][0]["clips"][clip]["explanations"][0]
                np.testing.assert_array_equal(tensors["maps"][clip, place], alone[index][1]["maps"][clip, 0])
    scores = {label["index"]: label["score"] for label in ranked[0]["clips"][0]["labels"]}
    assert [scores[each["index"]] for each in ranked[0]["clips"][0]["explanations"]] == sorted(scores.values())[::-1]


def test_of_equally_good_classes_the_lower_index_comes_first(engines: Any, clip_bytes: Clip, npy: Any) -> None:
    # Black: every logit is zero.
    row = {"body": npy(np.zeros((4, 16, 16, 3), np.uint8)), "explain": "boxes", "target": "top-3"}
    (clip,) = envelope_of(Predictor(*engines).predict([row])[0])["clips"]
    assert [explanation["index"] for explanation in clip["explanations"]] == [0, 1, 2]
    assert [label["index"] for label in clip["labels"]] == [0, 1, 2]


def test_classes_cost_nothing_where_labels_alone_are_asked_for(engines: Any, clip_bytes: Clip) -> None:
    Predictor(*engines).predict([{"body": clip_bytes(num_frames=8), "target": "top-3"}])
    assert (sum(engines[0].batch_sizes), sum(engines[1].batch_sizes)) == (0, 2)


def test_empty_tap_is_reported_and_gives_no_box(engines: Any, clip_bytes: Clip) -> None:
    # The gradient of class 2 is negative everywhere.
    row = {"body": clip_bytes(), "explain": "maps", "target": "still"}
    envelope, tensors = decode_reply(Predictor(*engines).predict([row])[0].body)
    (explanation,) = envelope["clips"][0]["explanations"]
    assert (explanation["empty_taps"], explanation["boxes"]) == (["pool"], [])
    assert not tensors["maps"].any()


@pytest.mark.parametrize(("name", "dtype"), [("u8", np.uint8), ("f16", np.float16), ("f32", np.float32)])
def test_maps_in_the_dtype_asked_for(name: str, dtype: Any, engines: Any, clip_bytes: Clip) -> None:
    body = clip_bytes(num_frames=8)
    rows = [{"body": body, "explain": "maps", "map_dtype": kind} for kind in (name, "f32")]
    reply, exact = Predictor(*engines).predict(rows)
    assert reply.content_type == SAFETENSORS_TYPE
    envelope, tensors = decode_reply(reply.body)
    assert envelope["tensors"]["maps"] == {"dtype": np.dtype(dtype).name, "shape": [2, 1, 4, 16, 16], "axes": "NETHW"}
    assert tensors["maps"].dtype == dtype
    scale = 255 if name == "u8" else 1
    # Half a step of 1/255; float16 has 11 bits below 1.
    tolerance = {"u8": 0.5 / 255 + 1e-7, "f16": 2**-11, "f32": 0}[name]
    maps = tensors["maps"].astype(np.float64) / scale
    np.testing.assert_allclose(maps, decode_reply(exact.body)[1]["maps"], rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("method", "names"), [("sum3dcam", {"activation_pool", "gradient_pool"}), ("layercam", {"layercam_pool"})]
)
def test_grids_reply_holds_what_the_method_reads_and_gives_its_maps(
    method: str, names: set[str], engines: Any, clip_bytes: Clip
) -> None:
    row = {"body": clip_bytes(num_frames=8), "method": method, "map_dtype": "f32"}
    grids, maps = Predictor(*engines).predict([{**row, "explain": explain} for explain in ("grids", "maps")])
    envelope, tensors = decode_reply(grids.body)
    assert set(tensors) == set(envelope["tensors"]) == names
    assert envelope["tensors"][min(names)] == {"dtype": "float32", "shape": [2, 1, 2, 4, 4], "axes": "NEthw"}
    assert envelope["clips"][0]["explanations"][0]["boxes"]
    tensors = {name: grid[:, 0] for name, grid in tensors.items()}
    rebuilt = build_maps(tensors, taps=["pool"], method=method, num_frames=4, size_px=16).maps_BTHW
    np.testing.assert_array_equal(rebuilt, decode_reply(maps.body)[1]["maps"][:, 0])


@pytest.mark.parametrize("max_batch_clips", [1, 3, 8])
def test_items_get_their_own_answers_however_clips_are_batched(
    max_batch_clips: int, engines: Any, clip_bytes: Clip
) -> None:
    rows = [{"data": clip_bytes(seed, num_frames=3 + seed), "explain": "maps"} for seed in range(6)]
    rows += [{"data": clip_bytes(seed, num_frames=9), "explain": "boxes", "tubes": "smoothed"} for seed in range(3)]
    rows += [{"data": clip_bytes(seed)} for seed in range(6)]
    predictor = Predictor(*engines, settings=Settings(max_batch_clips=max_batch_clips))
    together = predictor.predict(rows)
    alone = [predictor.predict([row])[0] for row in rows]
    assert together == alone
    assert max(engines[0].batch_sizes) == max_batch_clips


def test_cpu_runs_clip_by_clip_unless_told_otherwise(engines: Any, clip_bytes: Clip) -> None:
    Predictor(*engines).predict([{"data": clip_bytes(num_frames=12)}, {"data": clip_bytes()}])
    assert engines[1].batch_sizes == [1, 1, 1, 1]


BAD_ROWS: dict[str, tuple[dict[str, Any], str, int]] = {
    "empty": ({"body": b""}, "empty_body", 400),
    "nothing": ({}, "empty_body", 400),
    "text": ({"data": b"hello there"}, "unreadable_media", 415),
    "decoded text": ({"body": "hello there"}, "unreadable_media", 415),
    "decoded json": ({"body": {"data": "aGVsbG8="}}, "unreadable_media", 415),
    "twice": ({"body": b"x", "data": b"x"}, "bad_option", 400),
    "unknown option": ({"body": b"x", "colour": "red"}, "unknown_option", 400),
    "bad option": ({"body": b"x", "top_k": "many"}, "bad_option", 400),
    "tubes of no boxes": ({"body": b"x", "tubes": "linked"}, "bad_option", 400),
    "bad request id": ({"body": b"x", "request_id": "a\nb"}, "bad_option", 400),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_row_gets_its_error_and_its_neighbours_never_notice(name: str, engines: Any, clip_bytes: Clip) -> None:
    row, code, http_status = BAD_ROWS[name]
    good = [{"data": clip_bytes(seed), "explain": "boxes"} for seed in range(3)]
    predictor = Predictor(*engines)
    without = predictor.predict(good)
    bad, *others = predictor.predict([dict(row), *good])
    assert (error_of(bad)["code"], bad.http_status, bad.content_type) == (code, http_status, JSON_TYPE)
    assert others == without
    assert predictor.predict([dict(row)]) == [bad]


def test_error_carries_the_request_id(engines: Any) -> None:
    (reply,) = Predictor(*engines).predict([{"body": b"x", "request_id": "mine", "top_k": "0"}])
    assert json.loads(reply.body)["request_id"] == "mine"


def test_failing_engine_fails_its_items_alone_and_tells_nothing(engines: Any, clip_bytes: Clip) -> None:
    rows = [{"data": clip_bytes(seed), "explain": "boxes", "request_id": f"r{seed}"} for seed in range(3)]
    predictor = Predictor(*engines)
    without = predictor.predict(rows)
    poison = np.load(BytesIO(rows[1]["data"]))

    def fail(clip_BTHWC: Any) -> None:
        if np.array_equal(clip_BTHWC[0], poison):
            raise RuntimeError("secret path /srv/weights")

    engines[0].on_run = fail
    answers = predictor.answer(rows)
    replies = [reply for reply, _ in answers]
    assert error_of(replies[1])["code"] == "internal"
    assert replies[1].http_status == 500
    assert b"secret" not in replies[1].body
    assert [report.failure is not None for _, report in answers] == [False, True, False]
    assert [replies[0], replies[2]] == [without[0], without[2]]


def test_logits_that_are_no_numbers_are_an_internal_error(engines: Any, clip_bytes: Clip) -> None:
    run = engines[1].run
    engines[1].run = lambda clip, *, target_B: {"logits": run(clip, target_B=target_B)["logits"] * np.nan}
    (reply,) = Predictor(*engines).predict([{"data": clip_bytes()}])
    assert error_of(reply)["code"] == "internal"


def test_reply_beyond_the_cap_is_an_error_that_names_the_limit(engines: Any, clip_bytes: Clip) -> None:
    predictor = Predictor(*engines, settings=Settings(max_reply_bytes=3000))
    rows = [{"data": clip_bytes(), "explain": "maps", "map_dtype": "f32"}, {"data": clip_bytes()}]
    big, small = predictor.predict(rows)
    error = error_of(big)
    assert (error["code"], error["allowed"], big.http_status) == ("too_large", 3000, 413)
    assert "max_response_size" in error["message"]
    assert small.http_status == 200


@pytest.mark.parametrize("explain", ["maps", "grids"])
@pytest.mark.parametrize("compression", ["none", "zlib"])
def test_an_answer_that_cannot_be_sent_is_not_computed(
    explain: str, compression: str, engines: Any, clip_bytes: Clip
) -> None:
    row = {"data": clip_bytes(num_frames=8), "explain": explain, "target": "top-2", "compression": compression}
    (reply,) = Predictor(*engines).predict([row])
    tensors = decode_reply(reply.body)[1]
    taken = sum(tensor.nbytes for tensor in tensors.values())
    assert taken > 0
    engines[0].batch_sizes.clear()
    limit = taken // (COMPRESSED_SHARE if compression == "zlib" else 1) - 1
    (reply,) = Predictor(*engines, settings=Settings(max_reply_bytes=limit)).predict([row])
    error = error_of(reply)
    assert (error["code"], error["got"]) == ("too_large", taken)
    assert engines[0].batch_sizes == []


class Clock:
    """Unix time that stands still until told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("deadline_ms", "seconds_per_clip", "expected"),
    [
        ("900", 1.0, "deadline_exceeded"),  # a duration; the second clip starts after 1 s
        ("1100", 1.0, "ok"),
        ("1800000000900", 1.0, "deadline_exceeded"),  # the same as a Unix time
        ("1800000001100", 1.0, "ok"),
        ("1799999999999", 1.0, "deadline_exceeded"),  # over while it waited in the queue
    ],
)
def test_item_past_its_deadline_is_not_computed(
    deadline_ms: str, seconds_per_clip: float, expected: str, engines: Any, clip_bytes: Clip
) -> None:
    clock = Clock()

    def pass_time(clip_BTHWC: Any) -> None:
        clock.now += seconds_per_clip

    engines[1].on_run = pass_time
    rows = [{"data": clip_bytes(num_frames=8), "deadline_ms": deadline_ms}, {"data": clip_bytes()}]
    hurried, patient = Predictor(*engines, clock=clock).predict(rows)
    envelope = json.loads(hurried.body)
    assert envelope.get("error", {}).get("code", "ok") == expected
    assert hurried.http_status == (504 if expected == "deadline_exceeded" else 200)
    assert patient.http_status == 200


def test_items_that_would_outlast_the_worker_are_answered_in_time(engines: Any, clip_bytes: Clip) -> None:
    clock = Clock()

    def pass_time(clip_BTHWC: Any) -> None:
        clock.now += 4.0

    engines[1].on_run = pass_time
    predictor = Predictor(*engines, settings=Settings(batch_seconds=10.0), clock=clock)
    replies = predictor.predict([{"data": clip_bytes(seed)} for seed in range(5)])
    assert [reply.http_status for reply in replies] == [200, 200, 200, 504, 504]


class SlowDecoder:
    """Keeps what it is given until told to decode it."""

    def __init__(self, decoder: InProcessDecoder) -> None:
        self.decoder = decoder
        self.waiting: list[tuple[bytes, Future[Video]]] = []
        self.seconds_left: list[float] = []

    def submit(self, data: bytes, *, seconds_left: float) -> Future[Video]:
        self.waiting.append((data, Future()))
        self.seconds_left.append(seconds_left)
        return self.waiting[-1][1]

    def decode_last(self) -> None:
        data, future = self.waiting.pop()
        done = self.decoder.submit(data)
        if done.exception():
            future.set_exception(done.exception())
        else:
            future.set_result(done.result())


@pytest.mark.timeout(20)
def test_what_is_decoded_is_computed_while_the_rest_still_is(engines: Any, clip_bytes: Clip) -> None:
    decoder = SlowDecoder(InProcessDecoder(frame_spec(engines[0].card), limits=Settings().limits))
    rows: list[dict[str, Any]] = [{"data": clip_bytes(seed), "explain": "boxes"} for seed in range(3)]
    rows.insert(1, {"data": b"text"})
    expected = Predictor(*engines).predict(rows)
    computed: list[int] = []

    def compute(clip_BTHWC: Any) -> None:
        # The last item's own clip: the others are decoded only now, one for each that is computed.
        computed.append(len(decoder.waiting))
        while decoder.waiting:
            decoder.decode_last()

    engines[0].on_run = compute
    start = Timer(0.05, decoder.decode_last)
    start.start()
    assert Predictor(*engines, decoder=decoder).predict(rows) == expected
    start.join()
    assert computed == [3, 0, 0]


def test_decoder_is_told_how_much_time_a_row_has_left(engines: Any, clip_bytes: Clip) -> None:
    clock = Clock()
    decoder = SlowDecoder(InProcessDecoder(frame_spec(engines[0].card), limits=Settings().limits))
    predictor = Predictor(*engines, settings=Settings(batch_seconds=50.0), decoder=decoder, clock=clock)
    rows = [{"data": clip_bytes()}, *({"data": clip_bytes(), "deadline_ms": ms} for ms in ("9000", "1800000020000"))]
    start = Timer(0.05, lambda: [decoder.decode_last() for _ in rows])
    start.start()
    assert [reply.http_status for reply in predictor.predict(rows)] == [200, 200, 200]
    start.join()
    assert decoder.seconds_left == [50.0, 9.0, 20.0]


def test_an_empty_batch_is_fine(engines: Any) -> None:
    assert Predictor(*engines).predict([]) == []
