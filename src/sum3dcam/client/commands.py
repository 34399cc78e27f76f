"""The command `sum3dcam predict`: asks a server about videos, prints, and writes overlays, JSON and CSV."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from sum3dcam.client.colormaps import COLORMAPS, DEFAULT_COLORMAP
from sum3dcam.client.connection import Connection, connect, connection_options
from sum3dcam.client.request import Options, option_texts
from sum3dcam.contract import BOX_MODES, COORDINATES, EXPLAIN_MODES, NORMALISATIONS, TUBE_MODES

if TYPE_CHECKING:
    from sum3dcam.client.batch import Outcome
    from sum3dcam.client.prediction import Prediction

WITH_MAPS = ("maps", "grids")


@click.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...", type=click.Path(path_type=Path))
@connection_options
@click.option("--explain", type=click.Choice(EXPLAIN_MODES), help="How much to explain.  [default: none]")
@click.option("--method", help="Attribution method, such as sum3dcam or gradcam.")
@click.option("--taps", metavar="TAP,TAP", help="Layers to explain from.  [default: all]")
@click.option(
    "--target", metavar="CLASS,CLASS", help="Classes to explain, by label or index, or top-3.  [default: the top class]"
)
@click.option("--coordinates", type=click.Choice(COORDINATES), help="Interpolate between cell centres or corners.")
@click.option("--normalisation", type=click.Choice(NORMALISATIONS), help="Divide maps by the clip's max or a frame's.")
@click.option("--top-k", type=int, help="How many labels to answer.")
@click.option("--threshold", type=float, help="Boxes hold what reaches this share of the clip's highest map value.")
@click.option("--box-mode", type=click.Choice(BOX_MODES), help="Which boxes of a frame to answer.")
@click.option("--tubes", type=click.Choice(TUBE_MODES), help="Link the boxes over the frames.  [default: none]")
@click.option("--deadline-ms", type=click.IntRange(1), help="Have each video answered within this time, or not at all.")
@click.option(
    "--overlay",
    metavar="MP4",
    help="Write the video with heat map and boxes. For several videos a folder, or a pattern with {stem}.",
)
@click.option(
    "--contact-sheet", "sheet", metavar="PNG", help="Write eight overlaid frames as one picture. As --overlay."
)
@click.option("--colormap", type=click.Choice(list(COLORMAPS)), default=DEFAULT_COLORMAP, show_default=True)
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the reply; for several videos an object keyed by video.",
)
@click.option(
    "--output",
    metavar="JSONL",
    type=click.Path(path_type=Path, dir_okay=False),
    help="For many videos: write a line for each as it is answered. Started again, ask only for what is not yet there.",
)
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write all boxes as a table.")
@click.option("--concurrency", type=click.IntRange(1), default=2, show_default=True, help="Videos asked for at a time.")
@click.pass_context
def predict(
    context: click.Context,
    /,
    *,
    videos: tuple[Path, ...],
    connection: Connection,
    overlay: str | None,
    sheet: str | None,
    colormap: str,
    json_path: Path | None,
    output: Path | None,
    csv_path: Path | None,
    concurrency: int,
    **asked: Any,
) -> None:
    """Ask a server what happens in videos, and where it sees it.

    VIDEO is a video or image file, or an .npy clip. One that fails does not stop the others; the exit code is then 1.
    """
    if json_path is not None and output is not None:
        raise click.UsageError("--json and --output both write the replies; give one of them.")
    if (overlay or sheet) and asked["explain"] not in WITH_MAPS:
        asked["explain"] = "maps"
    elif csv_path is not None and asked["explain"] in (None, "none"):
        asked["explain"] = "boxes"
    options = cast(Options, asked)
    overlays = output_paths(overlay, videos=videos, suffix=".mp4", option="--overlay")
    sheets = output_paths(sheet, videos=videos, suffix=".png", option="--contact-sheet")

    with connect(connection) as client:
        from sum3dcam.client.batch import ask_one
        from sum3dcam.client.boxes import write_boxes
        from sum3dcam.client.journal import read_predictions

        def ask(position: int) -> "Outcome":
            video = videos[position]
            draw = _drawing(video, overlay=overlays[position], sheet=sheets[position], colormap=colormap)
            limit = connection.max_message_bytes
            return ask_one(client, video, options=options, max_message_bytes=limit, then=draw)

        answered: Iterable[tuple[str, Prediction]]
        if output is None:
            outcomes = _ask_for_all(ask, videos, concurrency=concurrency)
            failed = sum(outcome.error is not None for outcome in outcomes)
            answered = [(str(found.video), found.prediction) for found in outcomes if found.prediction is not None]
            _report(outcomes)
        else:
            written_for = {"model": connection.model, **option_texts({**asked, "deadline_ms": None})}
            failed = _ask_for_the_rest(ask, videos, output=output, asked=written_for, concurrency=concurrency)
            answered = read_predictions(output)
    if json_path is not None:
        _write_json(json_path, outcomes)
    if csv_path is not None:
        write_boxes(csv_path, answered)
    if failed:
        context.exit(1)


def output_paths(given: str | None, *, videos: Sequence[Path], suffix: str, option: str) -> list[Path | None]:
    """Where each video's output goes; None for all if nothing was asked.

    Raises:
        click.UsageError: two videos would share a file, or one would be overwritten.
    """
    if given is None:
        return [None] * len(videos)
    if "{stem}" in given:
        paths = [Path(given.replace("{stem}", video.stem)) for video in videos]
    elif len(videos) == 1 and not Path(given).is_dir():
        paths = [Path(given)]
    elif Path(given).suffix == suffix:
        raise click.UsageError(f"{option} {given} is one file for several videos; give a folder or '{{stem}}{suffix}'.")
    else:
        paths = [Path(given) / f"{video.stem}{suffix}" for video in videos]
    if len(set(paths)) < len(paths):
        raise click.UsageError(f"{option} {given}: several videos of the same name would write the same file.")
    if {path.resolve() for path in paths} & {video.resolve() for video in videos}:
        raise click.UsageError(f"{option} {given} would overwrite a video that is to be predicted.")
    return list(paths)


def _drawing(video: Path, *, overlay: Path | None, sheet: Path | None, colormap: str) -> "Callable[[Prediction], None]":
    def draw(prediction: "Prediction") -> None:
        if overlay is None and sheet is None:
            return
        from sum3dcam.client.overlay import contact_sheet, write_overlay

        if overlay is not None:
            write_overlay(prediction, source=video, output=overlay, colormap=colormap)
        if sheet is not None:
            contact_sheet(prediction, source=video, output=sheet, colormap=colormap)

    return draw


def _ask_for_all(ask: "Callable[[int], Outcome]", videos: Sequence[Path], *, concurrency: int) -> "list[Outcome]":
    """The outcomes in the videos' order."""
    places = {video: place for place, video in enumerate(videos)}
    outcomes: list[Outcome] = []
    _ask_for(range(len(videos)), ask=ask, concurrency=concurrency, then=outcomes.append)
    return sorted(outcomes, key=lambda outcome: places[outcome.video])


