"""GET /live and /ready over HTTP, for load balancers and probes that cannot run a command."""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from sum3dcam.serving import health, readiness
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
    """Sends canaries every so often, and at once to workers that are new.

    A probe is answered from what is known, so that many probes cost the workers nothing.
    """

    def __init__(self, server: Server, *, every_seconds: float) -> None:
        super().__init__(name="canary", daemon=True)
        self._server, self._every = server, every_seconds
        self._verdict: Verdict | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            workers, now = readiness.workers(self._server), time.monotonic()
            known = self._verdict
            due = known is None or known.workers != workers or now - known.asked >= self._every
            if due and readiness.are_ready(workers, models=self._server.models):
                checks = health.ask_canaries(self._server)
                self._verdict = Verdict(workers=workers, checks=checks, asked=now)

    def end(self) -> None:
        """Returns at once; a canary under way is not waited for."""
        self._ended.set()

    def said(self, server: Server, workers: tuple[Worker, ...]) -> tuple[Check, ...]:
        """The last canaries' checks, if it was these workers that were asked."""
        verdict = self._verdict
        if verdict is None or verdict.workers != workers:
            return (Check("canary", False, "these workers have not answered one yet"),)
        return verdict.checks


class _Probes(ThreadingHTTPServer):
    """Knows the server that its handlers are asked about."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], *, server: Server, watch: CanaryWatch) -> None:
        self.server_of, self.watch = server, watch
        super().__init__(address, _ProbeHandler)

    def checks(self, path: str) -> tuple[Check, ...] | None:
        """The checks of a path; None for a path that is none."""
        if path == "/live":
            return health.live_checks(self.server_of)
        if path == "/ready":
            return health.ready_checks(self.server_of, ask_canary=self.watch.said)
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
        passed = all(check.passed for check in checks)
        status = HTTPStatus.OK if passed else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(status, {"passed": passed, "checks": [asdict(check) for check in checks]})

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
