"""Proxies that the environment names: asked for hosts elsewhere, never for the machine itself."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.client.conftest import Awaited

from sum3dcam.client.grpc import AsyncGrpcClient, GrpcClient
from sum3dcam.client.http import AsyncHttpClient, HttpClient
from sum3dcam.client.settings import Retries
from sum3dcam.errors import UnreachableError

VARIABLES = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that hangs up on everybody, and the first line that each said."""
    said: list[bytes] = []

    def hear(server: socket.socket) -> None:
        while True:
            connection, _ = server.accept()
            with connection:
                line = connection.recv(1000).partition(b"\r\n")[0]
                if not line:
                    return
                said.append(line)

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        thread = threading.Thread(target=hear, args=[server])
        thread.start()
        yield f"http://127.0.0.1:{address[1]}", said
        socket.create_connection(address).close()
        thread.join()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What a proxy, named in the environment for everything, was asked."""
    with listening() as (url, said):
        for name in VARIABLES:
            monkeypatch.delenv(name.upper(), raising=False)
            monkeypatch.setenv(name, url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield said


@pytest.fixture(params=["waiting", "awaited"])
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_loopback_is_asked_directly(fake: Any, make: Any, proxy: list[bytes], style: str) -> None:
    fake.script.reply = make.reply(make.envelope())
    with replace(fake, style=style).client(timeout_seconds=5) as client:
        assert client.predict(b"video").video.num_frames == 6
    assert proxy == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
@pytest.mark.parametrize("scheme", ["http://", ""], ids=["http", "grpc"])
def test_only_hosts_elsewhere_are_asked_through_the_proxy(
    scheme: str, host: str, style: str, proxy: list[bytes], free_port: int
) -> None:
    waiting, awaited = (HttpClient, AsyncHttpClient) if scheme else (GrpcClient, AsyncGrpcClient)
    addresses = [f"{scheme}{host}:{free_port}", f"{scheme}far.invalid:80"]
    settings: dict[str, Any] = {"timeout_seconds": 5, "retries": Retries(rounds=1, resends=1)}
    with Awaited(awaited, addresses, settings) if style == "awaited" else waiting(addresses, **settings) as client:
        for _ in addresses:  # each begins with another address
            with pytest.raises(UnreachableError):
                client.predict(b"video")
    assert proxy
    assert all(b"far.invalid" in line for line in proxy), proxy


def test_a_proxy_of_another_kind_is_no_hindrance_to_loopback(
    fake: Any, make: Any, proxy: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
    fake.script.reply = make.reply(make.envelope())
    with fake.client(timeout_seconds=5) as client:
        assert client.predict(b"video").video.num_frames == 6
