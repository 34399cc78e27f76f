"""Whether a server can answer: its workers' state, since /ping says Healthy while they are dead."""

import json
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

from sum3dcam.errors import ServerError
from sum3dcam.serving.torchserve import CONSOLE_LOG, Server, is_running

POLL_SECONDS = 0.25
_DIED = "Backend worker process died."
_ERROR = re.compile(r"[\w.]*(Error|Exception): ")
_WORKER_SAYS = "MODEL_LOG - "
_SAYS_NOTHING = "500 - Unknown exception"


@dataclass(frozen=True)
class Worker:
    """A worker process as the management API tells it; a restart changes pid and start time."""

    model: str
    pid: int
    status: str
    start_time: str


def workers(server: Server) -> tuple[Worker, ...]:
    """The workers of all of the server's models; none while it starts."""
    found = []
    for model in server.models:
        try:
            with urllib.request.urlopen(f"{server.management_url}/models/{model}", timeout=5) as reply:
                versions = json.load(reply)
        except (urllib.error.URLError, OSError):
            return ()
        found += [
            Worker(model=model, pid=worker["pid"], status=worker["status"], start_time=worker["startTime"])
            for version in versions
            for worker in version["workers"]
        ]
    return tuple(found)


def is_ready(server: Server) -> bool:
    """Whether every model has workers and all are ready."""
    found = workers(server)
    return {worker.model for worker in found} == set(server.models) and all(
        worker.status == "READY" for worker in found
    )


def wait_ready(server: Server, *, timeout_seconds: float) -> None:
    """Returns once the server can answer.

    Raises:
        ServerError: it ended, a worker could not load its archive, or the time is up.
    """
    until = time.monotonic() + timeout_seconds
    while not is_ready(server):
        if not is_running(server):
            raise ServerError(f"TorchServe ended; see {server.log_dir}", got=_last_error(server))
        if _DIED in _console(server):
            raise ServerError(f"a worker could not start; see {server.log_dir}", got=_last_error(server))
        if time.monotonic() > until:
            raise ServerError(f"TorchServe is not ready after {timeout_seconds} s; see {server.log_dir}")
        time.sleep(POLL_SECONDS)


def _console(server: Server) -> str:
    """What the server and its workers have said so far."""
    path = server.log_dir / CONSOLE_LOG
    return path.read_text(errors="replace") if path.exists() else ""


def _last_error(server: Server) -> str | None:
    """The last error that a worker named, or else the server itself, without the log's own prefix.

    TorchServe answers a worker's RuntimeError with one of its own that says nothing; the one before it does.
    """
    lines = _console(server).splitlines()
    by_worker = [line.partition(_WORKER_SAYS)[2] for line in lines if _WORKER_SAYS in line]
    for said in (by_worker, lines):
        errors = [line for line in said if _ERROR.match(line) and _SAYS_NOTHING not in line]
        if errors:
            return errors[-1]
    return None
