"""A results file as a table for the terminal."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

MS = 1e3


def engines_table(report: Mapping[str, Any]) -> Table:
    """Each program at each batch size: milliseconds per clip, share of the peak, and how it compares."""
    roof = statistics.median(roof["flop_per_second"] for roof in report["roofs"])
    title = (
        f"{report['model']} {'x'.join(str(size) for size in report['clip'][:3])}, {report['threads']} threads of "
        f"{report['machine']['processor']}; sgemm peak {roof / 1e9:.0f} GFLOP/s"
    )
    table = Table(title=title, title_justify="left")
    for column in ("program", "graph", "batch"):
        table.add_column(column)
    for column in ("ms per clip", "min..max", "of peak", "maps / labels", "eager / this"):
        table.add_column(column, justify="right")
    rows = report["seconds_per_clip"]
    medians = {(row["name"], row["kind"], row["batch"]): statistics.median(row["samples"]) for row in rows}
    eager = {"labels": "eager", "maps": "eager, one backward"}
    for row in sorted(rows, key=lambda row: (row["kind"], row["batch"], statistics.median(row["samples"]))):
        name, kind, batch = row["name"], row["kind"], row["batch"]
        median, labels = medians[name, kind, batch], medians.get((name, "labels", batch))
        # A peer that computes less than the explain graph has no share of its work.
        whole = "layers" not in name
        share = report["flop_per_clip"][kind] / median / roof
        table.add_row(
            *(name, kind, str(batch), f"{median * MS:.1f}"),
            f"{min(row['samples']) * MS:.1f}..{max(row['samples']) * MS:.1f}",
            f"{share:.0%}" if whole else "",
            f"{median / labels:.2f}" if kind == "maps" and labels else "",
            f"{medians[eager[kind], kind, batch] / median:.2f}",
        )
    return table


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(results: tuple[Path, ...]) -> None:
    """Print RESULTS, written by engines.py."""
    for path in results:
        Console(width=max(Console().width, 120)).print(engines_table(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
