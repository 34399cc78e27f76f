"""nginx or HAProxy in front of instances: configured from a template and from what the instances are told."""

import grp
import os
import pwd
import re
import secrets
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sum3dcam.errors import (
    OverloadedError,
    ServerError,
    Sum3DCamError,
    TooLargeError,
    UnauthorizedError,
    UnreachableError,
)
from sum3dcam.serving.codec import error_reply
from sum3dcam.serving.settings import size_limit

TEMPLATES: Mapping[str, str] = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}
READY_PATH = "/ready"
# Debian's folder of daemons is not on everybody's path.
_DAEMONS = "/usr/sbin"
_NOBODY = "nobody"
_DOWN = "down"
_KEY_LINE = re.compile(r"([\w-]+)\s+([\w-]{16,})", re.ASCII)
# Of a request's path the edge logs its first part, if it is one of these: any other may be a user's file name.
_LOGGED_PARTS = ("invocations", "predictions", "models", r"org\.pytorch\.serve\.grpc\.inference\.InferenceAPIsService")
# Before each gRPC message: whether it is compressed, and its length.
_GRPC_PREFIX_BYTES = 5
# As TorchServe takes them where nothing is configured.
_DEFAULTS = {"responseTimeout": 120, "jobQueueSize": 100, "batchSize": 1, "maxWorkers": 1}


@dataclass(frozen=True)
class Limits:
    """What the edge grants.

    `answer_seconds` is how long an instance may take, `under_way` how many requests one instance holds, waiting or in a
    batch; `client_seconds` is the longest silence of a client that sends or receives.
    """

    request_bytes: int
    answer_seconds: int
    under_way: int
    client_seconds: int = 10
    connect_seconds: int = 2


@dataclass(frozen=True)
class Tls:
    """PEM files. With `client_ca` only clients with a certificate of that authority are let in."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class Edge:
    """Where clients ask, and who may. `api_keys` are clients' names by their keys."""

    host: str
    http_port: int
    grpc_port: int
    api_keys: Mapping[str, str]
    tls: Tls | None = None


@dataclass(frozen=True)
class Upstream:
    """An instance as the edge sees it: "host:port" of its transports, and of what says whether it is ready."""

    http: str
    grpc: str
    health: str


def read_limits(model_configs: Iterable[Mapping[str, Any]], *, properties: Mapping[str, str]) -> Limits:
    """What an instance that serves archives with these model-config.yaml and this config.properties can keep.

    A request may find a batch ahead of it that takes all of its time, and then take as long: twice responseTimeout.

    Raises:
        ArtifactError: a size that is no number.
    """
    facts = [_DEFAULTS | dict(config) for config in model_configs]
    return Limits(
        request_bytes=size_limit(properties, "max_request_size"),
        answer_seconds=2 * max(one["responseTimeout"] for one in facts),
        under_way=sum(one["jobQueueSize"] + one["maxWorkers"] * one["batchSize"] for one in facts),
    )


def read_api_keys(path: Path) -> dict[str, str]:
    """Clients' names by their keys, from lines "NAME KEY" and comments (#).

    Raises:
        ServerError: a line of another form, or no key at all.
    """
    lines = [line.strip() for line in path.read_text().splitlines()]
    found = [_KEY_LINE.fullmatch(line) for line in lines if line and not line.startswith("#")]
    if not found or None in found:
        wanted = "lines of a name and a key of 16 or more letters, digits, - and _"
        raise ServerError("not a file of API keys", got=str(path), allowed=wanted)
    return {match[2]: match[1] for match in found if match}


