"""Owns the processes of a cluster, two TorchServe instances and the proxy before them, and starts again what ends."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

from sum3dcam.errors import ServerError
from sum3dcam.serving import proxy, torchserve
from sum3dcam.serving.archive import read_archive
from sum3dcam.serving.loopback import open_url
from sum3dcam.serving.proxy import Edge, Upstream
from sum3dcam.serving.settings import read_properties
from sum3dcam.serving.torchserve import Ports

PROXY = "proxy"
POLL_SECONDS = 0.5
# What ends at once is not started again faster than this.
RESTART_SECONDS = 2.0
_SOFT_STOP = {"nginx": signal.SIGQUIT, "haproxy": signal.SIGUSR1}
_SOFT_STOP_SECONDS = 5.0
# From saying that it is not ready until it waits for its last answers: the proxy asks every half second.
NOTICE_SECONDS = 2.0
# An instance gives its last answers first.
INSTANCE_STOP_SECONDS = 90.0


@dataclass(frozen=True)
class Plan:
    """What a cluster is made of: ports by the instances' names. The proxies' templates lie beside `config`."""

    archives: tuple[Path, ...]
    config: Path
    kind: str
    edge: Edge
    ports: Mapping[str, Ports]
    run_dir: Path


class Keeper:
    """A plan's processes, from `start` to `stop`; `look_after` is to be called again and again between.

    Args:
        temp_dir: an empty folder for what the proxy's user may read and write.

    Raises:
        ArtifactError: no archive, or a wrong configuration in one.
    """

    def __init__(self, plan: Plan, *, temp_dir: Path) -> None:
        self._plan = plan
        self._temp_dir = temp_dir
        self._limits = proxy.read_limits(
            [read_archive(path).config for path in plan.archives], properties=read_properties(plan.config)
        )
        self._upstreams = {name: upstream(ports) for name, ports in plan.ports.items()}
        self._children: dict[str, _Child] = {}

    def start(self, *, timeout_seconds: float) -> None:
        """Starts all, and waits until every instance can answer.

        Raises:
            ServerError: the proxy is not installed or may not listen so, a process ended, or the time is up.
        """
        until = time.monotonic() + timeout_seconds
        self._temp_dir.chmod(0o755)
        copytree(self._plan.config.parent / "page", self._temp_dir / "page", ignore=ignore_patterns(".*", "README*"))
        proxy.configure(
            self._plan.kind,
            edge=self._plan.edge,
            upstreams=self._upstreams,
            limits=self._limits,
            templates=self._plan.config.parent,
            run_dir=self._plan.run_dir,
            temp_dir=self._temp_dir,
        )
        commands = {name: self._instance_command(name) for name in self._plan.ports}
        commands[PROXY] = proxy.command(self._plan.kind, run_dir=self._plan.run_dir)
        for name, command in commands.items():
            self._children[name] = _Child(command, log=self._plan.run_dir / f"{name}.log")
        while self._ready() < set(self._upstreams):
            for name, child in self._children.items():
                if child.has_ended:
                    raise ServerError(f"'{name}' did not start; see {child.log}", got=child.last_words)
            if time.monotonic() > until:
                raise ServerError(f"the cluster is not ready after {timeout_seconds} s; see {self._plan.run_dir}")
            time.sleep(POLL_SECONDS)

    def look_after(self) -> list[str]:
        """Starts again what has ended, and gives its names; tells nginx, which asks nobody, who is not ready."""
        ended = [
            name for name, child in self._children.items() if child.has_ended and child.age_seconds > RESTART_SECONDS
        ]
        for name in ended:
            self._stop_server(name)
            self._children[name].start_again()
        if self._plan.kind == "nginx":
            proxy.mark_down(self._upstreams.keys() - self._ready(), temp_dir=self._temp_dir)
        return ended

    def stop(self) -> None:
        """Ends the proxy, then the instances, each after what it is doing; SIGINT and SIGTERM do not hasten it."""
        with _deaf():
            if PROXY in self._children:
                self._children.pop(PROXY).stop(_SOFT_STOP[self._plan.kind], seconds=_SOFT_STOP_SECONDS)
            for child in self._children.values():
                child.send(signal.SIGTERM)
            for name, child in self._children.items():
                child.stop(signal.SIGTERM, seconds=INSTANCE_STOP_SECONDS)
                self._stop_server(name)

    def _ready(self) -> frozenset[str]:
        return frozenset(name for name, one in self._upstreams.items() if is_ready(one))

    def _instance_command(self, name: str) -> list[str]:
        """Writes the instance's own configuration; what runs it."""
        folder = self._plan.run_dir / name
        folder.mkdir(parents=True, exist_ok=True)
        properties = read_properties(self._plan.config)
        properties |= torchserve.port_properties(self._plan.ports[name], properties=properties)
        config = folder / "instance.properties"
        config.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        archives = [str(path) for path in self._plan.archives]
        run = [sys.executable, "-P", "-m", "sum3dcam.serving.launch", "run"]
        options = {"--config": config, "--run-dir": folder, "--notice-seconds": NOTICE_SECONDS}
        return [*run, *archives, *(str(word) for option in options.items() for word in option)]

    def _stop_server(self, name: str) -> None:
        """Stops the TorchServe of a launcher that was killed, and removes what it has left."""
        server = torchserve.last_started(self._plan.run_dir / name)
        if server is not None:
            torchserve.stop(server)


@contextmanager
def _deaf() -> Iterator[None]:
    """Nobody who is impatient leaves behind processes, which are in sessions of their own."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Child:
    """One process after another of the same command, each the first of its group; their output goes to one log."""

    def __init__(self, command: list[str], *, log: Path) -> None:
        self.log, self._command = log, command
        log.unlink(missing_ok=True)
        self._start()

    def _start(self) -> None:
        self._started = time.monotonic()
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def start_again(self) -> None:
        """After it has ended. nginx's workers outlive a master that was killed, and keep its ports."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._start()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def last_words(self) -> str:
        return "".join(self.log.read_text(errors="replace").strip().splitlines()[-1:])

    def send(self, number: int) -> None:
        if not self.has_ended:
            self._process.send_signal(number)

    def stop(self, number: int, *, seconds: float) -> None:
        """Ends it, by force after so many seconds."""
        self.send(number)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def upstream(ports: Ports) -> Upstream:
    """An instance's addresses as the edge asks them."""
    return Upstream(
        http=f"127.0.0.1:{ports.inference}",
        grpc=f"127.0.0.1:{ports.grpc_inference}",
        health=f"127.0.0.1:{ports.health}",
    )


def is_ready(instance: Upstream) -> bool:
    """What the instance itself says."""
    try:
        with open_url(f"http://{instance.health}{proxy.READY_PATH}", timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
