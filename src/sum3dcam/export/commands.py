"""The options that every export script shares, and the tables it ends with."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sum3dcam.contract import FP32, PRECISIONS
from sum3dcam.export.archive import labels_path
from sum3dcam.export.artefacts import export_pair
from sum3dcam.export.inspection import Inspection, describe_parameters, inspect
from sum3dcam.export.prepare import prepare
from sum3dcam.models import NETWORKS
from sum3dcam.models.gating import FUSIONS
from sum3dcam.video.geometry import PREPROCESSING

Command = Callable[..., Any]
TABLE_WIDTH = 150


def split_names(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    """ "a,b" -> ("a", "b"); "none" -> (); absent -> None."""
    if text is None:
        return None
    return () if text == "none" else tuple(name.strip() for name in text.split(",") if name.strip())


EXPORT_OPTIONS: Sequence[Callable[[Command], Command]] = (
    click.option(
        "--weights",
        type=click.Path(path_type=Path),
        multiple=True,
        help="The project's safetensors or a public checkpoint; twice (RGB, flow) for a two-stream network.",
    ),
    click.option(
        "--random-weights", "random_seed", type=click.IntRange(0), help="SEED of a network that has learnt nothing."
    ),
    click.option("--model", type=click.Choice(sorted(NETWORKS)), help="[default: what the weights are of]"),
    click.option("--gates", callback=split_names, help="Gated taps, TAP,TAP or none [default: what the weights hold]."),
    click.option("--fusion", type=click.Choice(sorted(FUSIONS)), help="How new gates join the head [default: sum]."),
    click.option(
        "--labels",
        type=click.Path(path_type=Path),
        help="One label per line, or the data set's own list, file or folder.",
    ),
    click.option("--frames", "num_frames", type=click.IntRange(1), help="Of a clip [default: the network's]."),
    click.option(
        "--size", "size_px", type=click.IntRange(32), help="Pixels of a clip's side [default: the network's]."
    ),
    click.option("--taps", callback=split_names, help="Taps to explain, TAP,TAP [default: all]."),
    click.option(
        "--preprocessing",
        type=click.Choice(sorted(PREPROCESSING)),
        help="How a frame becomes a square [default: the network's].",
    ),
    click.option(
        "--frames-per-second",
        type=click.FloatRange(0, min_open=True),
        help="Resample videos to this rate before they are cut into clips [default: every frame].",
    ),
    click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default=FP32,
        show_default=True,
        help="Of the convolutions; bf16, which ONNX lacks, gives other maps: see the certificate's map correlation.",
    ),
    click.option("--output", required=True, type=click.Path(path_type=Path)),
)


def export_options(command: Command) -> Command:
    """Adds the shared options to a click command."""
    for option in reversed(EXPORT_OPTIONS):
        command = option(command)
    return command


def run_export(*, output: Path, suffix: str, **wanted: Any) -> None:
    """Exports both graphs and prints their certificates; the keywords are those of `prepare` and of the options."""
    if output.suffix != suffix:
        raise click.BadParameter(f"got {output.name}, wanted a name that ends in {suffix}", param_hint="--output")
    console = Console(stderr=True)
    with console.status("building") as status:
        prepared = prepare(**wanted)
        certificates = export_pair(prepared, output, say=status.update)
    Console().print(
        f"{prepared.card.model}: {describe_parameters(prepared.classifier.network)} parameters", highlight=False
    )
    for path, rows in zip((output, labels_path(output)), certificates, strict=True):
        print_certificate(rows, name=path.name)
    sizes = {path.name: path.stat().st_size / 1e6 for path in (output, labels_path(output))}
    Console().print(", ".join(f"{name} {size:.1f} MB" for name, size in sizes.items()), highlight=False)


def print_certificate(rows: Sequence[Mapping[str, Any]], *, name: str) -> None:
    """The parity rows of one artefact as a table, and below it why an engine did not pass."""
    table = Table(title=Text(f"{name}: parity against float64 autograd"), title_justify="left")
    for column in (
        "engine",
        "logits",
        "map mean",
        "map max",
        "map corr.",
        "grids mean",
        "box IoU (least)",
        "top-1",
        "ms per clip",
        "passed",
    ):
        table.add_column(column, overflow="fold")
    boxes = {"box_iou_mean": "{:.3f}", "box_iou_min": "({:.2f})"}
    for row in rows:
        errors = ("logits_max_error", "saliency_mean_error", "saliency_max_error", "grids_mean_error")
        *of_logits_and_maps, of_grids = (_shown(row, key, "{:.1e}") for key in errors)
        table.add_row(
            _shown_engine(row),
            *of_logits_and_maps,
            _shown(row, "saliency_correlation", "{:.4f}"),
            of_grids,
            " ".join(_shown(row, key, form) for key, form in boxes.items() if key in row) or "-",
            _shown(row, "top1_agreement", "{:.0%}"),
            _shown_milliseconds(row),
            "yes" if row["passed"] else "no",
        )
    console = Console(width=max(Console().width, TABLE_WIDTH))
    console.print(table)
    for row in rows:
        if not row["passed"]:
            reason = Text(f"{_shown_engine(row)} did not pass, no server will run it: {row.get('reason')}")
            console.print(reason, highlight=False)


def _shown(row: Mapping[str, Any], key: str, form: str) -> str:
    """A row's figure; a labels graph has no maps, and an engine that failed no figures."""
    value = row.get(key)
    return form.format(value) if isinstance(value, (int, float)) else "-"


def _shown_milliseconds(row: Mapping[str, Any]) -> str:
    seconds = row.get("clip_seconds")
    return "-" if seconds is None else f"{1e3 * seconds:.0f}"


def _shown_engine(row: Mapping[str, Any]) -> str:
    return f"{row['engine']} {row['provider']}"


@click.command("inspect")
@click.argument("what")
@click.option("--layers", "with_layers", is_flag=True, help="A network's layers as well.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write all of it there.")
def inspect_command(what: str, with_layers: bool, json_path: Path | None) -> None:
    """Say what WHAT is: a checkpoint, an artefact of any format, an archive (.mar), or a network by its name."""
    found = inspect(what)
    console = Console()
    for inspection in found:
        console.print(_facts_table(inspection, name=what))
        if inspection.parity:
            print_certificate(inspection.parity, name=Path(what).name)
        if with_layers and inspection.layers:
            console.print(_layers_table(inspection))
    if json_path is not None:
        json_path.write_text(json.dumps([asdict(inspection) for inspection in found], indent=1) + "\n")


def _facts_table(inspection: Inspection, *, name: str) -> Table:
    table = Table(title=Text(f"{name}: {inspection.kind}"), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for fact, value in inspection.facts.items():
        lines = [f"{key}: {text}" for key, text in value.items()] if isinstance(value, Mapping) else [str(value)]
        table.add_row(fact, Text("\n".join(lines)))
    return table


def _layers_table(inspection: Inspection) -> Table:
    table = Table(title="layers", title_justify="left")
    for column in ("module", "kernels and channels", "output c,t,h,w", "parameters", "tap"):
        table.add_column(column, justify="right" if column == "parameters" else "left")
    for layer in inspection.layers:
        output = ", ".join(str(size) for size in layer.output_cthw)
        table.add_row(layer.name, Text(layer.convolutions), output, f"{layer.parameters:,}", layer.tap)
    return table
