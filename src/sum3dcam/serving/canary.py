"""A request that a server must be able to answer, sent over both transports; its cost is that of one clip's labels."""

import struct
import zlib
from collections.abc import Callable, Mapping

from sum3dcam.client.grpc import GrpcClient
from sum3dcam.client.http import HttpClient
from sum3dcam.errors import OverloadedError, ServerError
from sum3dcam.serving.torchserve import Server

REQUEST_ID = "canary"
SIDE_PX = 32
# How TorchServe's message goes for a request that found no place in the queue, on both transports.
QUEUE_IS_FULL = "has no worker to serve"

_CLIENTS: Mapping[str, Callable[[Server, str, float], HttpClient | GrpcClient]] = {
    "http": lambda server, model, seconds: HttpClient(server.url, model=model, timeout_seconds=seconds),
    "grpc": lambda server, model, seconds: GrpcClient(server.grpc_address, model=model, timeout_seconds=seconds),
}
TRANSPORTS = tuple(_CLIENTS)


def ask(server: Server, *, model: str, transport: str, timeout_seconds: float) -> str:
    """What the answer says, in a few words; that the queue is full is an answer as well.

    Raises:
        Sum3DCamError: no answer in time, an error, or an answer that does not hold together.
    """
    try:
        with _CLIENTS[transport](server, model, timeout_seconds) as client:
            return _answer(client)
    except OverloadedError as error:
        if QUEUE_IS_FULL not in str(error.got):
            raise
        # To take a busy server out of a load balancer would only make the others busier.
        return "the queue is full"


def ask_version(server: Server, *, model: str, version: str, timeout_seconds: float) -> str:
    """As `ask`, of one version, default or not, whose labels and explain graphs must both answer."""
    with GrpcClient(server.grpc_address, model=model, version=version, timeout_seconds=timeout_seconds) as client:
        _answer(client)
        return _answer(client, explain="boxes")


def _answer(client: HttpClient | GrpcClient, *, explain: str = "none") -> str:
    # An image is a video of one frame: models of any clip length take it, and flow of it costs nothing.
    prediction = client.predict(grey_png(), request_id=REQUEST_ID, explain=explain)
    if prediction.request_id != REQUEST_ID or not prediction.video.labels:
        raise ServerError("the canary was answered with something else", got=prediction.request_id)
    return f"version {prediction.model.get('version')} answered, in {prediction.model['engine']}"


def grey_png() -> bytes:
    """A grey PNG of SIDE_PX, 8 bits of grey: made here, since no codec is worth importing for it."""
    rows = (b"\0" + b"\x80" * SIDE_PX) * SIDE_PX
    header = struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
