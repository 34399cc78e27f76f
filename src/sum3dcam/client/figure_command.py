"""The command `sum3dcam figure`: one clip as every layer and method sees it, in one picture."""

from pathlib import Path
from typing import Any

import click

from sum3dcam.client.colormaps import COLORMAPS, DEFAULT_COLORMAP
from sum3dcam.client.connection import Connection, connect, connection_options, read_video
from sum3dcam.contract import BOX_MODES


@click.command()
@click.argument("video", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A sheet of eight frames (.png, .jpg), or the panels side by side and moving (.webp, .mp4).",
)
@connection_options
@click.option("--clip", "clip_index", type=click.IntRange(0), default=0, show_default=True, help="Which clip, from 0.")
@click.option(
    "--target",
    metavar="CLASS,CLASS",
    help="Classes to explain, by label or index, or top-5; the first in every way.  [default: top-3]",
)
@click.option("--taps", metavar="TAP,TAP", help="Layers to explain from.  [default: all]")
@click.option("--method", default="sum3dcam-elementwise", show_default=True, help="How each class is explained.")
@click.option("--box-mode", type=click.Choice(BOX_MODES), help="Draw these boxes.  [default: none]")
@click.option("--threshold", type=float, help="Boxes hold what reaches this share of the clip's highest map value.")
@click.option("--colormap", type=click.Choice(list(COLORMAPS)), default=DEFAULT_COLORMAP, show_default=True)
@click.option(
    "--speed",
    type=click.FloatRange(0.01, 100),
    default=1.0,
    show_default=True,
    help="Of .webp and .mp4: 0.25 plays four times as slowly.",
)
def figure(
    *,
    video: Path,
    output: Path,
    connection: Connection,
    colormap: str,
    speed: float,
    **options: Any,
) -> None:
    """Lay side by side how one clip of a video is explained: by each layer's 3DCAM, their sum, Grad-CAM, for the best
    classes, and against the best.

    VIDEO is a video or image file, or an .npy clip. The server is asked four or five times.
    """
    from rich.console import Console

    from sum3dcam.client.comparison import ask_comparison
    from sum3dcam.client.figure import find_format, write_figure

    find_format(output)
    if output.resolve() == video.resolve():
        raise click.UsageError(f"--output {output} would overwrite the video.")
    data = read_video(video, max_message_bytes=connection.max_message_bytes)
    with (
        connect(connection) as client,
        Console(stderr=True).status("asking and drawing"),
    ):
        comparison = ask_comparison(client, data, **options)
        write_figure(comparison, source=video, output=output, colormap=colormap, speed=speed)
    click.echo(f"wrote {output}")
