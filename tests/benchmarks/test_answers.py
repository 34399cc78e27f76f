"""What is sent is never the same twice; what comes back is coded, counted and held against the answer got alone."""

import asyncio
import io
import json
from itertools import count
from typing import Any

import av
import grpc
import numpy as np
import pytest
from load.gate import WrongAnswerError, check_answers, difference
from load.inputs import NPY, POOL, VIDEO, make_inputs
from load.latency import describe
from load.scenarios import Case, single_stream
from load.senders import GrpcSender, HttpSender
from load.traffic import OK, Answer, closed_loop

from sum3dcam import wire
from sum3dcam.contract import CONTRACT_VERSION
from sum3dcam.errors import BadOptionError


def reply(*, score: float = 0.9, tensors: dict[str, Any] | None = None) -> bytes:
    labels = [{"index": 1, "label": "wave", "score": score}, {"index": 0, "label": "clap", "score": 1 - score}]
    explanations = [{"index": 1, "label": "wave", "score": score, "empty_taps": [], "boxes": []}] if tensors else []
    clip = {"index": 0, "start_frame": 0, "end_frame": 2, "frames": [0, 1], "labels": labels}
    envelope = {
        "contract_version": CONTRACT_VERSION,
        "status": "ok",
        "model": {"name": "m"},
        "video": {"num_frames": 2, "width_px": 8, "height_px": 8, "padded_frames": 0, "labels": labels},
        "clips": [{**clip, "explanations": explanations}],
    }
    return wire.encode_safetensors(envelope, tensors=tensors) if tensors else wire.encode_json(envelope)


@pytest.mark.parametrize("kind", [VIDEO, NPY])
def test_no_two_requests_have_the_same_bytes_and_all_can_be_decoded(kind: str) -> None:
    inputs = make_inputs(kind, num_frames=4, size_px=32)
    sent = [inputs.data(serial) for serial in range(2 * POOL + 1)]
    assert len(set(sent)) == len(sent)
    assert inputs.data(7) == sent[7]
    for data in (sent[0], sent[POOL], sent[-1]):
        if kind == NPY:
            assert np.load(io.BytesIO(data), allow_pickle=False).shape == (4, 32, 32, 3)
        else:
            with av.open(io.BytesIO(data)) as file:
                assert len([frame.to_ndarray() for frame in file.decode(video=0)]) == 4


def test_http_errors_are_coded_by_their_envelope_or_else_by_status(serve) -> None:
    envelope = wire.encode_json(wire.error_envelope(BadOptionError("no"), request_id=None))
    answers = {b"good": (200, b"{}"), b"bad": (400, envelope), b"full": (503, b"{}"), b"odd": (200, envelope)}

    async def main() -> list[str]:
        async def script(path: str, body: bytes) -> tuple[int, bytes]:
            assert path == "/invocations?model_name=m&explain=maps"
            return answers[body]

        async with serve(script) as url, HttpSender(url, model="m") as sender:
            return [(await sender.send(body, {"explain": "maps"})).code for body in answers]

    assert asyncio.run(main()) == [OK, "bad_option", "HTTP 503", "bad_option"]


def test_grpc_errors_are_coded_by_their_envelope_or_else_by_status() -> None:
    envelope = wire.encode_json(wire.error_envelope(BadOptionError("no"), request_id=None))

    async def main() -> list[str]:
        async def predictions(request: bytes, context: Any) -> bytes:
            if b"full" in request:
                await context.abort(grpc.StatusCode.INTERNAL, "queue full")
            body = envelope if b"odd" in request else b"{}"
            return b"\x0a" + bytes([len(body) & 0x7F | 0x80, len(body) >> 7]) + body

        name = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
        handlers = {"Predictions": grpc.unary_unary_rpc_method_handler(predictions)}
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with GrpcSender(f"127.0.0.1:{port}", model="m") as sender:
            codes = [(await sender.send(body, {"explain": "maps"})).code for body in (b"good", b"full", b"odd")]
        await server.stop(None)
        return codes

    assert asyncio.run(main()) == [OK, "gRPC INTERNAL", "bad_option"]


def test_a_server_that_is_not_there_is_an_error_that_is_counted() -> None:
    async def main() -> dict[str, Any]:
        async with HttpSender("http://127.0.0.1:1", model="m") as sender:
            ask = lambda serial: sender.send(b"video", {})  # noqa: E731
            run = await closed_loop(ask, clients=2, seconds=60, max_requests=6)
        return describe(run, bound_seconds=1.0)

    assert asyncio.run(main())["errors"] == {"ConnectionRefusedError": 6}


def test_gate_takes_the_same_bytes_and_refuses_another_answer(serve) -> None:
    seen: set[bytes] = set()

    async def main(*, wrong_under_load: bool) -> dict[str, Any]:
        async def script(path: str, body: bytes) -> tuple[int, bytes]:
            first, _ = body not in seen, seen.add(body)
            return 200, reply(score=0.9 if first and wrong_under_load else 0.8)

        async with serve(script) as url, HttpSender(url, model="m") as sender:
            inputs = make_inputs(NPY, num_frames=2, size_px=8)
            case = Case("m", "http", "labels", inputs, sender, bound_seconds=1.0, blocks=count())
            return await single_stream(case, seconds=0.2)

    assert asyncio.run(main(wrong_under_load=False))["gate"]["compared"] >= 1
    seen.clear()
    with pytest.raises(WrongAnswerError, match=r"a score differs by 1\.0e-01"):
        asyncio.run(main(wrong_under_load=True))


def test_gate_refuses_what_fails_when_asked_alone() -> None:
    async def fails(serial: int) -> Answer:
        return Answer("HTTP 503", b"")

    with pytest.raises(WrongAnswerError, match="alone it failed: HTTP 503"):
        asyncio.run(check_answers(fails, {0: reply()}, most=1))


def test_last_bits_may_differ_but_not_labels_maps_or_shapes() -> None:
    maps = np.full((1, 1, 2, 4, 4), 128, np.uint8)
    assert difference(reply(score=0.9), reply(score=0.90001)) is None
    one_voxel = maps.copy()
    one_voxel[0, 0, 0, 0, 0] += 1
    assert difference(reply(tensors={"maps": maps}), reply(tensors={"maps": one_voxel})) is None
    flipped = 255 - maps // 2
    assert "maps differs by" in str(difference(reply(tensors={"maps": maps}), reply(tensors={"maps": flipped})))
    assert "shape" in str(difference(reply(tensors={"maps": maps}), reply(tensors={"maps": maps[..., :2]})))
    assert "tensors" in str(difference(reply(tensors={"maps": maps}), reply()))
    assert "ServerError" in str(difference(b"no reply", reply()))
    other = json.loads(reply())
    other["clips"][0]["labels"][0]["label"] = "kick"
    assert "labels" in str(difference(json.dumps(other).encode(), reply()))
