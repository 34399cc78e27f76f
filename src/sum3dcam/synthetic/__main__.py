"""Writes a data set of rendered videos, or a contact sheet of it: `python -m sum3dcam.synthetic --help`."""

from __future__ import annotations

from pathlib import Path

import click
import cv2

from sum3dcam.synthetic.dataset import video_seed, write_dataset
from sum3dcam.synthetic.difficulty import DIFFICULTIES
from sum3dcam.synthetic.figure import ACTIONS
from sum3dcam.synthetic.render import render
from sum3dcam.synthetic.sheet import contact_sheet


@click.command()
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Directory for the data set.")
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="PNG: its first video of each action.")
@click.option("--videos", default=40, show_default=True, type=click.IntRange(1), help="Number of videos.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the data set.")
@click.option("--difficulty", default="full", show_default=True, type=click.Choice(list(DIFFICULTIES)))
@click.option("--frames", default=48, show_default=True, type=click.IntRange(1), help="Frames per video.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
def main(
    output: Path | None, sheet: Path | None, videos: int, seed: int, difficulty: str, frames: int, workers: int
) -> None:
    """Renders human actions with their boxes."""
    if output is None and sheet is None:
        raise click.UsageError("nothing to do: give --output DIR, --sheet PNG or both")
    if sheet is not None:
        rows = [
            render(
                seed=video_seed(seed, index=index),
                action=action,
                num_frames=frames,
                difficulty=DIFFICULTIES[difficulty],
            )
            for index, action in enumerate(ACTIONS)
        ]
        if not cv2.imwrite(str(sheet), cv2.cvtColor(contact_sheet(rows), cv2.COLOR_RGB2BGR)):
            raise click.ClickException(f"--sheet: could not write {sheet}")
    if output is not None:
        write_dataset(output, num_videos=videos, seed=seed, difficulty=difficulty, num_frames=frames, workers=workers)


if __name__ == "__main__":
    main()
