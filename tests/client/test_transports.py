"""HTTP and gRPC, waiting and awaited, give the same requests, the same predictions and the same errors."""

import json
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest

from sum3dcam.errors import (
    BadOptionError,
    NoVideoFramesError,
    OverloadedError,
    RequestError,
    ServerError,
    Sum3DCamError,
    TooLargeError,
    UnauthorizedError,
    UnreachableError,
    WorkerDiedError,
)


@pytest.fixture(params=["waiting", "awaited"])
def fake(request: pytest.FixtureRequest, fake: Any) -> Any:
    """A fake server whose clients wait for answers, or await them."""
    return replace(fake, style=request.param)


def test_data_goes_as_it_is_and_only_given_options_go_with_it(fake: Any, make: Any) -> None:
    fake.script.reply = make.reply(make.envelope())
    data = bytes(range(256)) * 4
    with fake.client(model="other-model") as client:
        client.predict(data)
        client.predict(data, explain="maps", taps=("layer1", "layer2"), target="wave & walk", top_k=3, method=None)
        client.predict(data, threshold=0.25, taps="layer4", deadline_ms=500)
    assert fake.script.model == "other-model"
    assert fake.script.requests == [
        {"data": data},
        {"data": data, "explain": b"maps", "taps": b"layer1,layer2", "target": b"wave & walk", "top_k": b"3"},
        {"data": data, "threshold": b"0.25", "taps": b"layer4", "deadline_ms": b"500"},
    ]


def test_one_connection_serves_all_requests(fake: Any, make: Any) -> None:
    fake.script.reply = make.reply(make.envelope())
    with fake.client() as client:
        for _ in range(4):
            client.predict(b"video")
    assert len(fake.script.requests) == 4
    assert len(fake.script.connections) == 1


def test_the_prediction_holds_what_the_envelope_and_the_tensors_say(fake: Any, make: Any) -> None:
    maps = make.blob_maps(2)
    fake.script.reply = make.reply(make.envelope(request_id="r1"), {"maps": maps})
    with fake.client() as client:
        prediction = client.predict(b"video", explain="maps", request_id="r1")
    assert prediction.request_id == "r1"
    assert (prediction.video.num_frames, prediction.video.padded_frames, prediction.clip_length) == (6, 2, 4)
    assert [(clip.start_frame, clip.end_frame) for clip in prediction.clips] == [(0, 4), (4, 6)]
    assert prediction.clips[0].labels[0].label == "wave"
    (explanation,) = prediction.clips[0].explanations
    assert explanation.empty_taps == ("layer2",)
    assert explanation.boxes[0].box_xyxy_px == (30.0, 20.0, 70.0, 60.5)
    assert prediction.maps_NETHW is not None
    assert prediction.maps_NETHW.dtype == np.float32
    # Oracle: the contract's u8 coding, round(255 * map); float32 division is exact to one unit in the last place.
    np.testing.assert_allclose(prediction.maps_NETHW, maps / 255.0, rtol=1e-6)


def test_an_error_envelope_becomes_the_error_it_names(fake: Any) -> None:
    error = {"code": "bad_option", "message": "top_k is too large", "got": 99, "allowed": "1..8"}
    body = json.dumps({"contract_version": 1, "status": "error", "request_id": None, "error": error}).encode()
    # Over gRPC the same bytes come with the status OK.
    fake.script.reply, fake.script.http_failure = body, (400, body)
    with fake.client() as client, pytest.raises(BadOptionError, match="top_k is too large") as caught:
        client.predict(b"video", top_k=99)
    assert (caught.value.got, caught.value.allowed) == (99, "1..8")


def test_an_error_envelope_is_found_whatever_the_http_status(fake: Any) -> None:
    error = {"code": "no_video_frames", "message": "audio only", "got": None, "allowed": None}
    body = json.dumps({"contract_version": 1, "status": "error", "request_id": None, "error": error}).encode()
    fake.script.reply, fake.script.http_failure = body, (503, body)
    with fake.client() as client, pytest.raises(NoVideoFramesError, match="audio only"):
        client.predict(b"sound")


def _torchserve(code: int, kind: str, message: str) -> tuple[int, bytes]:
    return code, json.dumps({"code": code, "type": kind, "message": message}, indent=2).encode()


