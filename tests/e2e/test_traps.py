"""What goes wrong in production, against a real TorchServe: what clients see is the same over HTTP and gRPC."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest
from click.testing import CliRunner

from sum3dcam.__main__ import main
from sum3dcam.client.grpc import GrpcClient
from sum3dcam.client.http import HttpClient
from sum3dcam.errors import (
    DeadlineExceededError,
    OverloadedError,
    RequestError,
    Sum3DCamError,
    TooLargeError,
    WorkerDiedError,
)
from sum3dcam.serving import canary, health, management, readiness
from sum3dcam.serving.torchserve import Server

BATCH, QUEUE = 2, 4  # of the spare server
BATCHED_SECONDS = 1.2  # after which what was sent has left the queue for the worker
Client = HttpClient | GrpcClient


@pytest.fixture(autouse=True)
def worker_is_never_restarted() -> None:
    """The session's server has no part here."""


@pytest.fixture(scope="module")
def clients(spare: Any) -> Iterator[tuple[HttpClient, GrpcClient]]:
    with (
        HttpClient(spare.server.url, model="mini") as http,
        GrpcClient(spare.server.grpc_address, model="mini") as grpc,
    ):
        yield http, grpc


@contextmanager
def held(server: Server) -> Iterator[psutil.Process]:
    """The worker, stopped in its tracks, so that requests wait for it."""
    worker = psutil.Process(readiness.workers(server)[0].pid)
    worker.suspend()
    try:
        yield worker
    finally:
        worker.resume()


def wait_until(true: Callable[[], bool], *, seconds: float = 20.0) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        time.sleep(0.05)
    return time.monotonic() - began


def pending(server: Server) -> int:
    return management.versions(server, model="mini")[0].pending


def error(answer: "Future[Any]") -> Sum3DCamError:
    raised = answer.exception(timeout=60)
    assert isinstance(raised, Sum3DCamError), raised or answer.result()
    return raised


@pytest.fixture
def clips_computed(spare: Any) -> Callable[[], int]:
    """Clips that the worker has got as far as computing since the test began."""
    log = spare.server.log_dir / "worker.log"

    def count() -> int:
        return sum(json.loads(line).get("clips", 0) for line in log.read_text().splitlines())

    before = count()
    return lambda: count() - before


def test_full_queue_is_overloaded_and_no_reason_to_be_unready(
    spare: Any, clients: tuple[Client, ...], videos: list[bytes]
) -> None:
    with ThreadPoolExecutor(BATCH + QUEUE) as pool:
        with held(spare.server):
            taken = [pool.submit(client.predict, videos[5]) for client in clients]
            time.sleep(BATCHED_SECONDS)
            taken += [pool.submit(clients[place % 2].predict, videos[5]) for place in range(QUEUE)]
            wait_until(lambda: pending(spare.server) == QUEUE)
            for client in clients:
                with pytest.raises(OverloadedError, match="try again later"):
                    client.predict(videos[5])
            said = health.ask_canaries(spare.server)
            assert [(check.passed, check.says) for check in said] == [(True, "the queue is full")] * 2
            assert spare.probe("/ready") == (200, {})
        assert all(answer.result().video.labels for answer in taken)


def test_expired_item_is_answered_with_an_error_and_not_computed(
    spare: Any, spare_sends: Any, clients: tuple[Client, ...], videos: list[bytes], clips_computed: Callable[[], int]
) -> None:
    with ThreadPoolExecutor(2) as pool:
        with held(spare.server):
            deadline_ms = round((time.time() + 0.3) * 1000)
            late = [pool.submit(send, videos[5], {"deadline_ms": str(deadline_ms)}) for send in spare_sends]
            time.sleep(BATCHED_SECONDS)
        http, grpc = (answer.result() for answer in late)
    assert http.status == DeadlineExceededError.http_status
    assert json.loads(http.body)["error"]["code"] == DeadlineExceededError.code
    assert grpc.body == http.body
    assert clips_computed() == 0
    assert clients[0].predict(videos[5], deadline_ms=60_000).video.labels
    wait_until(lambda: clips_computed() == 1)


def test_request_beyond_the_servers_limit_is_too_large(clients: tuple[Client, ...]) -> None:
    for client in clients:  # whose own limit is higher; else it would not be sent
        with pytest.raises(TooLargeError, match="max_request_size"):
            client.predict(bytes(3_100_000))


