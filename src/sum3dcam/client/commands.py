"""The command `sum3dcam predict`: asks a server about videos, prints, and writes overlays and JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sum3dcam.client.colormaps import COLORMAPS, DEFAULT_COLORMAP
from sum3dcam.client.connection import Connection, connect, connection_options, read_video
from sum3dcam.client.request import Options
from sum3dcam.contract import BOX_MODES, COORDINATES, EXPLAIN_MODES, NORMALISATIONS, TUBE_MODES
from sum3dcam.errors import Sum3DCamError

if TYPE_CHECKING:
    from sum3dcam.client.grpc import GrpcClient
    from sum3dcam.client.http import HttpClient
    from sum3dcam.client.prediction import Prediction

WITH_MAPS = ("maps", "grids")


@dataclass(frozen=True)
class Outcome:
    """What became of one video: the answer without its tensors, the error, or both if only the drawing failed."""

    video: Path
    envelope: Mapping[str, Any]
    prediction: "Prediction | None"
    error: Sum3DCamError | None


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
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Videos asked for at a time.")
@click.pass_context
def predict(
    context: click.Context,
    /,
    *,
    videos: tuple[Path, ...],
    connection: Connection,
    explain: str | None,
    method: str | None,
    taps: str | None,
    target: str | None,
    coordinates: str | None,
    normalisation: str | None,
    top_k: int | None,
    threshold: float | None,
    box_mode: str | None,
    tubes: str | None,
    overlay: str | None,
    sheet: str | None,
    colormap: str,
    json_path: Path | None,
    jobs: int,
) -> None:
    """Ask a server what happens in videos, and where it sees it.

    VIDEO is a video or image file, or an .npy clip. One that fails does not stop the others; the exit code is then 1.
    """
    if (overlay or sheet) and explain not in WITH_MAPS:
        explain = "maps"
    options = Options(
        explain=explain,
        method=method,
        taps=taps,
        target=target,
        coordinates=coordinates,
        normalisation=normalisation,
        top_k=top_k,
        threshold=threshold,
        box_mode=box_mode,
        tubes=tubes,
    )
    overlays = output_paths(overlay, videos=videos, suffix=".mp4", option="--overlay")
    sheets = output_paths(sheet, videos=videos, suffix=".png", option="--contact-sheet")

    with connect(connection) as client:

        def ask(position: int) -> Outcome:
            video = videos[position]
            draw = _drawing(video, overlay=overlays[position], sheet=sheets[position], colormap=colormap)
            return ask_one(client, video, options=options, max_message_bytes=connection.max_message_bytes, then=draw)

        outcomes = _in_parallel(ask, len(videos), jobs=jobs)

    _report(outcomes)
    if json_path is not None:
        _write_json(json_path, outcomes)
    if any(outcome.error for outcome in outcomes):
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


def ask_one(
    client: "HttpClient | GrpcClient",
    video: Path,
    *,
    options: Options,
    max_message_bytes: int,
    then: "Callable[[Prediction], None]",
) -> Outcome:
    """Asks about one video and hands the answer on; an error is part of the outcome."""
    from sum3dcam.wire import error_envelope

    prediction: Prediction | None = None
    try:
        answer = client.predict(read_video(video, max_message_bytes=max_message_bytes), **options)
        prediction = answer.without_tensors()
        then(answer)
    except Sum3DCamError as error:
        envelope = error_envelope(error, request_id=None) if prediction is None else prediction.envelope
        return Outcome(video=video, envelope=envelope, prediction=prediction, error=error)
    return Outcome(video=video, envelope=prediction.envelope, prediction=prediction, error=None)


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


def _in_parallel(ask: Callable[[int], Outcome], count: int, *, jobs: int) -> list[Outcome]:
    from rich.console import Console
    from rich.progress import track

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        asked = [pool.submit(ask, position) for position in range(count)]
        try:
            console = Console(stderr=True)
            for _ in track(as_completed(asked), "predicting", total=count, console=console, transient=True):
                pass
        finally:
            for future in asked:  # after Ctrl-C the rest is not begun
                future.cancel()
    return [future.result() for future in asked]


def _write_json(path: Path, outcomes: Sequence[Outcome]) -> None:
    by_video = {str(outcome.video): outcome.envelope for outcome in outcomes}
    answer = outcomes[0].envelope if len(outcomes) == 1 else by_video
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(answer, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from error


def _report(outcomes: Sequence[Outcome]) -> None:
    from rich.console import Console

    from sum3dcam.client.table import prediction_table

    console = Console()
    for outcome in outcomes:
        if outcome.prediction is not None:
            console.print(prediction_table(str(outcome.video), outcome.prediction))
    for outcome in outcomes:
        if outcome.error is not None:
            click.echo(f"failed: {outcome.video}: {outcome.error}", err=True)
