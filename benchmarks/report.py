"""Results files as tables for the terminal, and as one HTML page with their pictures."""

import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from load.page import html_page, section
from load.pictures import serving_pictures
from load.tables import serving_tables
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


Report = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """How one program's results are shown."""

    tables: Callable[[Report], list[Table]]
    pictures: Callable[[Report], Mapping[str, bytes]] = lambda report: {}


# By the key that only this program's results have.
KINDS: Mapping[str, Kind] = {
    "seconds_per_clip": Kind(lambda report: [engines_table(report)]),
    "serving": Kind(serving_tables, serving_pictures),
}


def read_results(path: Path) -> tuple[Report, Kind]:
    """A results file and how to show it.

    Raises:
        click.ClickException: no program here wrote it.
    """
    report = json.loads(path.read_text())
    for key, kind in KINDS.items():
        if key in report:
            return report, kind
    raise click.ClickException(f"{path.name} is no results file of engines.py or serving.py")


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), help="Write all of them as one HTML page too.")
def main(results: tuple[Path, ...], page: Path | None) -> None:
    """Print RESULTS, written by engines.py or serving.py."""
    console = Console(width=max(Console().width, 130))
    sections = []
    for path in results:
        report, kind = read_results(path)
        tables = kind.tables(report)
        for table in tables:
            console.print(table)
        if page is not None:
            sections.append(section(path.name, report, tables=tables, pictures=kind.pictures(report)))
    if page is not None:
        page.write_text(html_page(sections))


if __name__ == "__main__":
    main()
