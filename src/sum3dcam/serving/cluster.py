"""Two instances behind nginx or HAProxy on this host: python -m sum3dcam.serving.cluster start|run|status|stop."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path
from shutil import rmtree

import click
import psutil  # type: ignore[import-untyped]

from sum3dcam.errors import ServerError, Sum3DCamError
from sum3dcam.serving import keeper, proxy, torchserve
from sum3dcam.serving.keeper import Keeper, Plan
from sum3dcam.serving.proxy import Edge, Tls
from sum3dcam.serving.settings import read_properties
from sum3dcam.serving.torchserve import Ports

INSTANCES = ("a", "b")
# From the ports of one instance to those of the next.
PORT_STEP = 100
STATE_FILE = "cluster.json"
LOG_FILE = "cluster.log"
KEYS_FILE = "api_keys"


@dataclass(frozen=True)
class Cluster:
    """A running cluster as its state file tells it; `created` is when its process began, since a pid may come again."""

    pid: int
    created: float
    proxy: str
    url: str
    grpc_address: str


def configured_ports(config: Path) -> dict[str, Ports]:
    """Each instance's ports: the configured ones, then those a step beyond."""
    first = astuple(torchserve.configured_ports(read_properties(config)))
    return {name: Ports(*(port + PORT_STEP * step for port in first)) for step, name in enumerate(INSTANCES)}


@contextmanager
def running(plan: Plan, *, timeout_seconds: float) -> Iterator[Keeper]:
    """A cluster that can answer; nothing of it runs afterwards.

    Raises:
        ArtifactError, ServerError: as `Keeper` says, or a cluster runs from that folder already.
    """
    if load(plan.run_dir) is not None:
        raise ServerError("a cluster runs from this folder already; stop it first", got=str(plan.run_dir))
    with ExitStack() as stack:
        temp_dir = Path(tempfile.mkdtemp(prefix="sum3dcam-edge-"))
        stack.callback(rmtree, temp_dir, ignore_errors=True)
        kept = Keeper(plan, temp_dir=temp_dir)
        state = plan.run_dir / STATE_FILE
        # Last, so that whoever stops a cluster that is ending waits for its end.
        stack.callback(state.unlink, missing_ok=True)
        stack.callback(kept.stop)
        kept.start(timeout_seconds=timeout_seconds)
        state.write_text(json.dumps(asdict(_describe(plan)), indent=1))
        yield kept


def _describe(plan: Plan) -> Cluster:
    here, edge = psutil.Process(), plan.edge
    return Cluster(
        pid=here.pid,
        created=here.create_time(),
        proxy=plan.kind,
        url=f"http{'s' if edge.tls else ''}://{edge.host}:{edge.http_port}",
        grpc_address=f"{edge.host}:{edge.grpc_port}",
    )


def load(run_dir: Path) -> Cluster | None:
    """The cluster that runs from this folder, if one does."""
    try:
        cluster = Cluster(**json.loads((run_dir / STATE_FILE).read_text()))
    except FileNotFoundError:
        return None
    return cluster if _is_running(cluster) else None


