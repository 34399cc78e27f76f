"""TorchServe's management API, as far as it is needed: what is served by which workers, and replacing it."""

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from sum3dcam.errors import ServerError
from sum3dcam.serving.loopback import open_url
from sum3dcam.serving.torchserve import Server

TIMEOUT_SECONDS = 5.0
# To unpack an archive, or to end its workers: TorchServe answers once that is done.
LOAD_SECONDS = 150.0
ALL_VERSIONS = "all"


class NotServedError(ServerError):
    """The server has no such model or version."""


@dataclass(frozen=True)
class Worker:
    """A worker process; a restart changes its pid."""

    model: str
    version: str
    pid: int
    status: str
    start_time: str


@dataclass(frozen=True)
class Version:
    """One version of a model. `pending` requests wait in its queue; a batch that is under way is in no queue."""

    model: str
    version: str
    workers: tuple[Worker, ...]
    pending: int
    max_batch_delay_seconds: float


def versions(server: Server, *, model: str, version: str = "") -> tuple[Version, ...]:
    """The default version of a model, or the one named, or ALL_VERSIONS.

    Raises:
        NotServedError: no such model or version.
        ServerError: no answer.
    """
    path = f"/models/{model}" + (f"/{version}" if version else "")
    return tuple(
        Version(
            model=model,
            version=found["modelVersion"],
            workers=tuple(
                Worker(
                    model=model,
                    version=found["modelVersion"],
                    pid=worker["pid"],
                    status=worker["status"],
                    start_time=worker["startTime"],
                )
                for worker in found["workers"]
            ),
            pending=found["jobQueueStatus"]["pendingRequests"],
            max_batch_delay_seconds=found["maxBatchDelay"] / 1000,
        )
        for found in _ask(server, "GET", path, timeout_seconds=TIMEOUT_SECONDS)
    )


def register(server: Server, *, archive: str) -> None:
    """Has an archive of the model store loaded beside what is served; its workers start by and by.

    Args:
        archive: the file's name. Of a URL TorchServe makes a copy in the store, which goes when it is unregistered.

    Raises:
        ServerError: refused, for one because the server's model API is closed.
    """
    query = urllib.parse.urlencode({"url": archive, "synchronous": "false"})
    _ask(server, "POST", f"/models?{query}", timeout_seconds=LOAD_SECONDS)


def set_default(server: Server, *, model: str, version: str) -> None:
    """Has requests that name no version answered by this one, from now on.

    Raises:
        ServerError: refused.
    """
    _ask(server, "PUT", f"/models/{model}/{version}/set-default", timeout_seconds=TIMEOUT_SECONDS)


def unregister(server: Server, *, model: str, version: str) -> None:
    """Ends a version that is not the default; what it has not answered is lost.

    Raises:
        ServerError: refused.
    """
    _ask(server, "DELETE", f"/models/{model}/{version}", timeout_seconds=LOAD_SECONDS)


def _ask(server: Server, method: str, path: str, *, timeout_seconds: float) -> Any:
    request = urllib.request.Request(f"{server.management_url}{path}", method=method)
    try:
        with open_url(request, timeout=timeout_seconds) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == HTTPStatus.METHOD_NOT_ALLOWED:
                raise ServerError(
                    "the server's model API is closed; start it with enable_model_api=true in its config.properties",
                    got=f"{method} {path}",
                ) from error
            kind = NotServedError if error.code == HTTPStatus.NOT_FOUND else ServerError
            raise kind(f"TorchServe refused {method} {path}", got=_message(error)) from error
    except (OSError, ValueError) as error:
        raise ServerError("TorchServe's management API does not answer", got=str(error)) from error


def _message(error: urllib.error.HTTPError) -> str:
    """HTTP status and TorchServe's own words."""
    try:
        said = str(json.loads(error.read())["message"])
    except (OSError, ValueError, KeyError, TypeError):
        said = error.reason
    return f"HTTP {error.code} {said}"
