"""The options that every export script shares, and the table it ends with."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from sum3dcam.export.archive import labels_path
from sum3dcam.export.artefacts import export_pair
from sum3dcam.export.prepare import prepare
from sum3dcam.models import NETWORKS

Command = Callable[..., Any]


def split_names(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    """ "a,b" -> ("a", "b"); "none" -> (); absent -> None."""
    if text is None:
        return None
    return () if text == "none" else tuple(name.strip() for name in text.split(",") if name.strip())


EXPORT_OPTIONS: Sequence[Callable[[Command], Command]] = (
    click.option("--model", required=True, type=click.Choice(sorted(NETWORKS))),
    click.option("--gates", callback=split_names, help="Gated taps, TAP,TAP or none [default: what the weights hold]."),
    click.option(
        "--weights", type=click.Path(path_type=Path), help="The project's safetensors or a public checkpoint."
    ),
    click.option(
        "--random-weights", "random_seed", type=click.IntRange(0), help="SEED of a network that has learnt nothing."
    ),
    click.option("--labels", type=click.Path(path_type=Path), help="A text file, one label per line."),
    click.option("--frames", "num_frames", type=click.IntRange(1), default=16, show_default=True),
    click.option("--size", "size_px", type=click.IntRange(32), default=112, show_default=True),
    click.option("--taps", callback=split_names, help="Taps to explain, TAP,TAP [default: all]."),
    click.option("--output", required=True, type=click.Path(path_type=Path)),
)


def export_options(command: Command) -> Command:
    """Adds the shared options to a click command."""
    for option in reversed(EXPORT_OPTIONS):
        command = option(command)
    return command


def run_export(*, output: Path, suffix: str, **wanted: Any) -> None:
    """Exports both graphs and prints the parity table; the keywords are those of `prepare` and of the options."""
    if output.suffix != suffix:
        raise click.BadParameter(f"got {output.name}, wanted a name that ends in {suffix}", param_hint="--output")
    console = Console(stderr=True)
    with console.status("building") as status:
        prepared = prepare(wanted.pop("model"), **wanted)
        rows = export_pair(prepared, output, say=status.update)
    table = Table(title="parity against float64 autograd", title_justify="left")
    for column in ("file", "MB", "engine", "logits", "map mean (eager)", "map max (eager)", "top-1"):
        table.add_column(column)
    for path, row in zip((output, labels_path(output)), rows, strict=True):
        means, maxima = (
            f"{row[f'saliency_{what}_error']:.1e} ({row[f'eager_saliency_{what}_error']:.1e})"
            if f"saliency_{what}_error" in row
            else "-"
            for what in ("mean", "max")
        )
        table.add_row(
            path.name,
            f"{path.stat().st_size / 1e6:.1f}",
            row["engine"],
            f"{row['logits_max_error']:.1e}",
            means,
            maxima,
            f"{row['top1_agreement']:.0%}",
        )
    Console().print(table)
