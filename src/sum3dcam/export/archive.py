"""An exported artefact to a TorchServe archive (.mar): both graphs, the handler and the model's configuration."""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx

from sum3dcam.contract import CARD_KEY, EXPLAIN_GRAPH, LABELS_GRAPH, Card
from sum3dcam.errors import ArtifactError


def labels_path(explain_path: Path) -> Path:
    """Where the labels graph of an explain graph lies.

    >>> labels_path(Path("a/b.onnx")).as_posix()
    'a/b.labels.onnx'
    """
    return explain_path.with_suffix(f".labels{explain_path.suffix}")


def _onnx_card(path: Path) -> str | None:
    model = onnx.load(path, load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}.get(CARD_KEY)


def _zip_card(path: Path) -> str | None:
    # TorchScript and .pt2 files are zips with their extra files under ARCHIVE/extra/; no need for torch.
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            if name.endswith(f"/extra/{CARD_KEY}"):
                return file.read(name).decode()
    return None


_CARD_READERS: Mapping[str, Callable[[Path], str | None]] = {
    ".onnx": _onnx_card,
    ".pt": _zip_card,
    ".pt2": _zip_card,
}
ARTIFACT_SUFFIXES = tuple(_CARD_READERS)


def read_card(path: Path) -> Card:
    """The card inside an artefact file.

    Raises:
        ArtifactError: no such file, another kind of file, or no card of this contract version in it.
    """
    if path.suffix not in _CARD_READERS:
        raise ArtifactError("an artefact is a file of another kind", got=path.name, allowed=sorted(_CARD_READERS))
    if not path.is_file():
        raise ArtifactError("no such artefact; export it first, the labels graph is written beside it", got=path.name)
    try:
        text = _CARD_READERS[path.suffix](path)
    except Exception as error:
        raise ArtifactError("the artefact cannot be read; export it again", got=path.name) from error
    return Card.from_json(text)


def read_pair(artifact: Path) -> tuple[Card, Card]:
    """The cards of an explain graph and of the labels graph beside it.

    Raises:
        ArtifactError: an artefact without a card, of the wrong kind, or of another model than its neighbour.
    """
    explain, labels = read_card(artifact), read_card(labels_path(artifact))
    for graph, card in ((EXPLAIN_GRAPH, explain), (LABELS_GRAPH, labels)):
        if card.graph != graph:
            raise ArtifactError(f"the {graph} graph is expected here", got=card.graph, allowed=graph)
    if explain.weights_sha256 != labels.weights_sha256:
        raise ArtifactError("the labels graph has other weights than the explain graph; export them again")
    return explain, labels


def build_archive(artifact: Path, *, name: str, version: str, output: Path, handler: Path, config: Path) -> Path:
    """Writes output/name.mar, replacing an older one in one step.

    Args:
        artifact: the explain graph; its labels graph lies beside it.
        name: the name under which the model is served.
        config: the model-config.yaml to pack.

    Raises:
        ArtifactError: as `read_pair`, or a name that TorchServe refuses.
    """
    read_pair(artifact)
    output.mkdir(parents=True, exist_ok=True)
    # The archiver deletes TMPDIR/name before it starts: give it a TMPDIR of its own, on the target's file system.
    with tempfile.TemporaryDirectory(dir=output, prefix=".archive-") as scratch:
        _run_archiver(
            {
                "--model-name": name,
                "--version": version,
                "--handler": str(handler),
                "--serialized-file": str(artifact),
                "--extra-files": str(labels_path(artifact)),
                "--config-file": str(config),
                "--export-path": scratch,
            },
            tmpdir=scratch,
        )
        archive = output / f"{name}.mar"
        (Path(scratch) / archive.name).replace(archive)
    return archive


def _run_archiver(arguments: Mapping[str, str], *, tmpdir: str) -> None:
    command = [sys.executable, "-m", "model_archiver.model_packaging"]
    command += [word for pair in arguments.items() for word in pair]
    done = subprocess.run(command, env={**os.environ, "TMPDIR": tmpdir}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ArtifactError("torch-model-archiver refused", got=done.stderr.strip().splitlines()[-1:])
