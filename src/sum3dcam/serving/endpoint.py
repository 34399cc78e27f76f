"""GET /live and /ready over HTTP, for load balancers and probes that cannot run a command."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from sum3dcam.serving import health, readiness
from sum3dcam.serving.canary import TRANSPORTS
from sum3dcam.serving.health import Check
from sum3dcam.serving.management import Worker
from sum3dcam.serving.settings import read_properties
from sum3dcam.serving.torchserve import CONFIG_FILE, Server

TICK_SECONDS = 0.5


@dataclass(frozen=True)
class Verdict:
    """What the canaries of one set of workers last said, and when they were sent (monotonic seconds)."""

    workers: tuple[Worker, ...]
    checks: tuple[Check, ...]
    asked: float


class CanaryWatch(threading.Thread):
    """Sends canaries every so often; a probe is answered from what they last said, and so costs the workers nothing.

    Workers that are new (restarted, or of another version) are asked by the first probe that finds them.
    """

    def __init__(self, server: Server, *, every_seconds: float) -> None:
        super().__init__(name="canary", daemon=True)
        self._server, self._every = server, every_seconds
        slowest_seconds = len(server.models) * len(TRANSPORTS) * health.CANARY_SECONDS
        self._stale_seconds = every_seconds + 2 * slowest_seconds
        self._verdict: Verdict | None = None
        self._asking = threading.Lock()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            known = self._verdict
            if known is not None and time.monotonic() - known.asked >= self._every:
                with self._asking:
                    workers = readiness.workers(self._server)
                    if readiness.are_ready(workers, models=self._server.models):
                        self._ask(workers)

    def end(self) -> None:
        """Returns at once; a canary under way is not waited for."""
        self._ended.set()

    def said(self, workers: tuple[Worker, ...]) -> tuple[Check, ...]:
        """What these workers last answered."""
        known = self._known(workers)
        if known is None:
            with self._asking:
                known = self._known(workers) or self._ask(workers)
        return known.checks

    def _known(self, workers: tuple[Worker, ...]) -> Verdict | None:
        """The verdict on these workers, unless it is older than it can get while canaries are still sent."""
        known = self._verdict
        if known is None or known.workers != workers or time.monotonic() - known.asked > self._stale_seconds:
            return None
        return known

    def _ask(self, workers: tuple[Worker, ...]) -> Verdict:
        asked = time.monotonic()
        checks = health.ask_canaries(self._server)
        self._verdict = Verdict(workers=workers, checks=checks, asked=asked)
        return self._verdict


class _Probes(ThreadingHTTPServer):
    """Knows the TorchServe that its handlers are asked about."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], *, server: Server, watch: CanaryWatch) -> None:
        self.torchserve, self.watch = server, watch
        super().__init__(address, _ProbeHandler)

    def checks(self, path: str) -> tuple[Check, ...] | None:
        """The checks of a path; None for a path that is none."""
        if path == "/live":
            return health.live_checks(self.torchserve)
        if path == "/ready":
            return health.ready_checks(self.torchserve, ask_canary=self.watch.said)
        return None


class _ProbeHandler(BaseHTTPRequestHandler):
    server: _Probes
    timeout = 10.0
    server_version, sys_version = "sum3dcam", ""

    def do_GET(self) -> None:
        checks = self.server.checks(urlsplit(self.path).path)
        if checks is None:
            self._answer(HTTPStatus.NOT_FOUND, {"allowed": ["/live", "/ready"]})
            return
        said = health.summary(checks)
        self._answer(HTTPStatus.OK if said["passed"] else HTTPStatus.SERVICE_UNAVAILABLE, said)

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, content: Mapping[str, object]) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a probe every second would be all that the log holds."""


@contextmanager
def answering(server: Server, *, canary_every_seconds: float) -> Iterator[None]:
    """Answers probes at the configuration's health_address until the end of the block."""
    address = urlsplit(read_properties(server.run_dir / CONFIG_FILE)["health_address"])
    watch = CanaryWatch(server, every_seconds=canary_every_seconds)
    with _Probes((address.hostname or "127.0.0.1", server.ports.health), server=server, watch=watch) as probes:
        watch.start()
        thread = threading.Thread(target=probes.serve_forever, name="probes", daemon=True)
        thread.start()
        try:
            yield
        finally:
            watch.end()
            probes.shutdown()
            thread.join()
