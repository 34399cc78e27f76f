"""What is scraped: workers that come and go, and a front end whose log grows and is renamed."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from prometheus_client import CollectorRegistry

from sum3dcam.serving import exporter, torchserve
from sum3dcam.serving.front_end import FrontEnd

WORKER = """
import os, signal
from prometheus_client import CollectorRegistry
from sum3dcam.serving.metrics import Metrics
from sum3dcam.serving.report import Report

metrics = Metrics("m", registry=CollectorRegistry())
metrics.tell_engines({"labels": {"name": "n", "engine": "e", "provider": "p", "certified": True}}, version="1.0")
report = Report("ok", None, None, batch_items=2, num_clips=1, seconds={"compute": 0.03, "worker": 2.0})
metrics.count_batch([report, report], transports=["http", "grpc"])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def workers(tmp_path: Path) -> Path:
    folder = tmp_path / "metrics"
    folder.mkdir()
    return folder


@pytest.fixture
def front_end(tmp_path: Path) -> Path:
    return tmp_path / "front_end.log"


@pytest.fixture
def registry(workers: Path, front_end: Path) -> Iterator[CollectorRegistry]:
    with closing(FrontEnd(front_end)) as collector:
        yield exporter.build_registry(workers, front_end=collector)


def test_counts_of_workers_that_were_killed_are_added_up(registry: CollectorRegistry, workers: Path) -> None:
    for _ in range(3):
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(workers)}
        done = subprocess.run([sys.executable, "-c", WORKER], env=environment, check=False)
        assert done.returncode == -9
    for transport in ("http", "grpc"):
        labels = {"model": "m", "transport": transport}
        assert registry.get_sample_value("sum3dcam_requests_total", {**labels, "code": "ok"}) == 3
        assert registry.get_sample_value("sum3dcam_worker_seconds_sum", labels) == 6.0
        assert registry.get_sample_value("sum3dcam_compute_seconds_bucket", {**labels, "le": "0.025"}) == 0
        assert registry.get_sample_value("sum3dcam_compute_seconds_bucket", {**labels, "le": "0.05"}) == 3
        assert registry.get_sample_value("sum3dcam_batch_items_sum", labels) == 6
    assert registry.get_sample_value("sum3dcam_batches_total", {"model": "m"}) == 3
    info = {"model": "m", "version": "1.0", "network": "n", "graph": "labels", "engine": "e", "provider": "p"}
    assert registry.get_sample_value("sum3dcam_engine_info", {**info, "certified": "true"}) == 1


def line(job: str, *, waiting_ms: int, backend_ms: int) -> str:
    """A line as TorchServe 0.12 writes it through log4j2.xml; tests/e2e has the real ones."""
    return f"{job} W-9000-my_model_1.0 Waiting time ns: {waiting_ms}000000, Backend time ns: {backend_ms}000000\n"


def sums(registry: CollectorRegistry, transport: str) -> tuple[float | None, ...]:
    """How many requests, and their seconds in the queue and in total."""
    labels = {"model": "my_model", "transport": transport}
    names = ("queue_seconds_count", "queue_seconds_sum", "total_seconds_sum")
    return tuple(registry.get_sample_value(f"sum3dcam_{name}", labels) for name in names)


def test_front_ends_durations_are_read_line_by_line(registry: CollectorRegistry, front_end: Path) -> None:
    assert sums(registry, "http") == (None, None, None)  # there is no log yet
    whole = line("RestJob", waiting_ms=250, backend_ms=500)
    with front_end.open("w") as log:
        log.write(whole + line("GRPCJob", waiting_ms=1000, backend_ms=2000) + "RestJob something else\n" + whole[:60])
        log.flush()
        assert sums(registry, "http") == (1, 0.25, 0.75)
        log.write(whole[60:])
        log.flush()
    # Sums of binary fractions: exact.
    assert sums(registry, "http") == (2, 0.5, 1.5)
    assert sums(registry, "grpc") == (1, 1.0, 3.0)


def test_no_line_is_lost_or_read_twice_when_the_log_is_renamed(registry: CollectorRegistry, front_end: Path) -> None:
    text = line("RestJob", waiting_ms=250, backend_ms=500)
    front_end.write_text(text)
    assert sums(registry, "http") == (1, 0.25, 0.75)
    with front_end.open("a") as log:
        log.write(text)
    front_end.rename(front_end.with_suffix(".1.log"))
    assert sums(registry, "http") == (2, 0.5, 1.5)  # renamed, and the new one is not there yet
    front_end.write_text(text * 2)
    assert sums(registry, "http") == (4, 1.0, 3.0)
    assert sums(registry, "http") == (4, 1.0, 3.0)


def test_the_process_listens_where_it_is_told_and_ends_with_its_server(workers: Path, tmp_path: Path) -> None:
    port = torchserve.free_ports().exporter
    server = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        pid = exporter.start(f"http://127.0.0.1:{port}", workers=workers, log_dir=tmp_path, server_pid=server.pid)
        process = psutil.Process(pid)
        until = time.monotonic() + 30
        while not process.net_connections():
            assert time.monotonic() < until, (tmp_path / exporter.LOG).read_text()
            time.sleep(0.05)
        assert [connection.laddr for connection in process.net_connections()] == [("127.0.0.1", port)]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            assert b"sum3dcam_queue_seconds" in page.read()
    finally:
        server.communicate(b"\n")
    process.wait(timeout=30)
    assert (tmp_path / exporter.LOG).read_text() == ""
