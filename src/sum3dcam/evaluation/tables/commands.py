"""`sum3dcam evaluate --table N`: one of the paper's tables, from annotations to the printed row."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import click
from rich.console import Console

from sum3dcam.client.connection import Connection, connect
from sum3dcam.evaluation.datasets import read_dataset
from sum3dcam.evaluation.datasets.labelled import LabelledVideos
from sum3dcam.evaluation.provenance import artifact_facts, machine, shown_path, versions
from sum3dcam.evaluation.report import dumps
from sum3dcam.evaluation.tables.journal import journal_path
from sum3dcam.evaluation.tables.localisation import AUTHORS, Protocol, count_trivial, trivial_rows
from sum3dcam.evaluation.tables.networks import CACHE, NamedFile, NamedFileType, Network, export_once, row_of
from sum3dcam.evaluation.tables.picture import write_picture
from sum3dcam.evaluation.tables.report import render, to_csv, to_json
from sum3dcam.evaluation.tables.result import Result, accuracy_result, localisation_result
from sum3dcam.evaluation.tables.run import CountOne, Pooled, accuracy_counter, map_counter, run_head, run_videos
from sum3dcam.evaluation.tables.served import ServedEngine
from sum3dcam.evaluation.tables.specs import TABLES, AccuracyTable, LocalisationTable
from sum3dcam.serving.engines import load_engine

Load: TypeAlias = Callable[[Path], Network]

# Six thetas and their mean with intervals.
RESULT_WIDTH = 172

# In place of NETWORK_OPTIONS: with --table each file may be for a row, and there may be none.
NAMED_NETWORK_OPTIONS = (
    click.option(
        "--artifact", "artifacts", multiple=True, type=NamedFileType(), help="Exported graph; of a row: ROW=FILE."
    ),
    click.option(
        "--weights",
        multiple=True,
        type=NamedFileType(),
        help="The artefact's own weights, for Grad-CAM++, c-MWP and integrated gradients as further rows. With "
        "--table, in place of an artefact: exported to build/tables first.",
    ),
)
TABLE_OPTIONS = (
    click.option("--table", "number", type=click.Choice([str(number) for number in TABLES]), help="Of the paper."),
    click.option("--labels", type=click.Path(exists=True, path_type=Path), help="Of --weights, as for an export."),
    click.option("--author-settings", is_flag=True, help="The top class explained, grids interpolated by corners."),
    click.option("--baselines-only", is_flag=True, help="Trivial boxes from annotations alone: no artefact, no video."),
    click.option("--journal", type=click.Path(dir_okay=False, path_type=Path), help="Where counts are kept to resume."),
    click.option("--csv", "csv_path", type=click.Path(dir_okay=False, path_type=Path), help="Write a row per figure."),
)


@dataclass(frozen=True)
class Asked:
    """The command's options. None is the data set's, the protocol's or the run's own."""

    number: int
    directory: Path
    dataset: str | None
    split: str | None
    connection: Connection
    artifacts: tuple[NamedFile, ...]
    weights: tuple[NamedFile, ...]
    target: str | None
    limit: int | None
    device: str
    num_threads: int
    labels: Path | None
    author_settings: bool
    baselines_only: bool
    journal: Path | None


def run_table(asked: Asked) -> tuple[Result, dict[str, Any]]:
    """The result, and how it came about.

    Raises:
        ValueError: options, data or artefacts that do not go together.
        Sum3DCamError: an artefact or weights that cannot be used.
        OSError: a data set without its annotations.
    """
    table = TABLES[asked.number]
    dataset = asked.dataset or table.datasets[0]
    if dataset not in table.datasets:
        raise ValueError(f"table {asked.number} is of {' or '.join(table.datasets)}, got {dataset}")
    if asked.baselines_only == bool(asked.artifacts or asked.weights):
        raise ValueError("give the network as --artifact FILE or --weights FILE, or else --baselines-only")
    if asked.baselines_only and isinstance(table, AccuracyTable):
        raise ValueError("an accuracy has no baseline without a network: give --artifact FILE")
    data = read_dataset(dataset, asked.directory, split=asked.split, limit=asked.limit)
    exported = [
        NamedFile(export_once(named.path, labels=asked.labels, data_labels=data.labels), named.row)
        for named in asked.weights
    ]
    files = (*asked.artifacts, *exported)
    with ExitStack() as clients:
        load = partial(_load, asked=asked, clients=clients)
        if isinstance(table, AccuracyTable):
            result, networks = _accuracy(table, files, data=data, asked=asked, load=load)
        else:
            result, networks = _localisation(table, files, data=data, asked=asked, load=load)
    facts = {
        "command": _command(asked),
        "artifacts": {name: artifact_facts(network.path, engine=network.engine) for name, network in networks.items()},
        "data": {"directory": shown_path(asked.directory), "dataset": dataset, **data.provenance},
        "machine": machine(),
        "versions": versions(),
    }
    return result, facts


def _localisation(
    table: LocalisationTable, files: Sequence[NamedFile], *, data: LabelledVideos, asked: Asked, load: Load
) -> tuple[Result, Mapping[str, Network]]:
    if asked.baselines_only:
        head = run_head(asked.number, table, data, engine=None, protocol=None)
        pooled = _run(lambda video: count_trivial(video, table=table), data=data, head=head, asked=asked)
        return localisation_result(asked.number, table, pooled, trivial=trivial_rows(table.preprocessing)), {}
    if len(files) != 1 or files[0].row is not None:
        raise ValueError(f"table {asked.number} compares the maps of one network: give one --artifact FILE")
    network = load(files[0].path)
    protocol = AUTHORS if asked.author_settings else Protocol()
    protocol = replace(protocol, target=asked.target or protocol.target)
    count = map_counter(network.engine, data, table=table, protocol=protocol)
    head = run_head(asked.number, table, data, engine=network.engine, protocol=protocol)
    pooled = _run(count, data=data, head=head, asked=asked)
    trivial = trivial_rows(network.engine.card.preprocessing)
    return localisation_result(asked.number, table, pooled, trivial=trivial), {table.network: network}


def _accuracy(
    table: AccuracyTable, files: Sequence[NamedFile], *, data: LabelledVideos, asked: Asked, load: Load
) -> tuple[Result, Mapping[str, Network]]:
    if asked.journal is not None and len(files) > 1:
        raise ValueError("--journal is one network's: leave it out, and every one gets its own")
    networks: dict[str, Network] = {}
    pooled: dict[str, Pooled] = {}
    for named in files:
        network = load(named.path)
        row = row_of(table, network.engine.card, named=named.row)
        if row in networks:
            raise ValueError(f"two artefacts are for the row '{row}': {networks[row].path}, {named.path}")
        networks[row] = network
    for row, network in networks.items():
        head = run_head(asked.number, table, data, engine=network.engine, protocol=None)
        pooled[row] = _run(accuracy_counter(network.engine, data), data=data, head=head, asked=asked, row=row)
    return accuracy_result(asked.number, table, pooled), networks


def _load(path: Path, *, asked: Asked, clients: ExitStack) -> Network:
    at = asked.connection
    if at.urls or at.addresses:
        client = connect(at)
        clients.callback(client.close)
        return Network(path, ServedEngine(client, artifact=path, name="http" if at.urls else "grpc"))
    return Network(path, load_engine(path, device=asked.device, num_threads=asked.num_threads))


def _run(
    count: CountOne, *, data: LabelledVideos, head: Mapping[str, Any], asked: Asked, row: str | None = None
) -> Pooled:
    path = asked.journal or journal_path(CACHE, head=head)
    return run_videos(data, count, head=head, path=path, desc=row or f"table {asked.number}")


def _command(asked: Asked) -> str:
    words = ["sum3dcam", "evaluate", "--table", str(asked.number), "--data", shown_path(asked.directory)]
    for option, files in (("--artifact", asked.artifacts), ("--weights", asked.weights)):
        for named in files:
            words += [option, f"{named.row}={shown_path(named.path)}" if named.row else shown_path(named.path)]
    given = {
        "--dataset": asked.dataset,
        "--split": asked.split,
        "--limit": asked.limit,
        "--labels": asked.labels and shown_path(asked.labels),
        "--target": asked.target,
        "--device": asked.device,
    }
    words += [word for name, value in given.items() if value is not None for word in (name, str(value))]
    at = asked.connection
    servers = [("--url", url) for url in at.urls] + [("--grpc", address) for address in at.addresses]
    words += [word for pair in (*servers, ("--model", at.model)) for word in pair] if servers else []
    flags = {"--author-settings": asked.author_settings, "--baselines-only": asked.baselines_only}
    return shlex.join([*words, *(name for name, is_set in flags.items() if is_set)])


def show_table(asked: Asked, *, json_path: Path | None, csv_path: Path | None, picture: Path | None) -> None:
    """Runs, prints the table and writes the files asked for. Raises as `run_table`."""
    result, facts = run_table(asked)
    title = f"{result.title}, {shown_path(asked.directory)}"
    Console(width=max(Console().width, RESULT_WIDTH)).print(render(result, title=title), highlight=False)
    for path in (json_path, csv_path, picture):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if json_path is not None:
        json_path.write_text(dumps(to_json(result, provenance=facts)) + "\n")
    if csv_path is not None:
        csv_path.write_text(to_csv(result))
    if picture is not None:
        write_picture(result, picture, title=title)
