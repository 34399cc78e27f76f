"""What a probe asks of a server, one check after another: is it alive, and should it be sent requests?"""

import urllib.error
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from sum3dcam.errors import Sum3DCamError
from sum3dcam.serving import canary, drain, readiness
from sum3dcam.serving.loopback import open_url
from sum3dcam.serving.management import Worker
from sum3dcam.serving.torchserve import Server, is_running

PING_SECONDS = 5.0
CANARY_SECONDS = 30.0


@dataclass(frozen=True)
class Check:
    """One line of a probe's answer."""

    name: str
    passed: bool
    says: str


Canary = Callable[[tuple[Worker, ...]], tuple[Check, ...]]


def live_checks(server: Server) -> tuple[Check, ...]:
    """Whether the server should be left alone: its process is there, and TorchServe does not call itself Unhealthy.

    TorchServe does so once it has given up a worker, maxRetryTimeoutInSec after its death; before, it may well recover.
    """
    runs = is_running(server)
    process = Check("process", runs, f"pid {server.pid}" + ("" if runs else " is gone"))
    return (process, _ping(server)) if runs else (process,)


def ready_checks(server: Server, *, ask_canary: Canary) -> tuple[Check, ...]:
    """Whether the server should be sent requests: it is alive, not draining, its workers are ready, canaries return.

    What comes after a failed check would only say the same again and is left out.
    """
    checks = live_checks(server)
    if all(check.passed for check in checks):
        checks += (_not_draining(server),)
    if all(check.passed for check in checks):
        workers = readiness.workers(server)
        checks += tuple(_workers(model, workers=workers) for model in server.models)
        if all(check.passed for check in checks):
            checks += ask_canary(workers)
    return checks


def ask_canaries(server: Server, *, timeout_seconds: float = CANARY_SECONDS) -> tuple[Check, ...]:
    """A canary for every model over each transport."""
    return tuple(
        _canary(server, model=model, transport=transport, timeout_seconds=timeout_seconds)
        for model in server.models
        for transport in canary.TRANSPORTS
    )


def summary(checks: tuple[Check, ...]) -> dict[str, Any]:
    """The checks as JSON has them."""
    return {"passed": all(check.passed for check in checks), "checks": [asdict(check) for check in checks]}


def _canary(server: Server, *, model: str, transport: str, timeout_seconds: float) -> Check:
    name = f"{model} over {transport}"
    try:
        return Check(name, True, canary.ask(server, model=model, transport=transport, timeout_seconds=timeout_seconds))
    except Sum3DCamError as error:
        return Check(name, False, str(error))


def _ping(server: Server) -> Check:
    try:
        with open_url(f"{server.url}/ping", timeout=PING_SECONDS) as reply:
            return Check("ping", reply.status == HTTPStatus.OK, f"HTTP {reply.status}")
    except urllib.error.HTTPError as error:
        with error:
            return Check("ping", False, f"HTTP {error.code}: TorchServe has given up a worker; restart the server")
    except OSError as error:
        return Check("ping", False, f"no answer from {server.url}: {error}")


def _not_draining(server: Server) -> Check:
    draining = drain.is_draining(server)
    return Check("draining", not draining, "yes: it will stop" if draining else "no")


def _workers(model: str, *, workers: tuple[Worker, ...]) -> Check:
    own = [worker for worker in workers if worker.model == model]
    ready = sum(worker.status == readiness.READY for worker in own)
    versions = ", ".join(sorted({worker.version for worker in own})) or "unknown"
    return Check(
        f"{model} workers", bool(own) and ready == len(own), f"{ready} of {len(own)} ready, version {versions}"
    )
