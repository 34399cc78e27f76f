"""What the four clients do when a server is down, hangs up, dies, is busy or late; against real sockets."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import pytest
from tests.client.edge import Edge

from sum3dcam.client.delivery import Route
from sum3dcam.client.grpc import GrpcClient
from sum3dcam.client.http import HttpClient
from sum3dcam.client.settings import Retries
from sum3dcam.errors import (
    BadOptionError,
    DeadlineExceededError,
    LostError,
    OverloadedError,
    RefusedError,
    UnreachableError,
    WorkerDiedError,
)

DIED = (
    (500, b'{"code": 500, "type": "InternalServerException", "message": "Worker died."}'),
    (grpc.StatusCode.INTERNAL, "Worker died.\norg.pytorch.serve.http.InternalServerException"),
)
BUSY = (
    (503, b'{"code": 503, "type": "ServiceUnavailableException", "message": "no worker"}'),
    (grpc.StatusCode.INTERNAL, "no worker\nInternalServerException.()"),
)


@pytest.fixture(params=["waiting", "awaited"])
def fake(request: pytest.FixtureRequest, fake: Any, make: Any) -> Any:
    """A fake server whose clients wait for answers, or await them."""
    fake.script.reply = make.reply(make.envelope())
    return replace(fake, style=request.param)


@pytest.fixture
def other(serve: Any, make: Any) -> Any:
    """A second server of the same transport."""
    server = serve()
    server.script.reply = make.reply(make.envelope())
    return server


def _fails(fake: Any, how: Any) -> None:
    fake.script.http_failure, fake.script.grpc_failure = how


def _times(*servers: Any) -> list[int]:
    return [len(server.script.requests) for server in servers]


def test_servers_take_turns(fake: Any, other: Any) -> None:
    with fake.client(other) as client:
        for _ in range(6):
            client.predict(b"video")
    assert _times(fake, other) == [3, 3]
    assert [len(server.script.connections) for server in (fake, other)] == [1, 1]


def test_a_server_that_is_down_is_passed_over(fake: Any, free_port: int) -> None:
    down = replace(fake, port=free_port)
    began = time.monotonic()
    with down.client(fake) as client:
        for _ in range(4):
            client.predict(b"video")
    assert _times(fake) == [4]
    assert time.monotonic() - began < 1.0  # no pause while another server answers


def test_a_server_that_took_no_connection_is_asked_last_for_a_while() -> None:
    route = Route(["a", "b", "c"], settings={})
    assert [route.order() for _ in range(2)] == [[0, 1, 2], [1, 2, 0]]
    route.rest(2)
    assert [route.order() for _ in range(2)] == [[0, 1, 2], [0, 1, 2]]


def test_where_no_server_is_up_each_is_tried_again_after_a_pause(fake: Any, free_port: int) -> None:
    down = replace(fake, port=free_port)
    began = time.monotonic()
    with down.client(down) as client, pytest.raises(RefusedError, match="is the server up"):
        client.predict(b"video")
    assert time.monotonic() - began > 0.12


def test_a_request_that_is_lost_is_sent_once_more(fake: Any) -> None:
    with Edge(fake.port).running() as edge:
        fake.script.on_request = lambda: edge.reset() if len(fake.script.requests) == 1 else None
        with replace(fake, port=edge.port).client() as client:
            assert client.predict(b"video").video.num_frames == 6
    assert _times(fake) == [2]


@pytest.mark.parametrize("resends", [0, 1])
def test_a_request_that_is_lost_again_is_given_up(fake: Any, resends: int) -> None:
    with Edge(fake.port).running() as edge:
        fake.script.on_request = edge.reset
        behind = replace(fake, port=edge.port).client(retries=Retries(resends=resends))
        with behind as client, pytest.raises(LostError, match="hung up"):
            client.predict(b"video")
    assert _times(fake) == [1 + resends]


def test_a_request_that_is_lost_goes_to_another_server(fake: Any, other: Any) -> None:
    with Edge(fake.port).running() as edge:
        fake.script.on_request = edge.reset
        with replace(fake, port=edge.port).client(other) as client:
            client.predict(b"video")
    assert _times(fake, other) == [1, 1]


@pytest.mark.parametrize("allowed", [1, 2])
def test_a_request_costs_no_more_workers_than_allowed(fake: Any, other: Any, allowed: int) -> None:
    for server in (fake, other):
        _fails(server, DIED)
    with fake.client(other, retries=Retries(worker_deaths=allowed)) as client, pytest.raises(WorkerDiedError):
        client.predict(b"video")
    assert sum(_times(fake, other)) == allowed


def test_an_overloaded_server_is_not_asked_again_nor_is_another(fake: Any, other: Any) -> None:
    for server in (fake, other):
        _fails(server, BUSY)
    often = Retries(rounds=9, resends=9, worker_deaths=9)
    with fake.client(other, retries=often) as client, pytest.raises(OverloadedError):
        client.predict(b"video")
    assert sum(_times(fake, other)) == 1


def test_a_deadline_bounds_the_wait_and_is_told_to_the_server(fake: Any) -> None:
    fake.script.delay_seconds = 1.5
    with fake.client() as client:
        began = time.monotonic()
        with pytest.raises(DeadlineExceededError, match="by the deadline"):
            client.predict(b"video", deadline_ms=200)
        assert time.monotonic() - began < 1.2
    assert fake.script.requests[0]["deadline_ms"] == b"200"


def test_a_time_of_day_is_a_deadline_too(fake: Any) -> None:
    fake.script.delay_seconds = 0.5
    with fake.client() as client:
        at = int(time.time() * 1000) + 200
        with pytest.raises(DeadlineExceededError):
            client.predict(b"video", deadline_ms=at)
        with pytest.raises(DeadlineExceededError):
            client.predict(b"video", deadline_ms=at)  # over by now: not sent
    assert [request["deadline_ms"] for request in fake.script.requests] == [str(at).encode()]


def test_what_is_sent_again_has_the_rest_of_its_deadline(fake: Any) -> None:
    def reset_the_first() -> None:
        if len(fake.script.requests) == 1:
            time.sleep(0.2)
            edge.reset()

    with Edge(fake.port).running() as edge:
        fake.script.on_request = reset_the_first
        with replace(fake, port=edge.port).client() as client:
            client.predict(b"video", deadline_ms=5000)
    first, second = (int(request["deadline_ms"]) for request in fake.script.requests)
    assert (first, second < 4800, second > 3000) == (5000, True, True)


def test_a_pause_beyond_the_time_left_is_not_begun(fake: Any, free_port: int) -> None:
    down = replace(fake, port=free_port)
    with down.client(timeout_seconds=0.1) as client:
        began = time.monotonic()
        with pytest.raises(UnreachableError):
            client.predict(b"video")
        assert time.monotonic() - began < 0.12


@pytest.mark.parametrize("serve", ["http"], indirect=True)  # a gRPC message comes whole
def test_a_reply_that_drips_is_cut_off_at_the_deadline(fake: Any) -> None:
    fake.script.pieces, fake.script.delay_seconds = 20, 0.1
    with fake.client() as client:
        began = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            client.predict(b"video", deadline_ms=250)
        assert time.monotonic() - began < 1.5


@pytest.mark.parametrize("fake", ["waiting"], indirect=True)  # an asynchronous client belongs to one thread
def test_threads_share_the_turns(fake: Any, other: Any) -> None:
    with fake.client(other) as client, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.predict(b"video"), range(20)))
    assert len(answers) == 20
    assert Counter(_times(fake, other)) == {10: 2}


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        (HttpClient, "127.0.0.1:8080"),
        (HttpClient, "ftp://127.0.0.1"),
        (HttpClient, "http://"),
        (HttpClient, []),
        (GrpcClient, "http://127.0.0.1:7070"),
        (GrpcClient, "127.0.0.1"),
        (GrpcClient, []),
    ],
)
def test_what_is_no_address_is_refused_at_once(kind: Any, address: Any) -> None:
    with pytest.raises(BadOptionError, match="address of a"):
        kind(address)
