"""An archive of export/to_mar.py as a server reads it: what it serves, and how."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from sum3dcam.digests import check_archive
from sum3dcam.errors import ArtifactError
from sum3dcam.serving.settings import read_settings


@dataclass(frozen=True)
class Archive:
    """`model` and `version` are those under which it is served, `config` its model-config.yaml, not yet checked."""

    path: Path
    model: str
    version: str
    config: dict[str, Any]


def read_models(archives: Sequence[Path], *, properties: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the archives' models.

    Raises:
        ArtifactError: what TorchServe would only notice, or not, after it has started.
    """
    if len({path.parent for path in archives}) != 1:
        raise ArtifactError("a server needs archives, all in one folder; make them with export/to_mar.py", got=archives)
    return tuple(read_servable(path, properties=properties).model for path in archives)


def read_servable(path: Path, *, properties: Mapping[str, str]) -> Archive:
    """As `read_archive`, its configuration checked together with the server's.

    Raises:
        ArtifactError: also for a wrong configuration in it.
    """
    archive = read_archive(path)
    read_settings(archive.config, properties=properties)
    return archive


def read_archive(path: Path) -> Archive:
    """Reads an archive, after its digests have been checked.

    Raises:
        ArtifactError: another file than was packed, or no archive of export/to_mar.py.
    """
    check_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))["model"]
            config = yaml.safe_load(archive.read(manifest["configFile"])) or {}
            model, version = str(manifest["modelName"]), str(manifest["modelVersion"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, yaml.YAMLError) as error:
        raise ArtifactError("not an archive of export/to_mar.py; pack it again", got=path.name) from error
    return Archive(path=path, model=model, version=version, config=config)
