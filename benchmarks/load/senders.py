"""The two transports, one request at a time, without reading the answer further than its code."""

import asyncio
import json
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlencode, urlsplit

import grpc

from load.traffic import OK, Answer
from sum3dcam.client.http import PATH
from sum3dcam.client.inference_pb2 import PredictionsRequest
from sum3dcam.client.inference_pb2_grpc import InferenceAPIsServiceStub
from sum3dcam.client.settings import API_KEY_HEADER, DEFAULT_MAX_MESSAGE_BYTES

HTTP, GRPC = "http", "grpc"
TIMEOUT_SECONDS = 60.0
READ_BYTES = 2**20
# An error's envelope is JSON and says so at its begin; on gRPC that is all that tells it from an answer.
_ERROR_SIGN, _SIGN_WITHIN_BYTES = b'"status":"error"', 120


class Sender(Protocol):
    """One transport to one model."""

    async def send(self, data: bytes, options: Mapping[str, str]) -> Answer:
        """The answer to a request; never raises for what the server or the network did."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def read_code(body: bytes) -> str:
    """OK, or the code in an error's envelope.

    >>> read_code(b'{"contract_version":2,"status":"error","request_id":null,"error":{"code":"bad_option"}}')
    'bad_option'
    """
    if _ERROR_SIGN not in body[:_SIGN_WITHIN_BYTES]:
        return OK
    return str(json.loads(body)["error"]["code"])


class _Connection:
    """One kept connection that speaks as much HTTP/1.1 as TorchServe and proxies answer with: a length, no chunks."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._said_last = False

    @property
    def is_open(self) -> bool:
        """Whether the server takes another request, as far as it has said."""
        return not (self._said_last or self._reader.at_eof() or self._writer.is_closing())

    async def exchange(self, head: bytes, data: bytes) -> tuple[int, bytes]:
        """Status and body of the answer.

        Raises:
            ConnectionError: the server ended it, or spoke otherwise.
        """
        self._writer.writelines((head, data))
        await self._writer.drain()
        try:
            first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
            fields = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)
            }
            self._said_last = fields.get(b"connection", b"").lower() == b"close"
            return int(first.split(b" ", 2)[1]), await self._reader.readexactly(int(fields[b"content-length"]))
        except (asyncio.IncompleteReadError, KeyError, ValueError, IndexError) as error:
            raise ConnectionError(repr(error)) from error

    def close(self) -> None:
        self._writer.close()


class HttpSender:
    """POST over kept connections, as many as there are requests under way.

    httpx costs this process 2 to 4 ms of CPU per request and stops at a few hundred per second; this, some 0.2 ms.
    """

    def __init__(self, url: str, *, model: str, api_key: str | None = None) -> None:
        where = urlsplit(url)
        self._host, self._port, self._model = where.hostname or "", where.port or 80, model
        self._key = "" if api_key is None else f"{API_KEY_HEADER}: {api_key}\r\n"
        self._idle: list[_Connection] = []

    async def send(self, data: bytes, options: Mapping[str, str]) -> Answer:
        query = urlencode({"model_name": self._model, **options})
        head = (
            f"POST {PATH}?{query} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"content-type: application/octet-stream\r\ncontent-length: {len(data)}\r\n{self._key}\r\n"
        )
        connection = None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                connection = self._kept() or await self._connect()
                status, body = await connection.exchange(head.encode(), data)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, OSError):  # TimeoutError is one
                return Answer(type(error).__name__, b"")
            raise
        self._idle.append(connection)
        code = read_code(body)
        return Answer(code if code != OK or status == HTTPStatus.OK else f"HTTP {status}", body)

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        return _Connection(*await asyncio.open_connection(self._host, self._port, limit=READ_BYTES))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection in self._idle:
            connection.close()


class GrpcSender:
    """Unary calls over one channel."""

    def __init__(self, address: str, *, model: str, api_key: str | None = None) -> None:
        self._model = model
        self._metadata = () if api_key is None else ((API_KEY_HEADER, api_key),)
        options = [(f"grpc.max_{way}_message_length", DEFAULT_MAX_MESSAGE_BYTES) for way in ("send", "receive")]
        options.append(("grpc.enable_http_proxy", 0))  # what is measured is the server
        self._channel = grpc.aio.insecure_channel(address, options=options)
        self._stub = InferenceAPIsServiceStub(self._channel)

    async def send(self, data: bytes, options: Mapping[str, str]) -> Answer:
        entries = {key: value.encode() for key, value in options.items()}
        request = PredictionsRequest(model_name=self._model, input={**entries, "data": data})
        try:
            reply = await self._stub.Predictions(request, timeout=TIMEOUT_SECONDS, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            return Answer(f"gRPC {error.code().name}", b"")
        return Answer(read_code(reply.prediction), reply.prediction)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._channel.close()


SENDERS: Mapping[str, type[HttpSender | GrpcSender]] = {HTTP: HttpSender, GRPC: GrpcSender}
