"""A scripted server on each transport, replies written by hand from the contract, and small real videos."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import av
import grpc
import numpy as np
import pytest
from safetensors.numpy import save

from sum3dcam.client import inference_pb2, inference_pb2_grpc
from sum3dcam.client.grpc import AsyncGrpcClient, GrpcClient
from sum3dcam.client.http import AsyncHttpClient, HttpClient
from sum3dcam.client.prediction import Prediction
from sum3dcam.contract import CONTRACT_VERSION

CLIP_LENGTH = 4


@dataclass
class Script:
    """What the fake server does with the next requests, and what it saw of the last ones."""

    reply: bytes = b""
    http_failure: tuple[int, bytes] | None = None
    grpc_failure: tuple[grpc.StatusCode, str] | None = None
    delay_seconds: float = 0.0
    pieces: int = 1  # HTTP alone: the reply comes in so many, delay_seconds before each
    api_key: str | None = None
    on_request: Callable[[], None] = lambda: None
    model: str = ""
    requests: list[dict[str, bytes]] = field(default_factory=list)
    connections: set[str] = field(default_factory=set)

    def seen(self, model: str, entries: dict[str, bytes], *, peer: str) -> None:
        self.model = model
        self.requests.append(entries)
        self.connections.add(peer)
        self.on_request()
        time.sleep(self.delay_seconds)


class _Http(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        url = urlsplit(self.path)
        assert self.headers["content-type"] == "application/octet-stream"
        options = {key: value.encode() for key, value in parse_qsl(url.query, keep_blank_values=True)}
        assert url.path == "/invocations"
        model = options.pop("model_name").decode()
        self.script.seen(model, {**options, "data": data}, peer=str(self.client_address))
        status, body = self.script.http_failure or (200, self.script.reply)
        if self.headers["x-api-key"] != self.script.api_key:
            status, body = 401, b"<html>Unauthorized"
        try:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            length = -(-len(body) // self.script.pieces)
            for start in range(0, len(body), max(length, 1)):
                self.wfile.write(body[start : start + length])
                self.wfile.flush()
                if self.script.pieces > 1:
                    time.sleep(self.script.delay_seconds)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client had enough

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Servicer(inference_pb2_grpc.InferenceAPIsServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    def Predictions(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.script.seen(request.model_name, dict(request.input), peer=context.peer())
        if dict(context.invocation_metadata()).get("x-api-key") != self.script.api_key:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "Unauthorized")
        if self.script.grpc_failure is not None:
            context.abort(*self.script.grpc_failure)
        return inference_pb2.PredictionResponse(prediction=self.script.reply)


class Awaited:
    """An asynchronous client behind the face of a waiting one."""

    def __init__(self, kind: type[AsyncHttpClient] | type[AsyncGrpcClient], address: Any, settings: Any) -> None:
        async def make() -> AsyncHttpClient | AsyncGrpcClient:
            return kind(address, **settings)

        self._runner = asyncio.Runner()
        self._client = self._runner.run(make())

    def predict(self, data: bytes, **options: Any) -> Prediction:
        return self._runner.run(self._client.predict(data, **options))

    def __enter__(self) -> "Awaited":
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


@dataclass(frozen=True)
class Fake:
    """A running fake server and how to reach it."""

    transport: str
    port: int
    script: Script
    scheme: str
    style: str = "waiting"

    @property
    def address(self) -> str:
        return f"{self.scheme}127.0.0.1:{self.port}"

    def client(self, *others: "Fake", **settings: Any) -> Any:
        """A client of this server, and of others in turn with it."""
        addresses = [self.address, *(other.address for other in others)]
        if self.style == "awaited":
            kinds = {"http": AsyncHttpClient, "grpc": AsyncGrpcClient}
            return Awaited(kinds[self.transport], addresses, settings)
        return {"http": HttpClient, "grpc": GrpcClient}[self.transport](addresses, **settings)

    @property
    def flag(self) -> str:
        return {"http": "--url", "grpc": "--grpc"}[self.transport]


@dataclass(frozen=True)
class Identity:
    """A server's certificate, and whose clients' it asks for; None for no one's."""

    key: bytes
    chain: bytes
    clients_ca: bytes | None


@contextmanager
def _serve_http(identity: Identity | None) -> Iterator[Fake]:
    script = Script()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Http,), {"script": script}))
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up is no news
    if identity is not None:
        server.socket = _context(identity).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Fake("http", server.server_address[1], script, "http://" if identity is None else "https://")
    server.shutdown()
    server.server_close()
    thread.join()


def _context(identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with NamedTemporaryFile() as pem:
        pem.write(identity.key + identity.chain)
        pem.flush()
        context.load_cert_chain(pem.name)
    if identity.clients_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=identity.clients_ca.decode())
    return context


@contextmanager
def _serve_grpc(identity: Identity | None) -> Iterator[Fake]:
    script = Script()
    unlimited = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    with ThreadPoolExecutor(max_workers=4) as pool:
        server = grpc.server(pool, options=unlimited)
        inference_pb2_grpc.add_InferenceAPIsServiceServicer_to_server(_Servicer(script), server)
        if identity is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            credentials = grpc.ssl_server_credentials(
                [(identity.key, identity.chain)],
                root_certificates=identity.clients_ca,
                require_client_auth=identity.clients_ca is not None,
            )
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        yield Fake("grpc", port, script, "" if identity is None else "grpcs://")
        server.stop(grace=None).wait()


@pytest.fixture(params=["http", "grpc"])
def serve(request: pytest.FixtureRequest) -> Iterator[Callable[..., Fake]]:
    """Starts fake servers, all of one transport; a test runs once per transport."""
    kind = {"http": _serve_http, "grpc": _serve_grpc}[request.param]
    with ExitStack() as running:
        yield lambda identity=None: running.enter_context(kind(identity))


