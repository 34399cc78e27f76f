"""One real TorchServe for the session, serving the mini network with random weights, and raw clients to ask it."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from typing import Any

import av
import grpc
import httpx
import numpy as np
import psutil
import pytest
import yaml
from playwright.sync_api import Browser, expect, sync_playwright

from sum3dcam.client.inference_pb2 import PredictionsRequest
from sum3dcam.client.inference_pb2_grpc import InferenceAPIsServiceStub
from sum3dcam.serving import readiness, torchserve
from sum3dcam.serving.torchserve import Server
from sum3dcam.video.decode import DecodeLimits, decode

ROOT = Path(__file__).resolve().parents[2]
MODEL = "mini"
BATCH_SIZE = 8
# Long enough for eight requests to meet in one batch, most times.
MAX_BATCH_DELAY_MS = 700
MOST_TRIES = 5
READY_SECONDS = 180.0
# Every other name is unknown to this browser: neither a page nor the browser itself can reach anything else.
LOOPBACK_ONLY = ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking")
SPARE_SETTINGS = {"batchSize": 2, "maxBatchDelay": 600, "jobQueueSize": 4, "maxRetryTimeoutInSec": 4}
SPARE_PROPERTIES = {"enable_model_api": "true", "max_request_size": "3000000", "max_response_size": "1500000"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def project() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def run_script() -> Callable[..., None]:
    """Runs one of the project's commands as a user would."""
    return _run_script


def _run_script(script: str, *arguments: object) -> None:
    command = [sys.executable, ROOT / script, *arguments]
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mini.mar, exported and packed by the project's commands, with a delay that makes batches form."""
    folder = tmp_path_factory.mktemp("archive")
    artifact = folder / f"{MODEL}.onnx"
    _run_script("export/to_onnx.py", "--model", "resnext-mini", "--random-weights", 0, "--output", artifact)
    config = yaml.safe_load((ROOT / "serve_config" / "model-config.yaml").read_text())
    config |= {"batchSize": BATCH_SIZE, "maxBatchDelay": MAX_BATCH_DELAY_MS}
    (folder / "model-config.yaml").write_text(yaml.safe_dump(config))
    _run_script(
        "export/to_mar.py",
        *("--artifact", artifact, "--name", MODEL, "--output", folder / "store"),
        *("--config", folder / "model-config.yaml"),
    )
    return folder / "store" / f"{MODEL}.mar"


@pytest.fixture(scope="session")
def quick_archive(archive: Path) -> Path:
    """The same as it is delivered, without the long wait for a batch."""
    store = archive.parents[1] / "quick"
    artifact = archive.parents[1] / f"{MODEL}.onnx"
    _run_script("export/to_mar.py", "--artifact", artifact, "--name", MODEL, "--output", store)
    return store / f"{MODEL}.mar"