def _is_running(cluster: Cluster) -> bool:
    try:
        process = psutil.Process(cluster.pid)
        return bool(process.create_time() == cluster.created and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def stop_cluster(cluster: Cluster) -> None:
    """Ends a cluster that another process keeps.

    Raises:
        ServerError: it does not end.
    """
    psutil.Process(cluster.pid).terminate()
    until = time.monotonic() + 2 * keeper.INSTANCE_STOP_SECONDS
    while _is_running(cluster):
        if time.monotonic() > until:
            raise ServerError("the cluster does not stop", got=f"pid {cluster.pid}")
        time.sleep(0.1)


_path = click.Path(path_type=Path)
_run_dir = click.option("--run-dir", type=_path, default=Path("build/cluster"), help="Configuration, state and logs.")


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Two TorchServe instances behind a load balancer."""


@main.command()
@_run_dir
@click.option("--proxy", "kind", type=click.Choice(list(proxy.TEMPLATES)), default="nginx")
@click.option("--host", default="127.0.0.1", help="Address at which clients ask; another than loopback needs TLS.")
@click.option("--http-port", default=8000)
@click.option("--grpc-port", default=7000)
@click.option("--ports", type=click.Choice(["configured", "free"]), default="configured")
@click.option("--api-keys", type=_path, help="Lines of NAME KEY; by default one is made, in RUN_DIR/api_keys.")
@click.option("--certificate", type=_path, help="PEM; with --key, clients ask over TLS.")
@click.option("--key", type=_path, help="PEM")
@click.option("--client-ca", type=_path, help="PEM; only clients with a certificate of this authority are let in.")
@click.option("--timeout", "timeout_seconds", type=float, default=300.0, help="Seconds to wait for the workers.")
@click.option("--config", type=_path, default=Path("serve_config/config.properties"))
@click.option("--model-store", type=_path, default=Path("model_store"), help="Serve all archives in it.")
@click.argument("archives", nargs=-1, type=click.Path(path_type=Path, exists=True))
def run(
    archives: tuple[Path, ...],
    run_dir: Path,
    kind: str,
    ports: str,
    timeout_seconds: float,
    config: Path,
    model_store: Path,
    api_keys: Path | None,
    certificate: Path | None,
    key: Path | None,
    client_ca: Path | None,
    host: str,
    http_port: int,
    grpc_port: int,
) -> None:
    """Serves ARCHIVES, or all of the model store, until SIGTERM or Ctrl-C; what ends meanwhile is started again."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    run_dir = run_dir.resolve()
    try:
        edge = Edge(
            host=host,
            http_port=http_port,
            grpc_port=grpc_port,
            api_keys=proxy.read_api_keys(api_keys or _own_api_keys(run_dir)),
            tls=_tls(certificate, key, client_ca),
        )
        plan = Plan(
            archives=tuple(path.resolve() for path in archives or sorted(model_store.glob("*.mar"))),
            config=config.resolve(),
            kind=kind,
            edge=edge,
            ports=configured_ports(config),
            run_dir=run_dir,
        )
        if ports == "free":
            plan = _with_free_ports(plan)
        with running(plan, timeout_seconds=timeout_seconds) as kept:
            click.echo(_said(_describe(plan)))
            while True:
                time.sleep(keeper.POLL_SECONDS)
                for name in kept.look_after():
                    click.echo(f"{time.strftime('%FT%T')} {name} had ended and was started again")
    except (Sum3DCamError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _own_api_keys(run_dir: Path) -> Path:
    path = run_dir / KEYS_FILE
    if not path.exists():
        proxy.make_api_keys(path)
    return path


def _tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise ServerError("TLS needs --certificate and --key, both")
    return Tls(certificate.resolve(), key.resolve(), client_ca.resolve() if client_ca else None)


def _with_free_ports(plan: Plan) -> Plan:
    http_port, grpc_port, *others = torchserve.free_numbers(2 + len(INSTANCES) * len(fields(Ports)))
    ports = {name: Ports(*others[place :: len(INSTANCES)]) for place, name in enumerate(INSTANCES)}
    return replace(plan, ports=ports, edge=replace(plan.edge, http_port=http_port, grpc_port=grpc_port))


def _said(cluster: Cluster) -> str:
    return f"{cluster.proxy} serves on {cluster.url} and grpc {cluster.grpc_address} (pid {cluster.pid})"


@main.command(context_settings={"ignore_unknown_options": True})
@_run_dir
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def start(run_dir: Path, arguments: tuple[str, ...]) -> None:
    """Like run, and with its options, but returns once the cluster can answer."""
    if load(run_dir) is not None:
        raise click.ClickException(f"a cluster runs from {run_dir} already; stop it first")
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / STATE_FILE).unlink(missing_ok=True)
    command = [sys.executable, "-P", "-m", "sum3dcam.serving.cluster", "run", "--run-dir", str(run_dir), *arguments]
    with (run_dir / LOG_FILE).open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    while (cluster := load(run_dir)) is None:
        if process.poll() is not None:
            raise click.ClickException((run_dir / LOG_FILE).read_text().strip().removeprefix("Error: "))
        time.sleep(0.1)
    click.echo(_said(cluster))


@main.command()
@_run_dir
def stop(run_dir: Path) -> None:
    """Stops the cluster that was started from RUN_DIR; fine if there is none."""
    cluster = load(run_dir)
    if cluster is None:
        click.echo("no cluster runs")
        return
    try:
        stop_cluster(cluster)
    except ServerError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"stopped pid {cluster.pid}")


@main.command()
@_run_dir
def status(run_dir: Path) -> None:
    """Says which instances can answer; exit code 1 if none can."""
    servers = {name: torchserve.load(run_dir / name) for name in INSTANCES}
    ready = [name for name, server in servers.items() if server and keeper.is_ready(keeper.upstream(server.ports))]
    for name in INSTANCES:
        click.echo(f"{name} {'ready' if name in ready else 'not ready'}")
    sys.exit(0 if ready and load(run_dir) else 1)


if __name__ == "__main__":
    main()