def _ask_for_the_rest(
    ask: "Callable[[int], Outcome]", videos: Sequence[Path], *, output: Path, asked: Mapping[str, str], concurrency: int
) -> int:
    """Asks for what the journal lacks and says what came of it; gives how many failed."""
    from sum3dcam.client.journal import Journal

    failed: list[Path] = []

    def note(outcome: "Outcome") -> None:
        if outcome.error is not None:
            failed.append(outcome.video)
            _say_failed(outcome)

    with closing(Journal(output, videos=videos, asked=asked)) as journal:
        rest = [place for place, video in enumerate(videos) if not journal.has(video)]

        def ask_and_keep(place: int) -> "Outcome":
            outcome = ask(place)
            journal.append(outcome)
            return outcome

        _ask_for(rest, ask=ask_and_keep, concurrency=concurrency, then=note)
    there = len(videos) - len(rest)
    name = click.format_filename(output)
    click.echo(f"{name}: {len(rest) - len(failed)} answered, {len(failed)} failed, {there} were there before")
    return len(failed)


def _ask_for(
    places: Sequence[int],
    *,
    ask: "Callable[[int], Outcome]",
    concurrency: int,
    then: "Callable[[Outcome], None]",
) -> None:
    """Asks under a progress bar; after Ctrl-C it waits for what is under way and begins no more."""
    from rich.console import Console
    from rich.progress import track

    from sum3dcam.client.batch import ask_all

    console = Console(stderr=True)
    with closing(ask_all(ask, places, concurrency=concurrency)) as coming:
        for outcome in track(coming, "predicting", total=len(places), console=console, transient=True):
            then(outcome)


def _write_json(path: Path, outcomes: "Sequence[Outcome]") -> None:
    by_video = {str(outcome.video): outcome.envelope for outcome in outcomes}
    answer = outcomes[0].envelope if len(outcomes) == 1 else by_video
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from error


def _report(outcomes: "Sequence[Outcome]") -> None:
    from rich.console import Console
    from rich.text import Text

    from sum3dcam.client.table import prediction_table

    console = Console()
    for outcome in outcomes:
        if outcome.prediction is not None:
            # Above the table, not its title: that would be broken where the table ends.
            console.print(Text(click.format_filename(outcome.video), style="bold"), soft_wrap=True)
            console.print(prediction_table(outcome.prediction))
    for outcome in outcomes:
        if outcome.error is not None:
            _say_failed(outcome)


def _say_failed(outcome: "Outcome") -> None:
    click.echo(f"failed: {click.format_filename(outcome.video)}: {outcome.error}", err=True)
