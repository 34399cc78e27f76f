"""A server that does nothing, to find what the generator itself can do: python benchmarks/load/idle.py BYTES.

It reads each request to its end and answers with BYTES bytes, over HTTP and gRPC. It prints its ports, and ends with
its standard input.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import grpc

SERVICE = "org.pytorch.serve.grpc.inference.InferenceAPIsService"


@contextmanager
def idle_server(*, reply_bytes: int) -> Iterator[dict[str, str]]:
    """Addresses by transport, of a server in a process of its own that is gone afterwards."""
    command = [sys.executable, "-P", __file__, str(reply_bytes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            ports = json.loads(process.stdout.readline())
            yield {"http": f"http://127.0.0.1:{ports['http']}", "grpc": f"127.0.0.1:{ports['grpc']}"}
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


async def serve(body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
                await reader.readexactly(length)
                writer.write(head + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    http = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**20)
    # PredictionResponse{bytes prediction = 1}, written by hand: tag, length as a varint, bytes.
    reply = b"\x0a" + _varint(len(body)) + body
    handler = grpc.unary_unary_rpc_method_handler(_echo(reply))
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Predictions": handler}),))
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"http": http.sockets[0].getsockname()[1], "grpc": grpc_port}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    http.close()
    await server.stop(None)


def _echo(reply: bytes) -> Callable[[bytes, object], Awaitable[bytes]]:
    async def predictions(request: bytes, context: object) -> bytes:
        return reply

    return predictions


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


if __name__ == "__main__":
    asyncio.run(serve(bytes(int(sys.argv[1]))))
