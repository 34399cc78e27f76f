"""A TorchServe process with everything of its own: configuration, ports, temporary folder, logs; stopped for good."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]

from sum3dcam.errors import ArtifactError, ServerError
from sum3dcam.serving import exporter
from sum3dcam.serving.archive import read_models
from sum3dcam.serving.java import find_java_home
from sum3dcam.serving.settings import CONFIG_VARIABLE, read_properties

STATE_FILE = "server.json"
DRAINING_FILE = "draining"
CONFIG_FILE = "config.properties"
LOG_FOLDER = "logs"
CONSOLE_LOG = "console.log"
METRICS_FOLDER = "metrics"
LOG4J_CONFIG = Path(__file__).with_name("log4j2.xml")
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Ports:
    """Where a server listens; `metrics` are TorchServe's own, `health` and `exporter` ours; `worker` names sockets."""

    inference: int
    management: int
    metrics: int
    health: int
    exporter: int
    grpc_inference: int
    grpc_management: int
    worker: int


_ADDRESSES = {"inference": 8080, "management": 8081, "metrics": 8082, "health": 8083, "exporter": 8084}
_NUMBERS = {"grpc_inference_port": 7070, "grpc_management_port": 7071, "initial_worker_port": 9000}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Server:
    """A started TorchServe. `run_dir` holds its configuration, state and logs; `temp_dir` is its TMPDIR."""

    pid: int
    exporter_pid: int
    ports: Ports
    models: tuple[str, ...]
    run_dir: Path
    temp_dir: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.inference}"

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.management}"

    @property
    def health_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.health}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.ports.grpc_inference}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.exporter}/metrics"

    @property
    def log_dir(self) -> Path:
        return self.run_dir / LOG_FOLDER


def free_ports() -> Ports:
    """Ports that nobody listens on now."""
    return Ports(*free_numbers(len(fields(Ports))))


def free_numbers(count: int) -> list[int]:
    """As many different numbers of ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def configured_ports(properties: Mapping[str, str]) -> Ports:
    """The ports in a config.properties; TorchServe's own where it names none."""
    addresses = [
        urlsplit(properties.get(f"{name}_address", "")).port or default for name, default in _ADDRESSES.items()
    ]
    return Ports(*addresses, *(int(properties.get(key, default)) for key, default in _NUMBERS.items()))


def start(archives: Iterable[Path], *, config: Path, run_dir: Path, ports: Ports | None = None) -> Server:
    """Starts TorchServe with these archives of one folder; `readiness.wait_ready` waits for its workers.

    Args:
        config: a config.properties; the model store is filled in.
        ports: instead of the configured ones.

    Raises:
        ArtifactError: no archive, one that is not what was packed, or a wrong configuration in one or in config.
        ServerError: a server runs from run_dir already, a port is taken, there is no Java, or TorchServe did not start.
    """
    running = load(run_dir)
    if running is not None:
        raise ServerError("a server runs from this folder already; stop it first", got=f"pid {running.pid}")
    paths = [path.resolve() for path in archives]
    properties = read_properties(config)
    models = read_models(paths, properties=properties)
    _check_model_api(properties)
    run_dir = run_dir.resolve()
    ports = ports or configured_ports(properties)
    _check_free(ports)
    shutil.rmtree(run_dir / LOG_FOLDER, ignore_errors=True)
    (run_dir / DRAINING_FILE).unlink(missing_ok=True)
    (run_dir / LOG_FOLDER).mkdir(parents=True)
    properties |= {
        "model_store": str(paths[0].parent),
        "load_models": ",".join(path.name for path in paths),
        "allowed_urls": f"file://{paths[0].parent}/.*",
        **port_properties(ports, properties=properties),
    }
    (run_dir / CONFIG_FILE).write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    # The pid file and the workers' sockets lie in TMPDIR, and a socket's path has room for 107 characters only.
    temp_dir = Path(tempfile.mkdtemp(prefix="sum3dcam-"))
    pid = _launch(run_dir, temp_dir=temp_dir)
    exporter_pid = exporter.start(
        properties["exporter_address"], workers=temp_dir / METRICS_FOLDER, log_dir=run_dir / LOG_FOLDER, server_pid=pid
    )
    server = Server(pid=pid, exporter_pid=exporter_pid, ports=ports, models=models, run_dir=run_dir, temp_dir=temp_dir)
    (run_dir / STATE_FILE).write_text(json.dumps(asdict(server), default=str, indent=1))
    return server


def load(run_dir: Path) -> Server | None:
    """The server that runs from this folder, if one does."""
    server = last_started(run_dir)
    return server if server is not None and is_running(server) else None


def last_started(run_dir: Path) -> Server | None:
    """The server that was started from this folder and not stopped; it may have ended by itself."""
    try:
        state = json.loads((run_dir / STATE_FILE).read_text())
    except FileNotFoundError:
        return None
    return Server(
        pid=state["pid"],
        exporter_pid=state["exporter_pid"],
        ports=Ports(**state["ports"]),
        models=tuple(state["models"]),
        run_dir=Path(state["run_dir"]),
        temp_dir=Path(state["temp_dir"]),
    )


