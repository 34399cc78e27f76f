"""What counting, timing and logging a request costs a worker: python benchmarks/telemetry.py.

Batches of eight requests, as a worker does it: counters and histograms in files, the log into a pipe that is read.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click
from origin import origin
from prometheus_client import CollectorRegistry

from sum3dcam.serving.logs import log_as_json
from sum3dcam.serving.metrics import Metrics
from sum3dcam.serving.report import STAGES, Report
from sum3dcam.serving.telemetry import Telemetry, read_caller

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
ITEMS, BATCHES, REPEATS = 8, 200, 25
HEADERS = {
    "Host": "127.0.0.1:8080",
    "Accept": "*/*",
    "User-Agent": "curl/7.88.1",
    "Content-Length": "602240",
    "Content-Type": "video/mp4",
    "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "body": {"content-type": "video/mp4"},
}
REPORT = Report("ok", "a-request", None, batch_items=ITEMS, num_clips=1, seconds=dict.fromkeys(STAGES, 0.02))


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/bench/telemetry.json"))
def main(output: Path) -> None:
    """Microseconds a request, the median of repeats."""
    if FOLDER not in os.environ:  # read when prometheus_client is imported
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=os.environ | {FOLDER: folder}).returncode)
    reports, transports = [REPORT] * ITEMS, ["http"] * ITEMS
    metrics = Metrics("m", registry=CollectorRegistry())
    telemetry = Telemetry("n", version="1.0", engines=())

    def tell() -> None:
        telemetry.tell(reports, callers=[read_caller(HEADERS, server_id="an-id") for _ in reports])

    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as reader:
        assert reader.stdin is not None
        log_as_json("sum3dcam", stream=reader.stdin)
        logging.getLogger().setLevel(logging.INFO)
        measured = {
            "metrics": _microseconds(lambda: metrics.count_batch(reports, transports=transports)),
            "metrics, log line and headers": _microseconds(tell),
        }
    for what, samples in measured.items():
        print(f"{what}: {median(samples):.0f} us a request ({min(samples):.0f} to {max(samples):.0f})")
    facts = {
        **origin(),
        "unit": "microseconds a request",
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({**facts, "samples": measured}, indent=1) + "\n")


def _microseconds(function: Callable[[], None]) -> list[float]:
    function()
    samples = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(BATCHES):
            function()
        samples.append((time.perf_counter() - began) / BATCHES / ITEMS * 1e6)
    return samples


if __name__ == "__main__":
    main()
