"""The networks that a table is about: artefacts as given, or exported from weights first, each in its row."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from sum3dcam.contract import Card
from sum3dcam.errors import ArtifactError
from sum3dcam.evaluation.tables.specs import AccuracyTable
from sum3dcam.serving.engines import Engine

CACHE = Path("build/tables")


@dataclass(frozen=True)
class NamedFile:
    """FILE, or ROW=FILE for the row of that name; `row` is None where none was named."""

    path: Path
    row: str | None = None


class NamedFileType(click.ParamType[NamedFile]):
    """The value of an option that takes a `NamedFile` that exists."""

    name = "[row=]file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NamedFile:
        if isinstance(value, NamedFile):
            return value
        row, equals, path = str(value).partition("=")
        # A name with "=" in it is a file's own if there is such a file.
        named = NamedFile(Path(path), row) if equals and not Path(value).is_file() else NamedFile(Path(value))
        if not named.path.is_file():
            self.fail(f"got '{value}', wanted FILE or ROW=FILE; no such file: {named.path}", param, ctx)
        return named


@dataclass(frozen=True)
class Network:
    """An artefact, loaded."""

    path: Path
    engine: Engine


def row_of(table: AccuracyTable, card: Card, *, named: str | None) -> str:
    """The name of the row that an artefact is for: the one named, or the one of its streams and gates.

    Raises:
        ArtifactError: there is none.
    """
    names = [row.name for row in table.rows]
    if named is not None:
        if named not in names:
            raise ArtifactError("the table has no such row", got=named, allowed=names)
        return named
    for row in table.rows:
        if (row.streams, set(row.gates)) == (card.streams, set(card.gates)):
            return row.name
    raise ArtifactError(
        "no row of the table has this artefact's gates; name the row it is for: --artifact ROW=FILE",
        got=f"{'+'.join(card.streams)}, gates {', '.join(card.gates) or 'none'}",
        allowed=names,
    )


def export_once(weights: Path, *, labels: Path | None, data_labels: Sequence[str], cache: Path = CACHE) -> Path:
    """Exports weights to ONNX past the parity gate, unless that has been done already; gives the artefact.

    Weights that do not say their labels get those of the data set, if the network has as many classes.

    Raises:
        CheckpointError, ParityError: as `export.prepare.prepare` and `export.artefacts.export_pair`.
    """
    # torch is imported only where weights are given.
    from sum3dcam.export.archive import labels_path
    from sum3dcam.export.artefacts import export_pair
    from sum3dcam.export.prepare import prepare
    from sum3dcam.models.checkpoints.labels import read_labels

    digest = hashlib.sha256(weights.read_bytes())
    digest.update(repr((None if labels is None else read_labels(labels), tuple(data_labels))).encode())
    artifact = cache / f"{weights.stem}-{digest.hexdigest()[:12]}.onnx"
    if not artifact.exists():
        prepared = prepare(weights=[weights], labels=labels)
        card = prepared.card
        if card.labels[0] == "class_0" and len(card.labels) == len(data_labels):
            prepared = replace(prepared, card=replace(card, labels=tuple(data_labels)))
        cache.mkdir(parents=True, exist_ok=True)
        # Half an export must not pass for one: the explain graph gets its name last.
        part = artifact.with_name(f"{artifact.stem}.{os.getpid()}.onnx")
        export_pair(prepared, part)
        labels_path(part).replace(labels_path(artifact))
        part.replace(artifact)
    return artifact
