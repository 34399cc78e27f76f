"""What asks a server of this machine does so directly, whatever proxy the environment names."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sum3dcam.serving import health, keeper, management
from sum3dcam.serving.torchserve import Ports, Server

VERSION = {"modelVersion": "1.0", "workers": [], "jobQueueStatus": {"pendingRequests": 0}, "maxBatchDelay": 5}


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps([VERSION]).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    """Where everything is answered as TorchServe's management API answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def test_no_proxy_comes_between(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    ports = Ports(*[port] * 8)
    server = Server(pid=1, exporter_pid=2, ports=ports, models=("m",), run_dir=tmp_path, temp_dir=tmp_path)
    monkeypatch.setattr(health, "is_running", lambda server: True)
    assert management.versions(server, model="m")[0].version == "1.0"
    assert health.live_checks(server)[-1] == health.Check("ping", True, "HTTP 200")
    assert keeper.is_ready(keeper.upstream(ports))
