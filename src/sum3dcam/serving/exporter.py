"""Where Prometheus scrapes: one page of what all workers have counted, and of what the front end logs.

It is a process of its own, so that the numbers outlive workers, and ends with its server.
"""

import os
import select
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import click
from prometheus_client import CollectorRegistry, disable_created_metrics, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from sum3dcam.serving.front_end import FrontEnd

LOG = "exporter.log"
FRONT_END_LOG = "front_end.log"

_path = click.Path(path_type=Path)


def start(address: str, *, workers: Path, log_dir: Path, server_pid: int) -> int:
    """Starts the process and gives its pid.

    Args:
        address: http://HOST:PORT to listen on.
        workers: the workers' PROMETHEUS_MULTIPROC_DIR, which exists.
        server_pid: whose end is its end.
    """
    url = urlsplit(address)
    command = [sys.executable, "-P", "-m", "sum3dcam.serving.exporter", "--host", str(url.hostname)]
    command += ["--port", str(url.port), "--workers", str(workers), "--front-end", str(log_dir / FRONT_END_LOG)]
    command += ["--server-pid", str(server_pid)]
    log = os.open(log_dir / LOG, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        # Not subprocess: nobody here waits for its end.
        return os.posix_spawn(
            sys.executable,
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
            setsid=True,
        )
    finally:
        os.close(log)


def build_registry(workers: Path, *, front_end: FrontEnd) -> CollectorRegistry:
    """What is scraped: the workers' files, added up, and what the front end logs."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(workers))  # type: ignore[no-untyped-call]
    registry.register(front_end)
    return registry


@click.command()
@click.option("--host", required=True)
@click.option("--port", type=int, required=True)
@click.option("--workers", type=_path, required=True, help="The workers' PROMETHEUS_MULTIPROC_DIR.")
@click.option("--front-end", type=_path, required=True, help="The log of the front end's durations.")
@click.option("--server-pid", type=int, required=True, help="Ends with this process.")
def main(host: str, port: int, workers: Path, front_end: Path, server_pid: int) -> None:
    """Serves the metrics until the server ends."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    with closing(FrontEnd(front_end)) as collector:
        start_http_server(port, addr=host, registry=build_registry(workers, front_end=collector))
        _wait_ended(server_pid)


def _wait_ended(pid: int) -> None:
    """Returns once that process has ended, whether its parent has noticed or not."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([process], [], [])


if __name__ == "__main__":
    main()