def is_running(server: Server) -> bool:
    """Whether the process is there, alive, and this server's: a pid may belong to another process by now."""
    return bool(_alive(server.pid, temp_dir=server.temp_dir))


def _alive(pid: int, *, temp_dir: Path) -> list[psutil.Process]:
    """The process of that number, if it is of the server with that folder."""
    try:
        process = psutil.Process(pid)
        # A dead process stays a zombie where nobody waits for it, as in many containers.
        ours = process.status() != psutil.STATUS_ZOMBIE and any(str(temp_dir) in word for word in process.cmdline())
        return [process] if ours else []
    except psutil.Error:
        return []


def stop(server: Server) -> None:
    """Ends the server and its workers, by force where asking does not help, and removes its temporary folder."""
    # The exporter ends by itself, once its server has, be that before this.
    family = _alive(server.exporter_pid, temp_dir=server.temp_dir)
    for frontend in _alive(server.pid, temp_dir=server.temp_dir):
        family += [frontend, *frontend.children(recursive=True)]
        frontend.terminate()
    alive = _wait_gone(family)
    for process in alive:
        process.kill()
    _wait_gone(alive)
    shutil.rmtree(server.temp_dir, ignore_errors=True)
    (server.run_dir / STATE_FILE).unlink(missing_ok=True)


def _wait_gone(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those still alive after STOP_SECONDS."""
    _, alive = psutil.wait_procs(processes, timeout=STOP_SECONDS)
    return [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def _check_model_api(properties: Mapping[str, str]) -> None:
    """Raises ArtifactError where others than this host could have archives loaded and models removed."""
    hosts = {
        "management_address": urlsplit(properties.get("management_address", "")).hostname or "127.0.0.1",
        "grpc_management_address": properties.get("grpc_management_address", "127.0.0.1"),
    }
    for key, host in hosts.items():
        if properties.get("enable_model_api") == "true" and host not in _LOOPBACK:
            raise ArtifactError(f"enable_model_api=true wants {key} on loopback", got=host, allowed=_LOOPBACK)


def _check_free(ports: Ports) -> None:
    """Raises ServerError for a taken port: TorchServe would end, or go on without its gRPC half."""
    for name in (*_ADDRESSES, "grpc_inference", "grpc_management"):
        port = getattr(ports, name)
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just left is free
            try:
                one.bind(("127.0.0.1", port))
            except OSError as error:
                raise ServerError(
                    f"the {name} port is taken; stop what listens there, or take others (--ports free)", got=port
                ) from error


def port_properties(ports: Ports, *, properties: Mapping[str, str]) -> dict[str, str]:
    """The ports as configuration; the hosts stay as configured."""
    hosts = {name: urlsplit(properties.get(f"{name}_address", "")).hostname or "127.0.0.1" for name in _ADDRESSES}
    return {f"{name}_address": f"http://{host}:{getattr(ports, name)}" for name, host in hosts.items()} | {
        "grpc_inference_port": str(ports.grpc_inference),
        "grpc_management_port": str(ports.grpc_management),
        "initial_worker_port": str(ports.worker),
    }


def _launch(run_dir: Path, *, temp_dir: Path) -> int:
    """Runs `torchserve --start`, which leaves Java running, and gives Java's pid."""
    environment = {
        # TorchServe reads some of its settings there as well, whatever the configuration says of that.
        **{name: value for name, value in os.environ.items() if not name.startswith("TS_")},
        CONFIG_VARIABLE: str(run_dir / CONFIG_FILE),
        "JAVA_HOME": str(find_java_home()),
        "LOG_LOCATION": str(run_dir / LOG_FOLDER),
        "METRICS_LOCATION": str(run_dir / LOG_FOLDER),
        "PROMETHEUS_MULTIPROC_DIR": str(temp_dir / METRICS_FOLDER),
        **{name: str(temp_dir) for name in ("TMPDIR", "TEMP", "TMP")},
    }
    # -P: a folder called ts in the working directory is not TorchServe.
    command = [sys.executable, "-P", "-c", "from ts.model_server import start; start()", "--start", "--ncs"]
    command += ["--log-config", str(LOG4J_CONFIG)]
    (temp_dir / METRICS_FOLDER).mkdir()
    with (run_dir / LOG_FOLDER / CONSOLE_LOG).open("w") as console:
        subprocess.run(
            command,
            env=environment,
            cwd=run_dir,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
        )
    try:
        return int((temp_dir / ".model_server.pid").read_text())
    except FileNotFoundError as error:
        shutil.rmtree(temp_dir, ignore_errors=True)
        said = (run_dir / LOG_FOLDER / CONSOLE_LOG).read_text().strip().splitlines()[-1:]
        raise ServerError("TorchServe did not start; its console.log says why", got=said) from error
