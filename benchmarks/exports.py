"""Exports every network to every format, past the parity gate, and says how long it took and how large the files are.

Random weights: neither time nor size depends on what a network has learnt.
"""

import json
import os
import tempfile
import time
from pathlib import Path

import click
from origin import origin
from rich.console import Console
from rich.table import Table

from sum3dcam.artefact import ARTIFACT_SUFFIXES
from sum3dcam.contract import EAGER
from sum3dcam.export.archive import labels_path
from sum3dcam.export.artefacts import export_pair
from sum3dcam.export.inspection import describe_parameters
from sum3dcam.export.prepare import prepare
from sum3dcam.models import NETWORKS

# I3D at a quarter of its frames and half its size: the gate's float64 oracle goes over 16 clips, which at 64x224x224
# would take most of an hour on two cores.
SMALLER_CLIPS = {model: {"num_frames": 16, "size_px": 112} for model in ("i3d", "i3d-flow", "i3d-two-stream")}
TABLE_WIDTH = 130


@click.command()
@click.option("--model", "models", multiple=True, default=tuple(NETWORKS), type=click.Choice(list(NETWORKS)))
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/bench/exports.json"), show_default=True)
def main(models: tuple[str, ...], output: Path) -> None:
    """Seconds (wall and CPU) and megabytes of each export, with its parity rows."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            for suffix in ARTIFACT_SUFFIXES:
                rows.append(_export(model, Path(folder) / f"{model}{suffix}"))
                Console(stderr=True).print(f"{model}{suffix}: {rows[-1]['seconds']:.0f} s", highlight=False)
    table = Table(title=f"exports, {os.cpu_count()} cores", title_justify="left")
    for column in ("network", "parameters", "clip", "format", "MB", "labels MB", "seconds", "map mean", "eager's"):
        table.add_column(column, justify="right" if column in ("MB", "labels MB", "seconds") else "left")
    for row in rows:
        table.add_row(
            *(row["model"], row["parameters"].split(" ")[0], row["clip"], row["format"]),
            *(f"{row[size] / 1e6:.1f}" for size in ("explain_bytes", "labels_bytes")),
            f"{row['seconds']:.0f}",
            *(f"{row[who]['saliency_mean_error']:.1e}" for who in ("parity", "eager")),
        )
    Console(width=max(Console().width, TABLE_WIDTH)).print(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    report = {
        **origin(),
        "exports": rows,
    }
    output.write_text(json.dumps(report, indent=1) + "\n")


def _export(model: str, path: Path) -> dict[str, object]:
    began, cpu_began = time.perf_counter(), time.process_time()
    prepared = prepare(model, random_seed=0, **SMALLER_CLIPS.get(model, {}))
    parity, _ = export_pair(prepared, path)
    eager = next(row for row in parity if row["engine"] == EAGER)
    card = prepared.card
    row = {
        "model": model,
        "parameters": describe_parameters(prepared.classifier.network),
        "clip": f"{card.num_frames}x{card.size_px}x{card.size_px}",
        "format": path.suffix,
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "explain_bytes": path.stat().st_size,
        "labels_bytes": labels_path(path).stat().st_size,
        "parity": parity[0],
        "eager": eager,
    }
    path.unlink()
    labels_path(path).unlink()
    return row


if __name__ == "__main__":
    main()
