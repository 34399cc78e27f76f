"""`sum3dcam evaluate`: an artefact against a data set with ground truth."""

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from tqdm import tqdm

from sum3dcam.client.connection import Connection, connection_options
from sum3dcam.errors import Sum3DCamError
from sum3dcam.evaluation.datasets import READERS, read_dataset
from sum3dcam.evaluation.datasets.labelled import LabelledVideos
from sum3dcam.evaluation.kinds import Comparator, map_kinds
from sum3dcam.evaluation.picture import write_picture
from sum3dcam.evaluation.prepare import prepare
from sum3dcam.evaluation.provenance import provenance, shown_path
from sum3dcam.evaluation.report import EXPLAINED, dumps, render, to_json
from sum3dcam.evaluation.study import TARGETS, Settings, VideoCounts, count_video
from sum3dcam.evaluation.summary import Summary, summarise
from sum3dcam.evaluation.tables.commands import NAMED_NETWORK_OPTIONS, TABLE_OPTIONS, Asked, show_table
from sum3dcam.evaluation.tables.networks import NamedFile
from sum3dcam.serving.engines import Engine, load_engine

# What the table needs: a narrower terminal wraps its lines, which is better than figures cut short.
TABLE_WIDTH = 165


def evaluate(
    engine: Engine, data: LabelledVideos, *, settings: Settings, comparators: Sequence[Comparator] = ()
) -> Summary:
    """Runs the artefact, and the comparators beside it, over the videos, with a progress bar on stderr.

    Raises:
        ValueError: a data set without ground truth, or one that does not fit the artefact.
        Sum3DCamError: an artefact without an explain graph, or a video that cannot be decoded.
    """
    kinds = map_kinds(engine.card.tap_names)
    counts: list[VideoCounts] = []
    for video in tqdm(data.videos, desc="evaluate", unit="video"):
        prepared = prepare(video, card=engine.card)
        counts.append(count_video(engine, prepared, kinds=kinds, settings=settings, comparators=comparators))
    return summarise(counts, kinds=(*kinds, *(made.kind for made in comparators)), settings=settings)


def load_comparators(weights: Sequence[Path], *, engine: Engine, num_threads: int) -> tuple[Comparator, ...]:
    """None without weights; torch is imported only with them. Raises as `comparators.load_comparators`."""
    if not weights:
        return ()
    from sum3dcam.evaluation import comparators

    return comparators.load_comparators(weights, engine=engine, num_threads=num_threads)


def data_words(data: Path, dataset: str, *, split: str | None) -> list[str]:
    """The words of a command that name the data set; what is the default goes without saying."""
    named = ["--dataset", dataset] if dataset != "rendered" else []
    return ["--data", shown_path(data), *named, *(["--split", split] if split else [])]


def weights_words(weights: Sequence[Path]) -> list[str]:
    """The words of a command that name the weights."""
    return [word for path in weights for word in ("--weights", shown_path(path))]


# What every command over an artefact and a data set takes: the network's files, ...
NETWORK_OPTIONS = (
    click.option(
        "--artifact", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Explain graph."
    ),
    click.option(
        "--weights",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The artefact's own weights, for Grad-CAM++, c-MWP and integrated gradients as further rows.",
    ),
)
# ... and the rest.
OPTIONS = (
    click.option(
        "--data",
        required=True,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="The data set's folder.",
    ),
    click.option(
        "--dataset", type=click.Choice(list(READERS)), help="Its format.  [default: rendered, or what the table is of]"
    ),
    click.option("--split", help="test1, train2, val, ...  [default: the data set's first]"),
    click.option("--limit", type=click.IntRange(1), help="That many videos only."),
    click.option("--device", default="cpu", show_default=True, help="cpu or cuda:INDEX."),
    click.option("--threads", default=2, show_default=True, type=click.IntRange(1), help="The engine's threads."),
    click.option(
        "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there."
    ),
    click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Write a PNG there."),
)


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds NETWORK_OPTIONS and OPTIONS to a command, in their order."""
    return add_options(command, options=(*NETWORK_OPTIONS, *OPTIONS))


def add_options(command: Callable[..., Any], *, options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """Adds options to a command, in their order."""
    for option in reversed(options):
        command = option(command)
    return command


@click.command("evaluate")
@partial(add_options, options=(*NAMED_NETWORK_OPTIONS, *OPTIONS))
@click.option(
    "--target", type=click.Choice(list(TARGETS)), help="Class explained.  [default: true; with --author-settings top]"
)
@partial(add_options, options=TABLE_OPTIONS)
@connection_options
def evaluate_command(
    artifacts: tuple[NamedFile, ...],
    data: Path,
    dataset: str | None,
    split: str | None,
    weights: tuple[NamedFile, ...],
    limit: int | None,
    device: str,
    threads: int,
    json_path: Path | None,
    picture: Path | None,
    target: str | None,
    connection: Connection,
    **of_table: Any,
) -> None:
    """Accuracy, and MaxBoxAcc and pointing game of every map against trivial boxes, with 95 % intervals.

    With --table N: that table of the paper, with what the paper printed beside it; of a served artefact with --url or
    --grpc.
    """
    number, csv_path = of_table.pop("number"), of_table.pop("csv_path")
    try:
        if number is not None:
            asked = Asked(
                number=int(number),
                directory=data,
                dataset=dataset,
                split=split,
                connection=connection,
                artifacts=artifacts,
                weights=weights,
                target=target,
                limit=limit,
                device=device,
                num_threads=threads,
                **of_table,
            )
            show_table(asked, json_path=json_path, csv_path=csv_path, picture=picture)
            return
        if (
            csv_path
            or connection.urls
            or connection.addresses
            or any(of_table.values())
            or len(artifacts) != 1
            or any(file.row for file in (*artifacts, *weights))
        ):
            raise ValueError("without --table, give one --artifact FILE and none of the options that are a table's")
        evaluate_maps(
            artifacts[0].path,
            data,
            dataset=dataset or "rendered",
            split=split,
            weights=[file.path for file in weights],
            limit=limit,
            device=device,
            threads=threads,
            json_path=json_path,
            picture=picture,
            target=target or "true",
        )
    except (Sum3DCamError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


def evaluate_maps(
    artifact: Path,
    data: Path,
    *,
    dataset: str,
    split: str | None,
    weights: Sequence[Path],
    limit: int | None,
    device: str,
    threads: int,
    json_path: Path | None,
    picture: Path | None,
    target: str,
) -> None:
    """Evaluates on a data set with boxes, prints the table and writes the files asked for. Raises as `evaluate`."""
    videos = read_dataset(dataset, data, split=split, limit=limit)
    engine = load_engine(artifact, device=device, num_threads=threads)
    comparators = load_comparators(weights, engine=engine, num_threads=threads)
    summary = evaluate(engine, videos, settings=Settings(target=target), comparators=comparators)
    title = f"{engine.card.model} on {shown_path(data)} ({summary.num_videos} videos)"
    Console(width=max(Console().width, TABLE_WIDTH)).print(render(summary, title=title))
    if json_path is not None:
        words = ["sum3dcam", "evaluate", "--artifact", shown_path(artifact), *data_words(data, dataset, split=split)]
        words += ["--target", target, "--device", device, *(["--limit", str(limit)] if limit else [])]
        head = provenance(
            command=shlex.join([*words, *weights_words(weights)]),
            artifact=artifact,
            engine=engine,
            data=data,
            data_provenance=videos.provenance,
        )
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(dumps(to_json(summary, provenance=head)) + "\n")
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_picture(summary, picture, title=f"{title}; maps of {EXPLAINED[target]}")
