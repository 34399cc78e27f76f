"""The server under test: started here, with a model beside it that does nothing, or one that runs already."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from sum3dcam.digests import digest_path, seal_archive
from sum3dcam.serving import readiness, torchserve
from sum3dcam.serving.archive import read_archive
from sum3dcam.serving.torchserve import Server

ROOT = Path(__file__).resolve().parents[2]
NOOP = "noop"
HANDLER = ROOT / "benchmarks" / "noop" / "noop_handler.py"
CONFIG = ROOT / "serve_config" / "config.properties"
READY_SECONDS = 180.0


@dataclass(frozen=True)
class Target:
    """Where requests go: addresses by transport, and, of a server started here, its process and its noop model."""

    addresses: Mapping[str, str]
    server: Server | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time so far of the Java front end and of the Python workers; nothing for a server of others."""
        if self.server is None:
            return {}
        front_end = psutil.Process(self.server.pid)
        workers = [_cpu_seconds(process) for process in front_end.children(recursive=True)]
        return {"front end": _cpu_seconds(front_end), "workers": sum(workers)}


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def started(archive: Path, *, replies: Mapping[str, bytes]) -> Iterator[Target]:
    """TorchServe with the archive and, under NOOP, a model that gives these replies; stopped and removed afterwards.

    Args:
        replies: by the value of `explain`.
    """
    with tempfile.TemporaryDirectory(prefix="sum3dcam-load-") as folder:
        store = Path(folder) / "store"
        store.mkdir()
        shutil.copy(digest_path(archive), store)
        served = Path(shutil.copy(archive, store))
        config = read_archive(archive).config
        noop = pack_noop(store, replies=replies, config=config)
        server = torchserve.start(
            [served, noop], config=CONFIG, run_dir=Path(folder) / "run", ports=torchserve.free_ports()
        )
        try:
            readiness.wait_ready(server, timeout_seconds=READY_SECONDS)
            yield Target({"http": server.url, "grpc": server.grpc_address}, server=server, config=config)
        finally:
            torchserve.stop(server)


def pack_noop(store: Path, *, replies: Mapping[str, bytes], config: Mapping[str, Any]) -> Path:
    """An archive of the noop handler, with the model's own workers, batch size and delay."""
    with tempfile.TemporaryDirectory(dir=store.parent) as scratch:
        files = [Path(scratch) / f"{name}.reply" for name in replies]
        for path, body in zip(files, replies.values(), strict=True):
            path.write_bytes(body)
        model_config = Path(scratch) / "model-config.yaml"
        model_config.write_text(yaml.safe_dump({key: value for key, value in config.items() if key != "sum3dcam"}))
        command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", NOOP, "--version", "1.0"]
        command += ["--handler", str(HANDLER), "--config-file", str(model_config), "--export-path", str(store)]
        command += ["--extra-files", ",".join(str(path) for path in files)]
        subprocess.run(command, env={**os.environ, "TMPDIR": scratch}, check=True, capture_output=True)
    packed = store / f"{NOOP}.mar"
    seal_archive(packed)
    return packed