@pytest.fixture(scope="session")
def server(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The running server; nothing of it is left afterwards."""
    started = torchserve.start(
        [archive],
        config=ROOT / "serve_config" / "config.properties",
        run_dir=tmp_path_factory.mktemp("server"),
        ports=torchserve.free_ports(),
    )
    family = psutil.Process(started.pid).children(recursive=True)
    try:
        readiness.wait_ready(started, timeout_seconds=READY_SECONDS)
        family += psutil.Process(started.pid).children(recursive=True)
        yield started
    finally:
        torchserve.stop(started)
    assert not torchserve.is_running(started)
    assert not psutil.pid_exists(started.exporter_pid)
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert not started.temp_dir.exists()


@dataclass(frozen=True)
class Run:
    """A server under `launch run`, and that process."""

    server: Server
    process: subprocess.Popen[str]

    def probe(self, path: str) -> tuple[int, dict[str, str]]:
        """HTTP status, and what each check that failed said."""
        reply = httpx.get(f"{self.server.health_url}{path}", timeout=30)
        return reply.status_code, {
            check["name"]: check["says"] for check in reply.json()["checks"] if not check["passed"]
        }


@pytest.fixture(scope="session")
def start_run() -> Callable[..., AbstractContextManager[Run]]:
    """Runs `launch run` until the end of the block; it does not outlive it."""
    return _start_run


@contextmanager
def _start_run(archive: Path, *options: object, run_dir: Path) -> Iterator[Run]:
    command = [sys.executable, "-m", "sum3dcam.serving.launch", "run", archive, "--ports", "free", "--run-dir", run_dir]
    words = [str(word) for word in (*command, *options)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        server = None
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving mini on ")
            server = torchserve.load(run_dir)
            assert server is not None
            yield Run(server, process)
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            finally:
                process.kill()
                if server is not None:
                    torchserve.stop(server)


@pytest.fixture(scope="session")
def pack_spare(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Packs a version of the spare server's model into its store."""
    folder = tmp_path_factory.mktemp("spare")
    config = yaml.safe_load((archive.parents[1] / "model-config.yaml").read_text()) | SPARE_SETTINGS
    (folder / "model-config.yaml").write_text(yaml.safe_dump(config))

    def pack(version: str) -> Path:
        _run_script(
            "export/to_mar.py",
            *("--artifact", archive.parents[1] / f"{MODEL}.onnx", "--name", MODEL, "--version", version),
            *("--output", folder / "store", "--config", folder / "model-config.yaml"),
        )
        return folder / "store" / f"{MODEL}.mar"

    return pack


@pytest.fixture(scope="session")
def spare(pack_spare: Callable[[str], Path]) -> Iterator[Run]:
    """A server that may be mistreated: small queue and sizes, model API open, a worker soon given up."""
    small = pack_spare("1.0")
    folder = small.parents[1]
    config = (ROOT / "serve_config" / "config.properties").read_text()
    for key, value in SPARE_PROPERTIES.items():
        config, found = re.subn(rf"^{key}=.*$", f"{key}={value}", config, flags=re.MULTILINE)
        assert found == 1
    (folder / "config.properties").write_text(config)
    at_once = ("--notice-seconds", 0, "--drain-seconds", 0)
    options = ("--config", folder / "config.properties", "--canary-seconds", 1000, *at_once)
    with _start_run(small, *options, run_dir=folder / "run") as run:
        yield run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium that can reach nothing but this machine."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("no chromium on the PATH: apt-get install chromium (root's `make test` does)")
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=LOOPBACK_ONLY)
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def worker_is_never_restarted(server: Server) -> Iterator[None]:
    before = readiness.workers(server)
    yield
    assert readiness.workers(server) == before


@dataclass(frozen=True)
class Raw:
    """An answer as it came; gRPC has no status and no content type of its own."""

    body: bytes
    status: int | None = None
    content_type: str | None = None


Options = Mapping[str, str]
Send = Callable[[bytes, Options], Raw]


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[Send]:
    with _http(server) as send:
        yield send


@pytest.fixture(scope="session")
def grpc_send(server: Server) -> Iterator[Send]:
    with _grpc(server) as send:
        yield send


@pytest.fixture(scope="session")
def spare_sends(spare: Run) -> Iterator[tuple[Send, Send]]:
    """To the spare server over HTTP and gRPC, raw: the package's clients end at a deadline by themselves."""
    with _http(spare.server) as http, _grpc(spare.server) as grpc_send:
        yield http, grpc_send


@contextmanager
def _http(server: Server) -> Iterator[Send]:
    with httpx.Client(base_url=server.url, timeout=120) as client:

        def send(data: bytes, options: Options) -> Raw:
            headers = {"content-type": "application/octet-stream"}
            reply = client.post(f"/models/{MODEL}/invoke", params=dict(options), content=data, headers=headers)
            return Raw(reply.content, reply.status_code, reply.headers.get("content-type"))

        yield send


@contextmanager
def _grpc(server: Server) -> Iterator[Send]:
    limit = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.grpc_address, options=limit) as channel:
        stub = InferenceAPIsServiceStub(channel)

        def send(data: bytes, options: Options) -> Raw:
            entries = {**{key: value.encode() for key, value in options.items()}, "data": data}
            reply = stub.Predictions(PredictionsRequest(model_name=MODEL, input=entries), timeout=120)
            return Raw(reply.prediction)

        yield send


@pytest.fixture(scope="session")
def together() -> Callable[[Send, Sequence[tuple[bytes, Options]]], list[Raw]]:
    """Sends requests at the same moment; the replies in the requests' order."""

    def send_all(send: Send, requests: Sequence[tuple[bytes, Options]]) -> list[Raw]:
        barrier = Barrier(len(requests))

        def one(request: tuple[bytes, Options]) -> Raw:
            barrier.wait()
            return send(*request)

        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(one, requests))

    return send_all


