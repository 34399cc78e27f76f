"""Starts and stops TorchServe: python -m sum3dcam.serving.launch start|run|status|replace|stop."""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from sum3dcam.errors import ServerError, Sum3DCamError
from sum3dcam.serving import drain, endpoint, readiness, replacement, torchserve
from sum3dcam.serving.torchserve import Ports, Server

_run_dir = click.option(
    "--run-dir", type=click.Path(path_type=Path), default=Path("build/serve"), help="Configuration, state and logs."
)

_load_option = click.option(
    "--timeout", "timeout_seconds", type=float, default=180.0, help="Seconds to wait for workers."
)
_drain_option = click.option(
    "--drain-seconds", type=float, default=60.0, help="Longest wait for the answers to what is in flight."
)


@click.group(context_settings={"show_default": True})
def main() -> None:
    """TorchServe with this project's archives."""


_PORTS: Mapping[str, Callable[[], Ports | None]] = {"configured": lambda: None, "free": torchserve.free_ports}


def _start_options(command: Callable[..., None]) -> Callable[..., None]:
    path = click.Path(path_type=Path)
    for option in (
        _run_dir,
        _load_option,
        click.option("--ports", type=click.Choice(list(_PORTS)), default="configured"),
        click.option("--config", type=path, default=Path("serve_config/config.properties")),
        click.option("--model-store", type=path, default=Path("model_store"), help="Serve all archives in it."),
        click.argument("archives", nargs=-1, type=click.Path(path_type=Path, exists=True)),
    ):
        command = option(command)
    return command


@contextmanager
def _started(
    archives: tuple[Path, ...], *, model_store: Path, config: Path, ports: str, run_dir: Path
) -> Iterator[Server]:
    """A server that starts; whatever is raised from here on, it is stopped."""
    try:
        server = torchserve.start(
            archives or sorted(model_store.glob("*.mar")), config=config, run_dir=run_dir, ports=_PORTS[ports]()
        )
        try:
            yield server
        except BaseException:
            torchserve.stop(server)
            raise
    except (Sum3DCamError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _announce(server: Server, *, timeout_seconds: float) -> None:
    """Says where the server is, once it can answer."""
    readiness.wait_ready(server, timeout_seconds=timeout_seconds)
    names = ", ".join(server.models)
    click.echo(f"serving {names} on {server.url} and grpc {server.grpc_address} (pid {server.pid})")


@main.command()
@_start_options
def start(archives: tuple[Path, ...], timeout_seconds: float, **options: Any) -> None:
    """Starts a server with ARCHIVES, or with all of the model store, and waits until it can answer."""
    with _started(archives, **options) as server:
        _announce(server, timeout_seconds=timeout_seconds)


@main.command()
@_start_options
@click.option("--canary-seconds", type=float, default=10.0, help="Between two canaries of /ready.")
@click.option("--notice-seconds", type=float, default=5.0, help="Told to end: from not being ready to waiting.")
@_drain_option
def run(
    archives: tuple[Path, ...],
    timeout_seconds: float,
    canary_seconds: float,
    notice_seconds: float,
    drain_seconds: float,
    **options: Any,
) -> None:
    """Like start, but stays, and answers GET /live and /ready at the configuration's health_address. For containers.

    Ends with the server. On SIGTERM or Ctrl-C it stops being ready, waits --notice-seconds for load balancers to see
    that, then up to --drain-seconds for the answers to what is in flight, and stops the server; a second one stops it
    at once.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with _started(archives, **options) as server, endpoint.answering(server, canary_every_seconds=canary_seconds):
        _announce(server, timeout_seconds=timeout_seconds)
        try:
            while torchserve.is_running(server):
                time.sleep(1.0)
        except (SystemExit, KeyboardInterrupt):
            _drain(server, notice_seconds=notice_seconds, drain_seconds=drain_seconds)
            raise
        if not drain.is_draining(server):
            raise ServerError("TorchServe ended by itself; its logs say why", got=str(server.log_dir))


def _drain(server: Server, *, notice_seconds: float, drain_seconds: float) -> None:
    click.echo(f"draining pid {server.pid}")
    answered = drain.stop(server, notice_seconds=notice_seconds, in_flight_seconds=drain_seconds)
    unanswered = "" if answered else f", with requests unanswered after {drain_seconds} s"
    click.echo(f"stopped pid {server.pid}{unanswered}")


@main.command()
@_run_dir
@_drain_option
def stop(run_dir: Path, drain_seconds: float) -> None:
    """Stops the server that was started from RUN_DIR, after what is in flight is answered; fine if there is none."""
    server = torchserve.load(run_dir)
    if server is None:
        click.echo("no server runs")
        return
    _drain(server, notice_seconds=0.0, drain_seconds=drain_seconds)


@main.command()
@click.argument("archive", type=click.Path(path_type=Path, exists=True))
@_run_dir
@_load_option
@_drain_option
def replace(archive: Path, run_dir: Path, timeout_seconds: float, drain_seconds: float) -> None:
    """Serves ARCHIVE, another version of a model, in its place, without losing a request.

    ARCHIVE lies in the server's model store, and the server has enable_model_api=true in its config.properties.
    """
    server = torchserve.load(run_dir)
    if server is None:
        raise click.ClickException(f"no server runs from {run_dir}")
    try:
        replacement.replace(
            server, archive, load_seconds=timeout_seconds, drain_seconds=drain_seconds, report=click.echo
        )
    except Sum3DCamError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@_run_dir
def status(run_dir: Path) -> None:
    """Says whether the server can answer; exit code 1 if not."""
    server = torchserve.load(run_dir)
    ready = server is not None and readiness.is_ready(server)
    for worker in readiness.workers(server) if server else ():
        click.echo(f"{worker.model} {worker.version} worker {worker.pid} {worker.status} since {worker.start_time}")
    click.echo("ready" if ready else "not ready")
    sys.exit(0 if ready else 1)


if __name__ == "__main__":
    main()