def test_reply_beyond_the_servers_limit_is_an_error_of_its_item_alone(
    spare: Any, clients: tuple[Client, ...], videos: list[bytes]
) -> None:
    before = readiness.workers(spare.server)
    two_clips = videos[1]  # 1.6 MB of float32 maps
    expected = clients[0].predict(videos[5], explain="boxes").envelope
    for client in clients:
        with ThreadPoolExecutor(2) as pool:
            with held(spare.server):  # so that both are in one batch
                large = pool.submit(client.predict, two_clips, explain="maps", map_dtype="f32")
                small = pool.submit(client.predict, videos[5], explain="boxes")
                time.sleep(BATCHED_SECONDS)
            assert small.result().envelope == expected
            assert isinstance(error(large), TooLargeError)
            assert "max_response_size" in str(error(large))
    assert readiness.workers(spare.server) == before


def test_unknown_model_and_version_are_the_requests_fault(spare: Any, videos: list[bytes]) -> None:
    url, address = spare.server.url, spare.server.grpc_address
    strangers: list[Client] = [HttpClient(url, model="nobody"), GrpcClient(address, model="nobody")]
    strangers.append(GrpcClient(address, model="mini", version="9.9"))
    for stranger in strangers:
        with stranger, pytest.raises(RequestError, match="has no model") as caught:
            stranger.predict(videos[5])
        assert type(caught.value) is RequestError
    versioned = httpx.post(f"{url}/predictions/mini/9.9", content=videos[5], timeout=60)
    assert (versioned.status_code, versioned.json()["type"]) == (404, "ModelVersionNotFoundException")


def test_health_command_says_what_it_checked(spare: Any, clients: tuple[Client, ...], videos: list[bytes]) -> None:
    (version,) = (version.version for version in management.versions(spare.server, model="mini"))
    run_dir = ["--run-dir", str(spare.server.run_dir)]
    ready = CliRunner().invoke(main, ["health", *run_dir])
    assert ready.exit_code == 0
    assert f"ok      mini workers: 1 of 1 ready, version {version}" in ready.output
    for transport in canary.TRANSPORTS:
        assert f"ok      mini over {transport}: version {version} answered" in ready.output
    live = CliRunner().invoke(main, ["health", "--live", "--json", *run_dir])
    assert (live.exit_code, live.output) == (0, httpx.get(f"{spare.server.health_url}/live").text)
    assert httpx.head(f"{spare.server.health_url}/live").content == b""
    assert httpx.get(f"{spare.server.health_url}/health").status_code == 404
    with held(spare.server):
        stuck = CliRunner().invoke(main, ["health", "--timeout", "0.5", *run_dir])
    assert stuck.exit_code == 1
    assert stuck.output.count("FAILED  mini over ") == 2
    clients[0].predict(videos[5])  # after which the canaries that nobody waited for are through as well


def test_killed_worker_costs_its_batch_and_the_queue_waits_for_the_next(
    spare: Any, clients: tuple[Client, ...], videos: list[bytes]
) -> None:
    server = spare.server
    with ThreadPoolExecutor(BATCH + 2) as pool:
        with held(server) as worker:
            batch = [pool.submit(client.predict, videos[5]) for client in clients]
            time.sleep(BATCHED_SECONDS)
            queued = [pool.submit(client.predict, videos[5]) for client in clients]
            wait_until(lambda: pending(server) == 2)
            killed = time.monotonic()
            worker.kill()
        said = [error(answer) for answer in batch]
        assert time.monotonic() - killed < 5
        assert [type(one) for one in said] == [WorkerDiedError] * 2
        assert all("worker died" in str(one) for one in said)
        status, failed = spare.probe("/ready")
        assert (status, list(failed)) == (503, ["mini workers"])
        assert httpx.get(f"{server.url}/ping").status_code == 200
        assert spare.probe("/live") == (200, {})
        assert all(answer.result(timeout=60).video.labels for answer in queued)
    assert time.monotonic() - killed < 30
    wait_until(lambda: spare.probe("/ready") == (200, {}))
    assert readiness.workers(server)[0].pid != worker.pid


def test_worker_that_cannot_come_back_ends_liveness(spare: Any) -> None:
    """The last test of this server: nothing but a restart brings it back."""
    server = spare.server
    for graph in (server.temp_dir / "models").rglob("*.onnx"):
        graph.unlink()
    psutil.Process(readiness.workers(server)[0].pid).kill()
    wait_until(lambda: spare.probe("/live")[0] == 503, seconds=60)
    assert "given up" in spare.probe("/live")[1]["ping"]
