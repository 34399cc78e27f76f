"""A small HTTP server in the test's own event loop, whose answers a test scripts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

# Path with query and body -> status and body.
Script = Callable[[str, bytes], Awaitable[tuple[int, bytes]]]
Serve = Callable[[Script], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def _serve(script: Script) -> AsyncIterator[str]:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(line.partition(":")[2])
                    for line in head.lower().split("\r\n")
                    if line.startswith("content-length")
                )
                status, body = await script(head.split(" ", 2)[1], await reader.readexactly(length))
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.fixture
def serve() -> Serve:
    """Serves a script on a free port of the loopback; gives the URL."""
    return _serve
