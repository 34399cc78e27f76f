"""A server that is told to end while it is at work answers what it has been given, and what still comes."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sum3dcam.client.grpc import GrpcClient
from sum3dcam.client.http import HttpClient
from sum3dcam.serving import torchserve

NOTICE_SECONDS = 2.0
# So much to explain that a server that did not wait for it would have ended before: with nothing but HTTP in flight
# TorchServe ends at once, and resets the call.
LONG_CLIPS = 8


@pytest.fixture(autouse=True)
def worker_is_never_restarted() -> None:
    """The session's server has no part here."""


def test_sigterm_loses_nothing_that_is_in_flight(
    archive: Path, start_run: Any, videos: list[bytes], tmp_path: Path
) -> None:
    buffer = BytesIO()
    np.save(buffer, np.random.default_rng(0).integers(0, 256, (LONG_CLIPS, 16, 112, 112, 3), np.uint8))
    with start_run(archive, "--notice-seconds", NOTICE_SECONDS, run_dir=tmp_path) as run, ThreadPoolExecutor(2) as pool:
        server = run.server
        assert run.probe("/ready") == (200, {})
        with HttpClient(server.url, model="mini") as http, GrpcClient(server.grpc_address, model="mini") as grpc:
            began = time.monotonic()
            run.process.send_signal(signal.SIGTERM)
            noticed = [pool.submit(client.predict, videos[5]) for client in (http, grpc)]
            assert all(answer.result().video.labels for answer in noticed)
            assert run.probe("/ready") == (503, {"draining": "yes: it will stop"})
            assert run.probe("/live") == (200, {})
            long = http.predict(buffer.getvalue(), explain="boxes", target="top-10")
            assert time.monotonic() - began > NOTICE_SECONDS
            assert len(long.clips) == LONG_CLIPS
        assert run.process.wait(timeout=60) == 0
        assert not torchserve.is_running(server)
        assert not server.temp_dir.exists()
