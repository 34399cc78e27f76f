"""Ending a server without losing a request: TorchServe's own SIGTERM resets HTTP calls that are under way."""

import time
from collections.abc import Callable, Iterable

from sum3dcam.errors import ServerError
from sum3dcam.serving import management, torchserve
from sum3dcam.serving.management import ALL_VERSIONS, NotServedError, Version
from sum3dcam.serving.occupancy import is_busy
from sum3dcam.serving.torchserve import DRAINING_FILE, Server, is_running

POLL_SECONDS = 0.05
# Beyond maxBatchDelay: a batch's way to the worker, or its replies' from there to the clients' sockets.
SETTLE_SECONDS = 1.0


def is_draining(server: Server) -> bool:
    """Whether the server has been told to end."""
    return (server.run_dir / DRAINING_FILE).exists()


def stop(server: Server, *, notice_seconds: float, in_flight_seconds: float) -> bool:
    """Stops being ready, waits until load balancers have noticed and what is in flight is answered, then stops.

    Args:
        notice_seconds: how long load balancers may need to notice that the server is not ready.
        in_flight_seconds: how long to wait at most for answers, after that.

    Returns:
        Whether nothing was in flight any more.
    """
    (server.run_dir / DRAINING_FILE).touch()
    time.sleep(notice_seconds)
    answered = wait_idle(
        server,
        lambda: [version for model in server.models for version in _all_versions(server, model=model)],
        timeout_seconds=in_flight_seconds,
    )
    torchserve.stop(server)
    return answered


def _all_versions(server: Server, *, model: str) -> tuple[Version, ...]:
    """None of a server that runs no more, or of a model that is served no more: they have nothing in flight either."""
    if not is_running(server):
        return ()
    try:
        return management.versions(server, model=model, version=ALL_VERSIONS)
    except NotServedError:
        return ()


def wait_idle(server: Server, watched: Callable[[], Iterable[Version]], *, timeout_seconds: float) -> bool:
    """Whether these versions have answered all that they had been given, within the time.

    A request waits in the queue, or up to maxBatchDelay for company, where nothing shows it, or is at a worker, or is
    on its way back. So a version is idle once nothing has been seen of it for longer than the two that cannot be seen.
    A server that does not say is not idle: it may be too busy to.
    """
    until = time.monotonic() + timeout_seconds
    last_busy = time.monotonic()
    versions: tuple[Version, ...] = ()
    while True:
        try:
            versions = tuple(watched())
            busy = any(_is_at_work(server, version) for version in versions)
        except ServerError:
            busy = True
        now = time.monotonic()
        if busy:
            last_busy = now
        unseen_seconds = max((version.max_batch_delay_seconds for version in versions), default=0.0) + SETTLE_SECONDS
        if now - last_busy >= unseen_seconds:
            return True
        if now >= until:
            return False
        time.sleep(POLL_SECONDS)


def _is_at_work(server: Server, version: Version) -> bool:
    return version.pending > 0 or any(is_busy(server.temp_dir, pid=worker.pid) for worker in version.workers)
