"""What a reader needs to judge and repeat a result: command, artefact, data, machine, versions."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sum3dcam.hardware import processor
from sum3dcam.serving.engines import Engine

PACKAGES = ("sum3dcam", "numpy", "opencv-contrib-python-headless", "av", "onnxruntime", "onnxruntime-gpu", "torch")


def shown_path(path: Path) -> str:
    """The path from the working directory, or its name alone: where a machine keeps its files is nobody's business."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else path.name


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The processor's name, its cores that this process may use, the system."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
    }


def artifact_facts(artifact: Path, *, engine: Engine) -> dict[str, Any]:
    """What tells an artefact from another, and what ran it."""
    return {
        "file": artifact.name,
        "sha256": engine.sha256,
        "model": engine.card.model,
        "taps": list(engine.card.tap_names),
        "gates": list(engine.card.gates),
        "weights_sha256": engine.card.weights_sha256,
        "precision": engine.card.precision,
        "engine": engine.name,
        "provider": engine.provider,
    }


def provenance(
    *,
    command: str,
    artifact: Path,
    engine: Engine,
    data: Path,
    data_provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """The report's head; nothing in it names a machine's folders."""
    return {
        "command": command,
        "artifact": artifact_facts(artifact, engine=engine),
        "data": {"directory": shown_path(data), **data_provenance},
        "machine": machine(),
        "versions": versions(),
    }
