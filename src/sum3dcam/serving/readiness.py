"""Whether a server can answer: its workers' state, since /ping says Healthy while they are dead."""

import re
import time

from sum3dcam.errors import ServerError
from sum3dcam.serving import management
from sum3dcam.serving.management import Worker
from sum3dcam.serving.torchserve import CONSOLE_LOG, Server, is_running

POLL_SECONDS = 0.25
# The console's end, more than all that a failed start says.
TAIL_BYTES = 2**18
READY = "READY"
_DIED = "Backend worker process died."
_ERROR = re.compile(r"[\w.]*(Error|Exception): ")
_WORKER_SAYS = "MODEL_LOG - "
_SAYS_NOTHING = "500 - Unknown exception"


def workers(server: Server) -> tuple[Worker, ...]:
    """The workers of the default version of each model; none while the server starts."""
    try:
        found = [management.versions(server, model=model) for model in server.models]
    except ServerError:
        return ()
    return tuple(worker for versions in found for version in versions for worker in version.workers)


def are_ready(found: tuple[Worker, ...], *, models: tuple[str, ...]) -> bool:
    """Whether every model has workers and all are ready."""
    return {worker.model for worker in found} == set(models) and all(worker.status == READY for worker in found)


def is_ready(server: Server) -> bool:
    """Whether every model can be answered."""
    return are_ready(workers(server), models=server.models)


def wait_ready(server: Server, *, timeout_seconds: float) -> None:
    """Returns once the server can answer.

    Raises:
        ServerError: it ended, a worker could not load its archive, or the time is up.
    """
    until = time.monotonic() + timeout_seconds
    while not is_ready(server):
        if not is_running(server):
            raise ServerError(f"TorchServe ended; see {server.log_dir}", got=_last_error(_console(server)))
        reason = failed_start(server)
        if reason is not None:
            raise ServerError(f"a worker could not start; see {server.log_dir}", got=reason)
        if time.monotonic() > until:
            raise ServerError(f"TorchServe is not ready after {timeout_seconds} s; see {server.log_dir}")
        time.sleep(POLL_SECONDS)


def failed_start(server: Server, *, said_before: int = 0) -> str | None:
    """Why a worker died, if one did since the server's console had that many bytes."""
    said = _console(server, after=said_before)
    return _last_error(said) or _DIED if _DIED in said else None


def console_length(server: Server) -> int:
    """Bytes that the server and its workers have said so far."""
    path = server.log_dir / CONSOLE_LOG
    return path.stat().st_size if path.exists() else 0


def _console(server: Server, *, after: int = 0) -> str:
    """The end of what was said after so many bytes."""
    length = console_length(server)
    if length == 0:
        return ""
    with (server.log_dir / CONSOLE_LOG).open("rb") as file:
        file.seek(max(after, length - TAIL_BYTES))
        return file.read().decode(errors="replace")


def _last_error(console: str) -> str | None:
    """The last error that a worker named, or else the server itself, without the log's own prefix.

    TorchServe answers a worker's RuntimeError with one of its own that says nothing; the one before it does.
    """
    lines = console.splitlines()
    by_worker = [line.partition(_WORKER_SAYS)[2] for line in lines if _WORKER_SAYS in line]
    for said in (by_worker, lines):
        errors = [line for line in said if _ERROR.match(line) and _SAYS_NOTHING not in line]
        if errors:
            return errors[-1]
    return None
