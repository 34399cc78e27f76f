"""`sum3dcam check`: whether an artefact's maps depend on its weights and show what its score depends on."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
from rich.console import Console, RenderableType

from sum3dcam.contract import LABELS_GRAPH
from sum3dcam.errors import ArtifactError, Sum3DCamError
from sum3dcam.evaluation.checks import perturbation, randomisation
from sum3dcam.evaluation.checks.clips import LabelledClip, checked_kinds, first_clips
from sum3dcam.evaluation.checks.picture import Draw, perturbation_row, randomisation_row, write_picture
from sum3dcam.evaluation.checks.report import (
    perturbation_json,
    randomisation_json,
    render_perturbation,
    render_randomisation,
    to_json,
)
from sum3dcam.evaluation.checks.weights import cascade, read_stages
from sum3dcam.evaluation.commands import TABLE_WIDTH, data_options, data_words, load_comparators, weights_words
from sum3dcam.evaluation.datasets import read_dataset
from sum3dcam.evaluation.datasets.labelled import LabelledVideos
from sum3dcam.evaluation.kinds import Comparator
from sum3dcam.evaluation.provenance import provenance, shown_path
from sum3dcam.evaluation.report import dumps
from sum3dcam.export.archive import labels_path
from sum3dcam.serving.engines import Engine, load_engine

# One random network may be a lucky one: three are drawn, and their results averaged.
DRAW_SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Subject:
    """What is checked, and on what."""

    artifact: Path
    engine: Engine
    data: LabelledVideos
    comparators: tuple[Comparator, ...]
    device: str
    num_threads: int

    def clips(self, desc: str) -> Iterator[LabelledClip]:
        return first_clips(self.data, card=self.engine.card, desc=desc)

    def load_beside(self, path: Path) -> Engine:
        return load_engine(path, device=self.device, num_threads=self.num_threads)


@dataclass(frozen=True)
class Outcome:
    """A check's result in every form in which it is given."""

    table: RenderableType
    json: Mapping[str, Any]
    picture_row: tuple[float, Draw]


def prepare_randomisation(subject: Subject) -> Callable[[], Outcome]:
    read_stages(subject.artifact)
    return partial(randomise, subject)


def randomise(subject: Subject) -> Outcome:
    draws = {}
    for seed in DRAW_SEEDS:
        # Only one draw's engines are loaded at a time.
        randomised = cascade(subject.artifact, seed=seed, device=subject.device, num_threads=subject.num_threads)
        clips = subject.clips(f"randomisation, draw {seed}")
        draws[seed] = randomisation.measure(subject.engine, clips, randomised=randomised)
    found = randomisation.summarise(draws)
    return Outcome(render_randomisation(found), randomisation_json(found), randomisation_row(found))


def prepare_insertion_deletion(subject: Subject) -> Callable[[], Outcome]:
    return partial(insert_and_delete, subject, scorer=load_scorer(subject))


def insert_and_delete(subject: Subject, *, scorer: Engine) -> Outcome:
    clips = subject.clips("insertion-deletion")
    found = perturbation.measure(subject.engine, clips, scorer=scorer, comparators=subject.comparators)
    return Outcome(render_perturbation(found), perturbation_json(found), perturbation_row(found))


def load_scorer(subject: Subject) -> Engine:
    """The labels graph beside the artefact: thousands of scores need no maps, and it takes a third of the time.

    Raises:
        ArtifactError: it is not there, or is another network's.
    """
    path = labels_path(subject.artifact)
    if not path.exists():
        raise ArtifactError(
            "insertion and deletion score with the labels graph, which an export writes beside the explain graph",
            got="no such file",
            allowed=path.name,
        )
    scorer, card = subject.load_beside(path), subject.engine.card
    if (scorer.card.graph, scorer.card.weights_sha256) != (LABELS_GRAPH, card.weights_sha256):
        raise ArtifactError(f"{path.name} is not the labels graph of this artefact; export them again")
    return scorer


# What is missing is said before anything runs for minutes: each check is prepared first, which gives what runs it.
CHECKS: Mapping[str, Callable[[Subject], Callable[[], Outcome]]] = MappingProxyType(
    {"randomisation": prepare_randomisation, "insertion-deletion": prepare_insertion_deletion}
)


def _names(_context: click.Context, _option: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(value.split(",")))
    if not set(names) <= set(CHECKS):
        raise click.BadParameter(f"got {value}; allowed, separated by commas: {', '.join(CHECKS)}")
    return names


@click.command("check")
@data_options
@click.option("--checks", default=",".join(CHECKS), show_default=True, callback=_names, help="Which, by commas.")
def check_command(
    artifact: Path,
    data: Path,
    dataset: str | None,
    split: str | None,
    weights: tuple[Path, ...],
    limit: int | None,
    device: str,
    threads: int,
    json_path: Path | None,
    picture: Path | None,
    checks: Sequence[str],
) -> None:
    """Do maps change when the weights are random, and does the score follow what they light up?"""
    dataset = dataset or "rendered"
    try:
        videos = read_dataset(dataset, data, split=split, limit=limit)
        if not videos.videos:
            raise ValueError("the data set holds no video: there is nothing to check")
        engine = load_engine(artifact, device=device, num_threads=threads)
        checked_kinds(engine.card)
        subject = Subject(
            artifact, engine, videos, load_comparators(weights, engine=engine, num_threads=threads), device, threads
        )
        runs = {name: CHECKS[name](subject) for name in checks}
        outcomes = {name: run() for name, run in runs.items()}
    except (Sum3DCamError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    title = f"{engine.card.model} on {shown_path(data)} ({len(videos.videos)} videos)"
    console = Console(width=max(Console().width, TABLE_WIDTH))
    console.print(title, *(outcome.table for outcome in outcomes.values()), sep="\n\n")
    if json_path is not None:
        words = ["sum3dcam", "check", "--artifact", shown_path(artifact), *data_words(data, dataset, split=split)]
        words += ["--checks", ",".join(checks), "--device", device, *(["--limit", str(limit)] if limit else [])]
        head = provenance(
            command=shlex.join([*words, *weights_words(weights)]),
            artifact=artifact,
            engine=engine,
            data=data,
            data_provenance=videos.provenance,
        )
        json_path.parent.mkdir(parents=True, exist_ok=True)
        tree = to_json({name: outcome.json for name, outcome in outcomes.items()}, provenance=head)
        json_path.write_text(dumps(tree) + "\n")
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_picture(
            [outcome.picture_row for outcome in outcomes.values()],
            picture,
            title=f"{title}; maps of the ground-truth class",
        )
