"""A cluster's end, with other programs in the place of its own; the rest is in tests/e2e/test_cluster.py."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sum3dcam.serving import keeper, proxy
from sum3dcam.serving.keeper import Keeper, Plan
from sum3dcam.serving.proxy import Edge
from sum3dcam.serving.torchserve import Ports

CONFIG = Path(__file__).resolve().parents[2] / "serve_config" / "config.properties"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Two instances that end when told, and a proxy that does not, so that its soft stop takes all of its time."""
    stubborn = "trap '' QUIT; echo deaf; while :; do sleep 1; done"
    monkeypatch.setattr(keeper, "_SOFT_STOP_SECONDS", 1.0)
    monkeypatch.setattr(keeper, "is_ready", lambda instance: (tmp_path / "proxy.log").read_text() == "deaf\n")
    monkeypatch.setattr(proxy, "read_limits", lambda configs, properties: None)
    monkeypatch.setattr(proxy, "configure", lambda kind, **facts: None)
    monkeypatch.setattr(proxy, "command", lambda kind, run_dir: ["sh", "-c", stubborn])
    monkeypatch.setattr(Keeper, "_instance_command", lambda self, name: ["sleep", "60"])
    ports = {name: Ports(*range(1, 9)) for name in ("a", "b")}
    edge = Edge("127.0.0.1", 1, 2, api_keys={})
    return Plan(archives=(), config=CONFIG, kind="nginx", edge=edge, ports=ports, run_dir=tmp_path)


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def told_again(request: pytest.FixtureRequest) -> Iterator[threading.Timer]:
    """Sends this process, in a moment, a signal that would end what it is doing."""

    def end(number: int, frame: object) -> None:
        raise RuntimeError("told to end a second time")

    before = signal.signal(request.param, end)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), request.param))
    yield timer
    timer.join()
    assert signal.getsignal(request.param) is end
    signal.signal(request.param, before)


def test_second_signal_leaves_no_process_behind(plan: Plan, told_again: threading.Timer) -> None:
    here = psutil.Process()
    others = here.children()
    temp_dir = plan.run_dir / "edge"
    temp_dir.mkdir()
    kept = Keeper(plan, temp_dir=temp_dir)
    kept.start(timeout_seconds=10)
    started = [process for process in here.children() if process not in others]
    assert len(started) == 3
    try:
        told_again.start()
        kept.stop()
        assert not [process for process in started if process.is_running()]
    finally:
        for process in started:
            if process.is_running():
                process.kill()
