"""TorchServe's management API, as far as it is needed: what is served by which workers, and replacing it."""

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from sum3dcam.errors import ServerError
from sum3dcam.serving.torchserve import Server

TIMEOUT_SECONDS = 5.0
ALL_VERSIONS = "all"


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
        ServerError: no such model or version, or no answer.
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


def _ask(server: Server, method: str, path: str, *, timeout_seconds: float) -> Any:
    request = urllib.request.Request(f"{server.management_url}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            raise ServerError(f"TorchServe refused {method} {path}", got=_message(error)) from error
    except (OSError, ValueError) as error:
        raise ServerError("TorchServe's management API does not answer", got=str(error)) from error


def _message(error: urllib.error.HTTPError) -> str:
    """HTTP status and TorchServe's own words."""
    try:
        said = str(json.loads(error.read())["message"])
    except (OSError, ValueError, KeyError, TypeError):
        said = error.reason
    return f"HTTP {error.code} {said}"
