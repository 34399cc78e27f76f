"""Another version of a model takes over from the one that is served while clients ask without a pause."""

import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from click.testing import CliRunner, Result

from sum3dcam.client.grpc import GrpcClient
from sum3dcam.client.http import HttpClient
from sum3dcam.digests import SUMS, seal_archive
from sum3dcam.errors import ServerError
from sum3dcam.serving import management, readiness
from sum3dcam.serving.launch import main
from sum3dcam.serving.torchserve import Server


@pytest.fixture(autouse=True)
def worker_is_never_restarted() -> None:
    """The session's server has no part here."""


def replace(archive: Path, *, server: Server) -> Result:
    return CliRunner().invoke(main, ["replace", str(archive), "--run-dir", str(server.run_dir)])


def served(server: Server) -> list[str]:
    return [version.version for version in management.versions(server, model="mini", version="all")]


def test_replacement_under_mixed_load_loses_no_request(
    spare: Any, pack_spare: Callable[[str], Path], videos: list[bytes]
) -> None:
    server, ended = spare.server, threading.Event()
    (old,) = readiness.workers(server)

    def ask(kind: type[HttpClient | GrpcClient], address: str, explain: str) -> list[str]:
        """The versions that answered, in order; the first failure is raised."""
        versions = []
        with kind(address, model="mini", timeout_seconds=60) as client:
            while not ended.is_set():
                versions.append(client.predict(videos[5], explain=explain).model["version"])
        return versions

    def probe() -> set[int]:
        statuses = set()
        while not ended.wait(0.2):
            statuses.add(httpx.get(f"{server.health_url}/ready", timeout=30).status_code)
        return statuses

    with ThreadPoolExecutor(5) as pool:
        kinds = ((HttpClient, server.url), (GrpcClient, server.grpc_address))
        clients = [pool.submit(ask, *kind, explain) for kind in kinds for explain in ("none", "boxes")]
        ready = pool.submit(probe)
        try:
            done = replace(pack_spare("2.0"), server=server)
        finally:
            ended.set()
    assert done.exit_code == 0, done.output
    for client in clients:
        versions = client.result()
        assert versions == sorted(versions), "an answer of the old version after one of the new"
        assert set(versions) == {"1.0", "2.0"}
    assert ready.result() == {200}
    assert served(server) == ["2.0"]
    assert not psutil.pid_exists(old.pid)


def test_version_that_cannot_start_leaves_the_old_one(spare: Any, archive: Path) -> None:
    server = spare.server
    (before,) = served(server)
    broken = server.run_dir.parent / "store" / "broken.mar"
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(broken, "w") as partial:
        for name in whole.namelist():
            if name.endswith("MANIFEST.json"):
                partial.writestr(name, whole.read(name).replace(b'"modelVersion": "1.0"', b'"modelVersion": "3.0"'))
            elif not name.endswith(".labels.onnx") and name != SUMS:
                partial.writestr(name, whole.read(name))
    seal_archive(broken)
    done = replace(broken, server=server)
    assert done.exit_code == 1
    assert "mini 3.0 could not start" in done.output
    assert "one explain graph and its labels graph" in done.output
    assert served(server) == [before]
    assert spare.probe("/ready") == (200, {})


def test_what_cannot_be_replaced_is_refused_with_the_reason(spare: Any, archive: Path, server: Server) -> None:
    store = spare.server.run_dir.parent / "store"
    assert "not in the server's model store" in replace(archive, server=spare.server).output
    assert "served already" in replace(store / "mini.mar", server=spare.server).output
    for change in (  # of a server with the configuration as it is shipped
        lambda: management.register(server, archive=archive.name),
        lambda: management.unregister(server, model="mini", version="1.0"),
    ):
        with pytest.raises(ServerError, match="model API is closed"):
            change()