def make_api_keys(path: Path) -> None:
    """Writes a file with one new key, for its owner's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(f"local {secrets.token_urlsafe(32)}\n")


def find_program(kind: str) -> str:
    """The proxy's program.

    Raises:
        ServerError: it is not installed.
    """
    found = shutil.which(kind, path=os.pathsep.join((os.environ.get("PATH", ""), _DAEMONS)))
    if found is None:
        raise ServerError(f"{kind} is not installed; install it (Debian: apt-get install {kind}) or take another proxy")
    return found


def command(kind: str, *, run_dir: Path) -> list[str]:
    """Runs the proxy in the foreground with what `configure` wrote."""
    config = str(run_dir / TEMPLATES[kind])
    arguments = {"nginx": ["-e", "stderr", "-p", str(run_dir), "-c", config], "haproxy": ["-db", "-f", config]}
    return [find_program(kind), *arguments[kind]]


def configure(
    kind: str,
    *,
    edge: Edge,
    upstreams: Mapping[str, Upstream],
    limits: Limits,
    templates: Path,
    run_dir: Path,
    temp_dir: Path,
) -> None:
    """Writes the proxy's files to run_dir, readable by their owner alone, since they hold API keys.

    Args:
        templates: folder of the templates (serve_config), with the static files under `page`.
        temp_dir: a folder that the proxy's user may enter; nginx keeps bodies there, and takes the static files and
            what `mark_down` says from it.

    Raises:
        ServerError: an edge without TLS that others than this host could reach.
    """
    if edge.tls is None and edge.host not in ("127.0.0.1", "localhost", "::1"):
        raise ServerError("API keys would cross the network in clear; give a certificate too", got=edge.host)
    run_dir.mkdir(parents=True, exist_ok=True)
    if edge.tls:
        # As HAProxy wants it.
        _write(run_dir / "edge.pem", edge.tls.certificate.read_text() + edge.tls.key.read_text())
    _write(run_dir / "api_keys.map", "".join(f"{key} {name}\n" for key, name in edge.api_keys.items()))
    environment = Environment(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    user, group = _nobody() if os.geteuid() == 0 else ("", "")
    text = environment.get_template(TEMPLATES[kind]).render(
        edge=edge,
        tls=edge.tls,
        limits=limits,
        upstreams=upstreams,
        transports=("http", "grpc"),
        spareable=[names for count in range(len(upstreams) + 1) for names in combinations(upstreams, count)],
        without=lambda names: "".join(f"_without_{name}" for name in names),
        down_dir=temp_dir / _DOWN,
        refusals=_refusals(limits),
        ready_path=READY_PATH,
        grpc_prefix_bytes=_GRPC_PREFIX_BYTES,
        logged_parts=_LOGGED_PARTS,
        run_dir=run_dir,
        temp_dir=temp_dir,
        user=user,
        group=group,
    )
    _write(run_dir / TEMPLATES[kind], text)


def mark_down(names: Collection[str], *, temp_dir: Path) -> None:
    """These instances, and no others, get no request of nginx's from now on. HAProxy finds out by itself."""
    folder = temp_dir / _DOWN
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    for name in names:
        (folder / name).touch()
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _nobody() -> tuple[str, str]:
    """User and group to which a proxy that root starts sinks."""
    user = pwd.getpwnam(_NOBODY)
    return user.pw_name, grp.getgrgid(user.pw_gid).gr_name


@dataclass(frozen=True)
class _Refusal:
    """An answer of the edge's own, an envelope; the first status is its own, the others become it."""

    statuses: tuple[int, ...]
    body: str


def _refusals(limits: Limits) -> dict[str, _Refusal]:
    """By the error's code."""
    errors: Mapping[tuple[int, ...], Sum3DCamError] = {
        (401,): UnauthorizedError("no API key that is known here; send one as the header x-api-key"),
        (413,): TooLargeError("the request is larger than max_request_size", allowed=limits.request_bytes),
        (503,): OverloadedError("no instance could take the request now; try again later"),
        (502, 504): UnreachableError("the instance that had the request gave no answer"),
    }
    return {
        error.code: _Refusal(statuses, error_reply(error, request_id=None).body.decode())
        for statuses, error in errors.items()
    }
