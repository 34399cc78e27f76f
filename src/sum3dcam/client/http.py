"""The HTTP transport: one POST per video, options in the query string."""

import json
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from sum3dcam.client.prediction import Prediction
from sum3dcam.client.reply import read_reply
from sum3dcam.client.request import (
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_MODEL,
    DEFAULT_TIMEOUT_SECONDS,
    Options,
    check_size,
    option_texts,
    reply_too_large,
)
from sum3dcam.errors import (
    OverloadedError,
    RequestError,
    ServerError,
    Sum3DCamError,
    TooLargeError,
    UnreachableError,
)

# TorchServe hands query parameters to the handler here alone: under /predictions/MODEL it drops them unread.
PATH = "/invocations"
CONNECT_TIMEOUT_SECONDS = 5.0


class HttpClient:
    """Asks a server over HTTP; keeps its connections for the next request. Safe to share between threads.

    Args:
        url: the server's address, "http://127.0.0.1:8080".
        model: name under which the archive is served.
        timeout_seconds: longest wait for the server's next bytes.
        max_message_bytes: largest request sent and largest reply accepted.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = DEFAULT_MODEL,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ) -> None:
        self.address = url.rstrip("/")
        self.model = model
        self._max_message_bytes = max_message_bytes
        timeout = httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, CONNECT_TIMEOUT_SECONDS))
        self._session = httpx.Client(timeout=timeout)

    def predict(self, data: bytes, **options: Unpack[Options]) -> Prediction:
        """The server's answer to an encoded video or image, or an .npy clip.

        Raises:
            RequestError: what the server found wrong with the request, as the leaf it named.
            TooLargeError: request or reply beyond max_message_bytes.
            OverloadedError: the queue is full or no worker is up. Never retried here.
            UnreachableError: no answer.
            ServerError: any other failure of the server.
        """
        check_size(len(data), max_message_bytes=self._max_message_bytes)
        status, body = self._post(data, params={"model_name": self.model, **option_texts(options)})
        if status == httpx.codes.OK:
            return read_reply(body)
        raise _error(status, body, model=self.model)

    def _post(self, data: bytes, *, params: dict[str, str]) -> tuple[int, bytes]:
        try:
            with self._session.stream(
                "POST",
                f"{self.address}{PATH}",
                params=params,
                content=data,
                headers={"content-type": "application/octet-stream"},
            ) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > self._max_message_bytes:
                        raise reply_too_large(
                            got=f"more than {self._max_message_bytes} bytes", max_message_bytes=self._max_message_bytes
                        )
                return response.status_code, bytes(body)
        except httpx.TimeoutException as error:
            raise UnreachableError(f"no answer from {self.address} in time", got=type(error).__name__) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise UnreachableError(f"no answer from {self.address}: is the server up?", got=str(error)) from error

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _error(status: int, body: bytes, *, model: str) -> Sum3DCamError:
    """The typed error behind a status other than 200: the envelope's if there is one, else by status."""
    said = _json_object(body)
    if "contract_version" in said:
        try:
            read_reply(body)
        except Sum3DCamError as error:
            return error
    # No envelope: TorchServe's own {"code", "type", "message"}, or a proxy's page.
    message = str(said.get("message") or body[:200].decode("utf-8", "replace"))
    if status == httpx.codes.NOT_FOUND:
        return RequestError(f"the server has no model '{model}'", got=message)
    if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        return TooLargeError("the request is larger than the server's max_request_size", got=message or None)
    if status in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS):
        return OverloadedError("the server could not take the request now; try again later", got=message or None)
    if status in (httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT):
        return UnreachableError("the proxy got no answer from a server", got=f"HTTP {status} {message}".strip())
    return ServerError("the server failed", got=f"HTTP {status} {message}".strip())


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
