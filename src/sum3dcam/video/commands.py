"""The command `sum3dcam flow`: optical flow of videos, as .npy files that a flow model takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
from tqdm import tqdm

from sum3dcam.contract import STREAM_CHANNELS
from sum3dcam.errors import BadArrayError, Sum3DCamError
from sum3dcam.video.decode import DecodeLimits, decode
from sum3dcam.video.geometry import PREPROCESSING

# What the server would take, but with all the time it takes.
LIMITS = DecodeLimits(max_decode_seconds=math.inf)


@dataclass(frozen=True)
class Recipe:
    """What to write: streams side by side, at this size and rate (None: every frame of the source)."""

    streams: tuple[str, ...]
    size_px: int
    preprocessing: str
    frames_per_second: float | None

    @property
    def shape_HWC(self) -> tuple[int, int, int]:
        return (self.size_px, self.size_px, sum(STREAM_CHANNELS[stream] for stream in self.streams))


@click.command("flow")
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...", type=click.Path(path_type=Path))
@click.option(
    "--output", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the .npy files."
)
@click.option("--rgb", is_flag=True, help="Write RGB before the flow, 5 channels, as a two-stream model sees them.")
@click.option("--size", "size_px", default=224, show_default=True, type=click.IntRange(1), help="The model's.")
@click.option(
    "--preprocessing",
    default="shorter-side-256-crop-224",
    show_default=True,
    type=click.Choice(list(PREPROCESSING)),
    help="The model's.",
)
@click.option(
    "--frames-per-second",
    default=25.0,
    show_default=True,
    type=click.FloatRange(0),
    help="The model's; 0 takes every frame.",
)
@click.pass_context
def flow_command(
    context: click.Context,
    *,
    videos: tuple[Path, ...],
    output: Path,
    rgb: bool,
    size_px: int,
    preprocessing: str,
    frames_per_second: float,
) -> None:
    """Compute the optical flow of videos, to send to a flow model.

    VIDEO is a video or image file, or an .npy of RGB frames; FOLDER/VIDEO.npy is written for each. TV-L1 takes seconds
    for every frame: what exists already is left as it is, so the same command goes on after an interruption. A video
    that fails does not stop the others; the exit code is then 1.
    """
    recipe = Recipe(
        streams=("rgb", "flow") if rgb else ("flow",),
        size_px=size_px,
        preprocessing=preprocessing,
        frames_per_second=frames_per_second or None,
    )
    paths = _output_paths(output, videos=videos)
    output.mkdir(parents=True, exist_ok=True)
    failures = []
    with tqdm(total=len(videos), desc="flow", unit="video") as bar:
        for video, path in zip(videos, paths, strict=True):
            try:
                write_flow(video, path=path, recipe=recipe)
            except (Sum3DCamError, OSError) as error:
                failures.append(f"failed: {video}: {error}")
            bar.update()
    for failure in failures:
        click.echo(failure, err=True)
    if failures:
        context.exit(1)


def write_flow(video: Path, *, path: Path, recipe: Recipe) -> None:
    """Writes uint8 (T, size, size, C), which appears only when it is whole; what is there already is left alone.

    Raises:
        RequestError: the video cannot be decoded.
        BadArrayError: what is there already is of another recipe.
        OSError: a file that cannot be read or written.
    """
    if path.exists():
        _check_written(path, recipe=recipe)
        return
    frames_THWC = decode(
        video.read_bytes(),
        size_px=recipe.size_px,
        limits=LIMITS,
        preprocessing=recipe.preprocessing,
        streams=recipe.streams,
        frames_per_second=recipe.frames_per_second,
        progress=partial(tqdm, desc=video.name, unit="frame", leave=False),
    ).frames_THWC
    partial_path = path.with_name(f".{path.name}.part")
    try:
        with partial_path.open("wb") as file:
            np.save(file, frames_THWC)
        partial_path.replace(path)
    finally:
        partial_path.unlink(missing_ok=True)


def _check_written(path: Path, *, recipe: Recipe) -> None:
    """What a header can tell: a file of another size or of other streams is not silently taken for this recipe's."""
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (ValueError, EOFError):
        shape = ()
    if shape[1:] != recipe.shape_HWC:
        raise BadArrayError(
            f"{path} exists and is not what would be written; remove it or choose another folder",
            got=shape,
            allowed=f"(T, {', '.join(str(side) for side in recipe.shape_HWC)})",
        )


def _output_paths(folder: Path, *, videos: Sequence[Path]) -> list[Path]:
    paths = [folder / f"{video.stem}.npy" for video in videos]
    if len(set(paths)) < len(paths):
        raise click.UsageError("several videos of the same name would write the same file; give them in several runs.")
    if {path.resolve() for path in paths} & {video.resolve() for video in videos}:
        raise click.UsageError(f"--output {folder} is where the videos are arrays of the same name; choose another.")
    return paths
