"""What stands before a server in production: a TCP forwarder that resets its clients' connections when told to."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Edge:
    """Forwards bytes between its clients and the server at a port, whatever they speak."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self._server_port = server_port
        self._loop = asyncio.new_event_loop()
        self._clients: list[asyncio.StreamWriter] = []

    def reset(self) -> None:
        """Resets every client's connection; returns when that is done. Call it from another thread than the edge's."""

        async def abort() -> None:
            while self._clients:
                transport = self._clients.pop().transport
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                transport.abort()
            await asyncio.sleep(0)  # a transport closes its socket in the loop's next round

        asyncio.run_coroutine_threadsafe(abort(), self._loop).result()

    async def _forward(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._clients.append(to_client)
        await asyncio.gather(_pipe(client, to_server), _pipe(server, to_client))

    @contextlib.contextmanager
    def running(self) -> Iterator["Edge"]:
        """Listens at `port` until the block ends."""

        async def serve() -> None:
            async with await asyncio.start_server(self._forward, "127.0.0.1", 0) as server:
                self.port = server.sockets[0].getsockname()[1]
                ready.set()
                await stopped.wait()
                server.close()
                forwarding = asyncio.all_tasks() - {asyncio.current_task()}
                for task in forwarding:
                    task.cancel()
                await asyncio.gather(*forwarding, return_exceptions=True)
                await asyncio.sleep(0)

        ready, stopped = threading.Event(), asyncio.Event()
        thread = threading.Thread(target=self._loop.run_until_complete, args=(serve(),))
        thread.start()
        ready.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(stopped.set)
            thread.join()
            self._loop.close()


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while chunk := await source.read(65536):
                sink.write(chunk)
                await sink.drain()
    finally:
        sink.close()