@pytest.fixture(scope="session")
def answered(server: Server) -> Callable[..., list[dict[str, Any]]]:
    """What the one worker has logged of each request but the first ones, once there are so many lines of those."""

    def read(*, after: int = 0, at_least: int = 0) -> list[dict[str, Any]]:
        until = time.monotonic() + 10  # TorchServe writes the log while the answers are on their way
        while True:
            lines = [json.loads(line) for line in (server.log_dir / "worker.log").read_text().splitlines()]
            found = [line for line in lines if line["event"] == "answered"][after:]
            if len(found) >= at_least or time.monotonic() > until:
                return found
            time.sleep(0.05)

    return read


@pytest.fixture
def batches(answered: Callable[..., list[dict[str, Any]]]) -> Callable[[], list[tuple[int, int]]]:
    """(items, failed) of each batch that the worker logged since the test began."""
    already = -1
    while already != (already := len(answered())):  # lines of the test before may still be on their way
        time.sleep(0.25)
    return lambda: _batches(answered(after=already))


@pytest.fixture
def in_one_batch(
    together: Callable[[Send, Sequence[tuple[bytes, Options]]], list[Raw]],
    answered: Callable[..., list[dict[str, Any]]],
) -> Callable[[Send, Sequence[tuple[bytes, Options]]], tuple[list[Raw], int]]:
    """The replies to requests that met in one batch, and how many of them failed.

    Asks again where they did not meet: on a busy machine some come later than the batch waits.
    """

    def send_all(send: Send, requests: Sequence[tuple[bytes, Options]]) -> tuple[list[Raw], int]:
        tried = []
        for _ in range(MOST_TRIES):
            already = len(answered())
            replies = together(send, requests)
            tried.append(_batches(answered(after=already, at_least=len(requests))))
            if len(tried[-1]) == 1:
                return replies, tried[-1][0][1]
        pytest.fail(f"the requests did not meet in one batch in {MOST_TRIES} tries: {tried}")

    return send_all


def _batches(lines: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    codes: dict[int, list[str]] = {}
    for line in lines:
        codes.setdefault(line["batch"], []).append(line["code"])
    return [(len(of_batch), sum(code != "ok" for code in of_batch)) for of_batch in codes.values()]


def encode_mp4(seed: int, *, num_frames: int) -> bytes:
    """A bright square that crosses a textured ground; place, speed and colour vary with the seed."""
    rng = np.random.default_rng(seed)
    ground = rng.integers(0, 120, (12, 16, 3), np.uint8).repeat(10, axis=0).repeat(10, axis=1)
    colour, top, speed = rng.integers(150, 255, 3), int(rng.integers(10, 70)), int(rng.integers(1, 4))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        with av.open(str(path), "w") as file:
            stream = file.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
            for i in range(num_frames):
                frame = ground.copy()
                frame[top : top + 40, 10 + speed * i : 50 + speed * i] = colour
                file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            file.mux(stream.encode())
        return path.read_bytes()


@pytest.fixture(scope="session")
def videos() -> list[bytes]:
    """Eight different videos; some fill their last clip, some do not, one has two clips."""
    return [encode_mp4(seed, num_frames=frames) for seed, frames in enumerate((16, 20, 16, 12, 16, 9, 16, 16))]


def audio_file() -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), "s16", layout="mono")
        frame.sample_rate = 16000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return buffer.getvalue()


def video_without_frames() -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        file.start_encoding()
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def npy_of() -> Callable[[bytes], bytes]:
    """A video's decoded frames as an .npy clip of the network's size."""
    return lambda data: npy(decode(data, size_px=112, limits=DecodeLimits()).frames_THWC)


@dataclass(frozen=True)
class BadInput:
    data: bytes
    options: Options
    code: str
    http_status: int
    says: str


@pytest.fixture(scope="session")
def bad_inputs(videos: list[bytes]) -> dict[str, BadInput]:
    floats = npy(np.zeros((16, 112, 112, 3), np.float32))
    return {
        "empty body": BadInput(b"", {}, "empty_body", 400, "no bytes"),
        "text": BadInput(b"this is not a video\n" * 50, {}, "unreadable_media", 415, "no video or image"),
        "truncated mp4": BadInput(videos[0][: len(videos[0]) * 2 // 3], {}, "unreadable_media", 415, "cut off"),
        "audio only": BadInput(audio_file(), {}, "no_video_frames", 422, "no video stream"),
        "npy of floats": BadInput(floats, {}, "bad_array", 422, "uint8"),
        "zero frames": BadInput(video_without_frames(), {}, "no_video_frames", 422, "no video"),
        "unknown option": BadInput(videos[0], {"tpo_k": "3"}, "unknown_option", 400, "tpo_k"),
    }
