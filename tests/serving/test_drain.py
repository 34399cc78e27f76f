"""When a server counts as idle, and what tells that a worker is at a batch."""

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sum3dcam.errors import ServerError
from sum3dcam.serving import drain, management, torchserve
from sum3dcam.serving.drain import wait_idle
from sum3dcam.serving.management import Version
from sum3dcam.serving.occupancy import is_busy
from sum3dcam.serving.torchserve import Ports, Server

DELAY_SECONDS = 0.1
AT_A_BATCH = """
import time
from sum3dcam.serving.occupancy import occupied
with occupied():
    print("at it", flush=True)
    input()
print("done", flush=True)
time.sleep(60)
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(drain, "SETTLE_SECONDS", 0.1)
    return Server(pid=1, exporter_pid=2, ports=Ports(*range(1, 9)), models=("m",), run_dir=tmp_path, temp_dir=tmp_path)


def test_idle_is_nothing_seen_for_longer_than_a_request_can_hide(server: Server) -> None:
    began = time.monotonic()

    def watched() -> tuple[Version, ...]:
        pending = int(time.monotonic() - began < 0.3)
        return (Version(model="m", version="1", workers=(), pending=pending, max_batch_delay_seconds=DELAY_SECONDS),)

    assert wait_idle(server, watched, timeout_seconds=10)
    assert time.monotonic() - began >= 0.3 + DELAY_SECONDS


def test_the_wait_is_bounded(server: Server) -> None:
    always = (Version(model="m", version="1", workers=(), pending=1, max_batch_delay_seconds=DELAY_SECONDS),)
    assert not wait_idle(server, lambda: always, timeout_seconds=0.2)


def test_server_that_does_not_say_is_busy_and_one_that_ended_is_idle(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> tuple[Version, ...]:
        raise ServerError("TorchServe's management API does not answer", got="timed out")

    monkeypatch.setattr(management, "versions", silent)
    monkeypatch.setattr(torchserve, "stop", lambda server: None)
    for running in (True, False):
        monkeypatch.setattr(drain, "is_running", lambda server, running=running: running)
        assert drain.stop(server, notice_seconds=0.0, in_flight_seconds=0.3) is not running


def test_model_that_is_served_no_more_has_nothing_in_flight(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(torchserve, "stop", lambda server: None)
    monkeypatch.setattr(drain, "is_running", lambda server: True)
    with HTTPServer(("127.0.0.1", 0), Refusing) as management_api:
        threading.Thread(target=management_api.serve_forever, daemon=True).start()
        refused = replace(server, ports=replace(server.ports, management=management_api.server_port))
        assert drain.stop(refused, notice_seconds=0.0, in_flight_seconds=5.0)
        management_api.shutdown()


@pytest.mark.parametrize("end", ["batch answered", "killed"])
def test_worker_is_busy_until_its_batch_or_its_life_ends(end: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", AT_A_BATCH]
    environment = {"TMPDIR": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            assert worker.stdout.readline() == "at it\n"
            assert is_busy(tmp_path, pid=worker.pid)
            assert not is_busy(tmp_path, pid=worker.pid + 1)
            if end == "killed":
                worker.send_signal(signal.SIGKILL)
                worker.wait()
            else:
                worker.stdin.write("\n")
                worker.stdin.flush()
                assert worker.stdout.readline() == "done\n"
                assert list(tmp_path.iterdir()) == []
            assert not is_busy(tmp_path, pid=worker.pid)
        finally:
            worker.kill()