# What TorchServe 0.12 answers to the same fault on each transport, seen on a real one.
FAULTS = {
    "queue full": (
        _torchserve(503, "ServiceUnavailableException", 'Model "m" has no worker to serve inference request.'),
        (grpc.StatusCode.INTERNAL, 'Model "m" has no worker to serve inference request.\nInternalServerException.()'),
        OverloadedError,
    ),
    "handler raised": (
        _torchserve(503, "InternalServerException", "Prediction failed"),
        (grpc.StatusCode.UNAVAILABLE, "Prediction failed\norg.pytorch.serve.http.InternalServerException"),
        OverloadedError,
    ),
    "worker died": (
        _torchserve(500, "InternalServerException", "Worker died."),
        (grpc.StatusCode.INTERNAL, "Worker died.\norg.pytorch.serve.http.InternalServerException"),
        WorkerDiedError,
    ),
    "worker was killed": (  # TorchServe takes SIGKILL for a lack of memory
        _torchserve(413, "InternalServerException", "Worker died."),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Worker died.\norg.pytorch.serve.http.InternalServerException"),
        WorkerDiedError,
    ),
    "no such model": (
        _torchserve(404, "ModelNotFoundException", "Model not found: m"),
        (
            grpc.StatusCode.INTERNAL,
            "Model not found: m\norg.pytorch.serve.archive.model.ModelNotFoundException",
        ),
        RequestError,
    ),
    "beyond the server's limit": (
        (413, b""),
        (grpc.StatusCode.CANCELLED, "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))"),
        TooLargeError,
    ),
    "proxy without a server": (
        (502, b"<html>Bad Gateway"),
        (grpc.StatusCode.UNAVAILABLE, "Received http2 header with status: 502"),
        UnreachableError,
    ),
    "proxy that is busy": (
        (503, b"<html>Service Unavailable"),
        (grpc.StatusCode.UNAVAILABLE, "Received http2 header with status: 503"),
        OverloadedError,
    ),
    "proxy that counts requests": ((429, b""), (grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down"), OverloadedError),
    "proxy's own limit": (
        (413, b"<html>Request Entity Too Large"),
        (grpc.StatusCode.UNKNOWN, "Received http2 header with status: 413"),
        TooLargeError,
    ),
    "wrong key": ((403, b""), (grpc.StatusCode.PERMISSION_DENIED, ""), UnauthorizedError),
    "refused": ((400, b"<html>Bad Request"), (grpc.StatusCode.INVALID_ARGUMENT, "Bad Request"), RequestError),
    "unforeseen": ((418, b"short and stout"), (grpc.StatusCode.UNIMPLEMENTED, "no such method"), ServerError),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_the_same_error_on_all_clients_and_is_not_retried(fake: Any, fault: str) -> None:
    fake.script.http_failure, fake.script.grpc_failure, kind = FAULTS[fault]
    with fake.client() as client, pytest.raises(Sum3DCamError) as caught:
        client.predict(b"video")
    assert type(caught.value) is kind
    assert len(fake.script.requests) == 1


def test_bytes_that_are_no_reply_are_a_server_error(fake: Any) -> None:
    fake.script.reply = b"<html>hello"
    with fake.client() as client, pytest.raises(ServerError):
        client.predict(b"video")


def test_a_late_answer_is_unreachable(fake: Any, make: Any) -> None:
    fake.script.reply, fake.script.delay_seconds = make.reply(make.envelope()), 0.6
    with fake.client(timeout_seconds=0.2) as client, pytest.raises(UnreachableError, match="in time"):
        client.predict(b"video")


def test_a_request_beyond_the_limit_is_not_sent(fake: Any) -> None:
    with fake.client(max_message_bytes=1000) as client, pytest.raises(TooLargeError, match="not sent") as caught:
        client.predict(bytes(1001))
    assert (caught.value.got, caught.value.allowed) == (1001, 1000)
    assert fake.script.requests == []


def test_a_reply_beyond_the_limit_is_too_large(fake: Any, make: Any) -> None:
    fake.script.reply = make.reply(make.envelope(), {"maps": make.blob_maps(2)})
    with fake.client(max_message_bytes=5000) as client, pytest.raises(TooLargeError, match="reply"):
        client.predict(b"video")


def test_messages_above_grpcs_own_four_megabytes_pass_both_ways(fake: Any, make: Any) -> None:
    maps = np.zeros((5, 1, make.clip_length, 512, 512), np.uint8)
    fake.script.reply = make.reply(make.envelope(num_frames=20), {"maps": maps})
    with fake.client() as client:
        prediction = client.predict(bytes(5_000_000))
    assert prediction.maps_NETHW is not None
    assert prediction.maps_NETHW.shape == maps.shape
    assert len(fake.script.requests[0]["data"]) == 5_000_000
