"""The HTTP transport: one POST per video, options in the query string."""

import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from sum3dcam.client.delivery import Attempt, Route, deliver, deliver_async
from sum3dcam.client.fault import find_fault
from sum3dcam.client.prediction import Prediction
from sum3dcam.client.reply import read_reply
from sum3dcam.client.request import Options, reply_too_large
from sum3dcam.client.settings import CONNECT_TIMEOUT_SECONDS, Settings, Tls, is_loopback
from sum3dcam.errors import BadOptionError, LostError, RefusedError, ServerError, Sum3DCamError

# TorchServe hands query parameters to the handler here alone: under /predictions/MODEL it drops them unread.
PATH = "/invocations"


class HttpClient:
    """Asks servers over HTTP in turn; keeps its connections for the next request. Safe to share between threads.

    Args:
        url: a server's address, "http://127.0.0.1:8080", or those of several.

    Raises:
        BadOptionError: an address, a certificate or a key that cannot be used.
    """

    def __init__(self, url: str | Sequence[str], **settings: Unpack[Settings]) -> None:
        self._route = _route(url, settings=settings)
        self._session = httpx.Client(**_session(self._route))

    def predict(self, data: bytes, **options: Unpack[Options]) -> Prediction:
        """The server's answer to an encoded video or image, or an .npy clip.

        Raises:
            RequestError: what the server found wrong with the request, as the leaf it named.
            TooLargeError: request or reply beyond max_message_bytes.
            DeadlineExceededError: no answer before deadline_ms, whoever noticed.
            UnauthorizedError: the API key or the client certificate is missing or not accepted.
            OverloadedError: the queue is full or no worker is up. Never retried here.
            WorkerDiedError: a worker died with the request.
            UnreachableError: no answer in time; `RefusedError` no connection, `LostError` it was lost.
            ServerError: any other failure of the server.
        """
        return deliver(partial(self._send, data), self._route.delivery(data, options))

    def _send(self, data: bytes, attempt: Attempt) -> Prediction:
        body = bytearray()
        with _typed_errors(attempt), self._session.stream(**_request(self._route, data, attempt)) as response:
            for chunk in response.iter_bytes():
                _take(chunk, body, attempt=attempt, route=self._route)
        return _read(response.status_code, bytes(body), route=self._route)

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncHttpClient:
    """As `HttpClient`, awaited."""

    def __init__(self, url: str | Sequence[str], **settings: Unpack[Settings]) -> None:
        self._route = _route(url, settings=settings)
        self._session = httpx.AsyncClient(**_session(self._route))

    async def predict(self, data: bytes, **options: Unpack[Options]) -> Prediction:
        """As `HttpClient.predict`."""
        return await deliver_async(partial(self._send, data), self._route.delivery(data, options))

    async def _send(self, data: bytes, attempt: Attempt) -> Prediction:
        body = bytearray()
        with _typed_errors(attempt):
            async with self._session.stream(**_request(self._route, data, attempt)) as response:
                async for chunk in response.aiter_bytes():
                    _take(chunk, body, attempt=attempt, route=self._route)
        return _read(response.status_code, bytes(body), route=self._route)

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _route(url: str | Sequence[str], *, settings: Settings) -> Route:
    urls = [url] if isinstance(url, str) else url
    for one in urls:
        try:
            parsed = httpx.URL(one)
        except httpx.InvalidURL as error:
            raise BadOptionError("no address of an HTTP server", got=one, allowed="http://HOST:PORT") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise BadOptionError("no address of an HTTP server", got=one, allowed="http://HOST:PORT or https://HOST")
        if settings.get("tls") is not None and parsed.scheme != "https":
            raise BadOptionError("certificates are of no use without encryption", got=one, allowed="https://HOST")
    return Route([one.rstrip("/") for one in urls], settings=settings)


def _session(route: Route) -> dict[str, Any]:
    """What httpx's two clients are made with. How many connections there are is for those to bound who ask."""
    tls = route.settings["tls"]
    hosts = {httpx.URL(address).host for address in route.addresses}
    direct = {host for host in hosts if is_loopback(host)}
    return {
        "headers": {"content-type": "application/octet-stream", **route.headers},
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=None),
        "verify": httpx.create_ssl_context() if tls is None else _context(tls),
        "mounts": {f"all://[{host}]" if ":" in host else f"all://{host}": None for host in direct},
        "trust_env": hosts != direct,  # or a proxy that httpx cannot speak to would fail those who need none
    }


def _context(tls: Tls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.certificate_file is not None:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise BadOptionError("the certificates cannot be used", got=str(error), allowed="PEM files") from error
    return context


def _request(route: Route, data: bytes, attempt: Attempt) -> dict[str, Any]:
    left = attempt.timeout_seconds
    return {
        "method": "POST",
        "url": f"{attempt.address}{PATH}",
        "params": {"model_name": route.settings["model"], **attempt.options},
        "content": data,
        "timeout": httpx.Timeout(left, connect=min(left, CONNECT_TIMEOUT_SECONDS)),
    }


def _take(chunk: bytes, body: bytearray, *, attempt: Attempt, route: Route) -> None:
    """Adds to the body what came, while there is room and time: httpx limits the wait for each chunk alone."""
    limit = route.settings["max_message_bytes"]
    body += chunk
    if len(body) > limit:
        raise reply_too_large(got=f"more than {limit} bytes", max_message_bytes=limit)
    if attempt.is_late:
        raise attempt.late()


@contextmanager
def _typed_errors(attempt: Attempt) -> Iterator[None]:
    address = attempt.address
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        if attempt.is_late:
            raise attempt.late() from error
        said = str(error) or type(error).__name__
        raise RefusedError(f"no connection to {address}: is the server up?", got=said) from error
    except httpx.TimeoutException as error:
        raise attempt.late() from error
    except (httpx.NetworkError, httpx.RemoteProtocolError, ssl.SSLError) as error:  # an alert comes bare when awaited
        said = str(error) or type(error).__name__
        raise LostError(f"{address} hung up before its answer", got=said) from error
    except httpx.HTTPError as error:
        raise ServerError(f"{address} does not speak HTTP as it should", got=str(error)) from error


def _read(status: int, body: bytes, *, route: Route) -> Prediction:
    if status == httpx.codes.OK:
        return read_reply(body, max_message_bytes=route.settings["max_message_bytes"])
    raise _fault(status, body, model=route.settings["model"])


def _fault(status: int, body: bytes, *, model: str) -> Sum3DCamError:
    """The typed error behind a status other than 200: the envelope's if there is one, else by status."""
    said = _json_object(body)
    if "contract_version" in said:
        try:
            read_reply(body)
        except Sum3DCamError as error:
            return error
    # No envelope: TorchServe's own {"code", "type", "message"}, or a proxy's page.
    message = str(said.get("message") or body[:200].decode("utf-8", "replace"))
    return find_fault(status, said=f"HTTP {status} {message}".strip(), model=model)


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