@pytest.fixture
def fake(serve: Callable[..., Fake]) -> Fake:
    """A fake server, once per transport."""
    return serve()


def make_envelope(
    *, num_frames: int = 6, width_px: int = 160, height_px: int = 120, fps: float = 25.0, **changes: Any
) -> dict[str, Any]:
    """An envelope of the contract over clips of CLIP_LENGTH frames, explaining 'wave', one box on frame 1."""
    clips = []
    for index, start in enumerate(range(0, num_frames, CLIP_LENGTH)):
        end = min(start + CLIP_LENGTH, num_frames)
        clips.append(
            {
                "index": index,
                "start_frame": start,
                "end_frame": end,
                "frames": [start + place % (end - start) for place in range(CLIP_LENGTH)],
                "start_seconds": start / fps,
                "end_seconds": end / fps,
                "labels": [{"index": 2, "label": "wave", "score": 0.75}, {"index": 0, "label": "jump", "score": 0.25}],
                "explanations": [
                    {"index": 2, "label": "wave", "score": 0.75, "empty_taps": ["layer2"], "boxes": []},
                ],
            }
        )
    clips[0]["explanations"][0]["boxes"] = [
        {"frame": 1, "time_seconds": 1 / fps, "box_xyxy_px": [30.0, 20.0, 70.0, 60.5], "score": 0.8}
    ]
    return {
        "contract_version": CONTRACT_VERSION,
        "status": "ok",
        "request_id": None,
        "model": {
            "name": "resnext-mini",
            "engine": "onnxruntime",
            "tap_streams": {"layer1": "rgb", "layer2": "rgb"},
        },
        "video": {
            "num_frames": num_frames,
            "width_px": width_px,
            "height_px": height_px,
            "fps": fps,
            "duration_seconds": num_frames / fps,
            "padded_frames": -num_frames % CLIP_LENGTH,
            "labels": [{"index": 2, "label": "wave", "score": 0.75}],
            "tubes": [],
        },
        "attribution": {
            "method": "sum3dcam",
            "taps": ["layer1", "layer2"],
            "coordinates": "half-pixel",
            "normalisation": "clip",
        },
        "clips": clips,
        "tensors": {},
        "map_region_xyxy_px": [20.0, 0.0, 140.0, 120.0],
        **changes,
    }


def make_tube(*frames: int, x: float = 30.0, y: float = 20.0, fps: float = 25.0) -> dict[str, Any]:
    """A tube of the contract: 'wave', a still box of 40 by 40 pixels and score 0.8 on each of these frames."""
    xyxy = [x, y, x + 40, y + 40]
    return {
        "explained": {"index": 2, "label": "wave"},
        "start_frame": frames[0],
        "end_frame": frames[-1] + 1,
        "start_seconds": frames[0] / fps,
        "end_seconds": (frames[-1] + 1) / fps,
        "score": 0.8,
        "boxes": [{"frame": frame, "time_seconds": frame / fps, "box_xyxy_px": xyxy, "score": 0.8} for frame in frames],
    }


def encode(envelope: dict[str, Any], tensors: dict[str, Any] | None = None) -> bytes:
    """The reply's bytes: JSON, or safetensors whose metadata carries the envelope."""
    if not tensors:
        return json.dumps(envelope).encode()
    described = {
        name: {
            "dtype": str(value.dtype),
            "shape": list(value.shape),
            "axes": "NETHW" if name.startswith("maps") else "NEthw",
        }
        for name, value in tensors.items()
    }
    return save(tensors, metadata={"envelope": json.dumps({**envelope, "tensors": described})})


def blob_maps(num_clips: int, *, size_px: int = 56, centre_xy: tuple[float, float] = (0.25, 0.5)) -> Any:
    """uint8 (N, 1, CLIP_LENGTH, size, size): one round bright spot, centre given as a share of the sides."""
    at = (np.arange(size_px) + 0.5) / size_px
    spot_HW = np.exp(-((at[None] - centre_xy[0]) ** 2 + (at[:, None] - centre_xy[1]) ** 2) / (2 * 0.08**2))
    return np.broadcast_to(
        np.rint(255 * spot_HW).astype(np.uint8), (num_clips, 1, CLIP_LENGTH, size_px, size_px)
    ).copy()


def write_video(
    path: Path, frames_THWC: Sequence[Any], *, fps: Fraction = Fraction(25), codec: str = "libx264"
) -> Path:
    """Encodes RGB frames; 4:4:4 and nearly lossless, so that what changes later is the overlay's doing."""
    height, width = frames_THWC[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options={"crf": "4", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for frame_HWC in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def grey_frames(num_frames: int, *, width_px: int = 160, height_px: int = 120) -> list[Any]:
    """Smooth grey pictures (a ramp from left to right), each one step brighter than the last."""
    ramp = np.linspace(60, 180, width_px)[None, :, None]
    return [
        np.broadcast_to(ramp + index, (height_px, width_px, 3)).round().astype(np.uint8) for index in range(num_frames)
    ]


@pytest.fixture
def free_port() -> int:
    """A port at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass(frozen=True)
class Make:
    """The builders above, for tests: fixtures are all that a test can import from here."""

    envelope: Callable[..., dict[str, Any]] = make_envelope
    tube: Callable[..., dict[str, Any]] = make_tube
    reply: Callable[..., bytes] = encode
    blob_maps: Callable[..., Any] = blob_maps
    video: Callable[..., Path] = write_video
    grey_frames: Callable[..., list[Any]] = grey_frames
    clip_length: int = CLIP_LENGTH


@pytest.fixture
def make() -> Make:
    """Builders of envelopes, tubes, replies, maps and videos."""
    return Make()
