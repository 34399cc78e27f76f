"""The gRPC transport: one unary call per video, options as entries of the input map."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType, TracebackType
from typing import Any, Self, Unpack

import grpc
import grpc.aio

from sum3dcam.client.delivery import Attempt, Route, deliver, deliver_async
from sum3dcam.client.fault import find_fault
from sum3dcam.client.inference_pb2 import PredictionsRequest
from sum3dcam.client.inference_pb2_grpc import InferenceAPIsServiceStub
from sum3dcam.client.prediction import Prediction
from sum3dcam.client.reply import read_reply
from sum3dcam.client.request import Options, check_size, reply_too_large
from sum3dcam.client.settings import CONNECT_TIMEOUT_SECONDS, Settings, Tls, is_loopback, read_pem
from sum3dcam.errors import BadOptionError, LostError, RefusedError, Sum3DCamError

TLS_SCHEME = "grpcs://"
# After a refused connection gRPC waits longer and longer, up to two minutes, and meanwhile fails every call at once;
# a restarted server should be found sooner.
FIRST_RECONNECT_BACKOFF_MS = 100
MAX_RECONNECT_BACKOFF_MS = 1000

# What grpcio says of a connection that was there; a server that answers UNAVAILABLE says something else.
_LOST = re.compile("Stream removed|Socket closed|Connection reset|Broken pipe|GOAWAY|keepalive")
_NOT_CONNECTED = re.compile("failed to connect|DNS resolution failed|[Nn]ame resolution|empty address list")
# A proxy that answers in plain HTTP.
_HTTP_STATUS = re.compile(r"Received http2 header with status: (\d{3})")
# The HTTP status that says what the code says. TorchServe's INTERNAL is a full queue, and it cancels without a word
# a request beyond its max_request_size.
_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.CANCELLED: 413,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.INTERNAL: 503,
}


class GrpcClient:
    """Asks servers over gRPC in turn, through one channel each. Safe to share between threads.

    Args:
        address: a server's "host:port", "grpcs://host:port" with TLS, or those of several.
        version: of the model; by default the server's default.

    Raises:
        BadOptionError: an address, a certificate or a key that cannot be used.
    """

    def __init__(self, address: str | Sequence[str], *, version: str = "", **settings: Unpack[Settings]) -> None:
        self._route = _route(address, settings=settings)
        self._version = version
        self._channels = _channels(self._route, library=grpc)
        self._stubs = [InferenceAPIsServiceStub(channel) for channel in self._channels]

    def predict(self, data: bytes, **options: Unpack[Options]) -> Prediction:
        """As `HttpClient.predict`."""
        return deliver(partial(self._send, data), self._route.delivery(data, options))

    def _send(self, data: bytes, attempt: Attempt) -> Prediction:
        with _typed_errors(attempt, route=self._route):
            call = _call(self._route, data, attempt, version=self._version)
            reply = self._stubs[attempt.place].Predictions(**call)
        return read_reply(reply.prediction, max_message_bytes=self._route.settings["max_message_bytes"])

    def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncGrpcClient:
    """As `GrpcClient`, awaited. Make it inside the event loop that it is to be used in."""

    def __init__(self, address: str | Sequence[str], *, version: str = "", **settings: Unpack[Settings]) -> None:
        self._route = _route(address, settings=settings)
        self._version = version
        self._channels = _channels(self._route, library=grpc.aio)
        self._stubs = [InferenceAPIsServiceStub(channel) for channel in self._channels]

    async def predict(self, data: bytes, **options: Unpack[Options]) -> Prediction:
        """As `HttpClient.predict`."""
        return await deliver_async(partial(self._send, data), self._route.delivery(data, options))

    async def _send(self, data: bytes, attempt: Attempt) -> Prediction:
        with _typed_errors(attempt, route=self._route):
            call = _call(self._route, data, attempt, version=self._version)
            reply = await self._stubs[attempt.place].Predictions(**call)
        return read_reply(reply.prediction, max_message_bytes=self._route.settings["max_message_bytes"])

    async def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _route(address: str | Sequence[str], *, settings: Settings) -> Route:
    addresses = [address] if isinstance(address, str) else address
    for one in addresses:
        host = one.removeprefix(TLS_SCHEME)
        if "/" in host or ":" not in host:
            raise BadOptionError("no address of a gRPC server", got=one, allowed="HOST:PORT or grpcs://HOST:PORT")
        if settings.get("tls") is not None and host == one:
            raise BadOptionError("certificates are of no use without encryption", got=one, allowed="grpcs://HOST:PORT")
    return Route(addresses, settings=settings)


def _channels(route: Route, *, library: ModuleType) -> list[Any]:
    """A channel to each address, of `grpc` or of `grpc.aio`."""
    limit, tls = route.settings["max_message_bytes"], route.settings["tls"]
    options = (
        ("grpc.max_send_message_length", limit),
        ("grpc.max_receive_message_length", limit),
        ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_BACKOFF_MS),
        ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT_SECONDS * 1000)),  # a connection gets that long
        ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_BACKOFF_MS),
    )
    credentials = _credentials(tls or Tls())
    return [
        library.secure_channel(address.removeprefix(TLS_SCHEME), credentials, (*options, _proxy(address)))
        if address.startswith(TLS_SCHEME)
        else library.insecure_channel(address, (*options, _proxy(address)))
        for address in route.addresses
    ]


def _proxy(address: str) -> tuple[str, int]:
    """Whether the environment's proxies are asked, as gRPC's option."""
    host = address.removeprefix(TLS_SCHEME).rpartition(":")[0].strip("[]")
    return "grpc.enable_http_proxy", int(not is_loopback(host))


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    ca, certificate, key = (
        None if file is None else read_pem(file)
        for file in (tls.ca_file, tls.certificate_file, tls.key_file or tls.certificate_file)
    )
    return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=certificate)


def _call(route: Route, data: bytes, attempt: Attempt, *, version: str) -> dict[str, Any]:
    entries = {key: text.encode() for key, text in attempt.options.items()}
    model = route.settings["model"]
    request = PredictionsRequest(model_name=model, model_version=version, input={**entries, "data": data})
    check_size(request.ByteSize(), max_message_bytes=route.settings["max_message_bytes"])
    metadata = tuple(route.headers.items())
    return {"request": request, "timeout": attempt.timeout_seconds, "metadata": metadata}


@contextmanager
def _typed_errors(attempt: Attempt, *, route: Route) -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise _fault(error, attempt=attempt, route=route) from error


def _fault(error: grpc.RpcError, *, attempt: Attempt, route: Route) -> Sum3DCamError:
    """The typed error behind a failed call.

    TorchServe ends its own messages with a Java class: bare for a job it did not take, with its package for a job
    that failed in a worker. That is what tells a full queue, a dead worker and no server apart.
    """
    code, said = error.code(), str(error.details() or "")
    limit, model = route.settings["max_message_bytes"], route.settings["model"]
    by_proxy = _HTTP_STATUS.search(said)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return attempt.late()
    if by_proxy is not None:
        return find_fault(int(by_proxy[1]), said=said, model=model)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in said:
        return reply_too_large(got=said, max_message_bytes=limit)
    if code is grpc.StatusCode.UNAVAILABLE and _NOT_CONNECTED.search(said):
        return RefusedError(f"no connection to {attempt.address}: is the server up?", got=said)
    if code is grpc.StatusCode.UNAVAILABLE and _LOST.search(said):
        return LostError(f"{attempt.address} hung up before its answer", got=said)
    if "NotFoundException" in said:
        return find_fault(404, said=said, model=model)
    if code is grpc.StatusCode.INTERNAL and "org.pytorch.serve.http.InternalServerException" in said:
        return find_fault(500, said=said, model=model)
    return find_fault(_STATUSES.get(code, 500), said=f"{code.name} {said}", model=model)
