"""Another version of a model in the place of the one that is served, under load and without a request lost."""

import time
from collections.abc import Callable
from pathlib import Path

from sum3dcam.errors import ArtifactError, ServerError
from sum3dcam.serving import canary, drain, management, readiness
from sum3dcam.serving.archive import read_servable
from sum3dcam.serving.management import ALL_VERSIONS, Version
from sum3dcam.serving.settings import read_properties
from sum3dcam.serving.torchserve import CONFIG_FILE, Server

CANARY_SECONDS = 60.0


def replace(
    server: Server,
    archive: Path,
    *,
    load_seconds: float,
    drain_seconds: float,
    report: Callable[[str], None],
) -> None:
    """Loads the archive beside what is served, has a canary answered, makes it the default, and ends the old version.

    Whatever goes wrong before it is the default, the old version goes on serving and the new one is removed.

    Args:
        archive: of a model that is served, of another version, in the server's model store.
        load_seconds: how long the new version's workers may take to start.
        drain_seconds: how long the old version may take to answer what it has been given.
        report: is told each step.

    Raises:
        ArtifactError: another archive than that.
        ServerError: the model API is closed, the new version did not start or answer, or the old one did not finish.
    """
    properties = read_properties(server.run_dir / CONFIG_FILE)
    archive = archive.resolve()
    if archive.parent != Path(properties["model_store"]):
        raise ArtifactError(
            "the archive is not in the server's model store; copy it there",
            got=archive,
            allowed=properties["model_store"],
        )
    found = read_servable(archive, properties=properties)
    model, new = found.model, found.version
    if model not in server.models:
        raise ArtifactError("the server has no such model to replace", got=model, allowed=server.models)
    (old,) = (version.version for version in management.versions(server, model=model))
    if new in {version.version for version in management.versions(server, model=model, version=ALL_VERSIONS)}:
        raise ArtifactError(f"this version of {model} is served already; pack another (to_mar.py --version)", got=new)

    said_before = readiness.console_length(server)
    report(f"loading {model} {new} beside {old}")
    management.register(server, archive=archive.name)
    try:
        _wait_ready(server, model=model, version=new, timeout_seconds=load_seconds, said_before=said_before)
        report(f"canary: {canary.ask_version(server, model=model, version=new, timeout_seconds=CANARY_SECONDS)}")
        management.set_default(server, model=model, version=new)
    except BaseException:
        management.unregister(server, model=model, version=new)
        raise
    report(f"{model} {new} answers; {old} finishes")

    def finishing() -> tuple[Version, ...]:
        return management.versions(server, model=model, version=old)

    if not drain.wait_idle(server, finishing, timeout_seconds=drain_seconds):
        raise ServerError(
            f"{model} {old} still has requests after {drain_seconds} s and was left; {new} answers new ones"
        )
    management.unregister(server, model=model, version=old)
    report(f"{model} {old} removed")


def _wait_ready(server: Server, *, model: str, version: str, timeout_seconds: float, said_before: int) -> None:
    until = time.monotonic() + timeout_seconds
    while True:
        (found,) = management.versions(server, model=model, version=version)
        if readiness.are_ready(found.workers, models=(model,)):
            return
        reason = readiness.failed_start(server, said_before=said_before)
        if reason is not None:
            raise ServerError(f"{model} {version} could not start and was removed; see {server.log_dir}", got=reason)
        if time.monotonic() > until:
            raise ServerError(
                f"{model} {version} is not ready after {timeout_seconds} s and was removed; see {server.log_dir}"
            )
        time.sleep(readiness.POLL_SECONDS)
