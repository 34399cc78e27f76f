"""An exported artefact to a TorchServe archive (.mar): both graphs, the handler and the model's configuration."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sum3dcam.artefact import read_card
from sum3dcam.contract import EXPLAIN_GRAPH, LABELS_GRAPH, Card
from sum3dcam.digests import digest_path, seal_archive
from sum3dcam.errors import ArtifactError


def labels_path(explain_path: Path) -> Path:
    """Where the labels graph of an explain graph lies.

    >>> labels_path(Path("a/b.onnx")).as_posix()
    'a/b.labels.onnx'
    """
    return explain_path.with_suffix(f".labels{explain_path.suffix}")


def read_pair(artifact: Path) -> tuple[Card, Card]:
    """The cards of an explain graph and of the labels graph beside it.

    Raises:
        ArtifactError: an artefact without a card, of the wrong kind, or of another model than its neighbour.
    """
    explain, labels = read_card(artifact), read_card(labels_path(artifact))
    for graph, card in ((EXPLAIN_GRAPH, explain), (LABELS_GRAPH, labels)):
        if card.graph != graph:
            raise ArtifactError(f"the {graph} graph is expected here", got=card.graph, allowed=graph)
    if (explain.weights_sha256, explain.precision) != (labels.weights_sha256, labels.precision):
        raise ArtifactError(
            "the labels graph has other weights or another precision than the explain graph; export them again"
        )
    return explain, labels


def build_archive(artifact: Path, *, name: str, version: str, output: Path, handler: Path, config: Path) -> Path:
    """Writes output/name.mar, replacing an older one in one step, and its digest beside it.

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
        digest = seal_archive(Path(scratch) / archive.name)
        # Between these two steps a server refuses the archive.
        (Path(scratch) / archive.name).replace(archive)
        digest.replace(digest_path(archive))
    return archive


def _run_archiver(arguments: Mapping[str, str], *, tmpdir: str) -> None:
    command = [sys.executable, "-m", "model_archiver.model_packaging"]
    command += [word for pair in arguments.items() for word in pair]
    done = subprocess.run(command, env={**os.environ, "TMPDIR": tmpdir}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ArtifactError("torch-model-archiver refused", got=done.stderr.strip().splitlines()[-1:])
