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
from load.tables import serving_shares, serving_tables
from rich.console import Console
from rich.table import Table

MS = 1e3


EAGER: Mapping[str, str] = {"labels": "eager"}
ONE_BACKWARD = "eager, one backward"


def engines_table(report: Mapping[str, Any]) -> Table:
    """Each program at each batch size: milliseconds per clip, share of the peak, and how it compares."""
    roof = statistics.median(roof["flop_per_second"] for roof in report["roofs"])
    where = f"{report['threads']} threads of {report['machine']['processor']}"
    if report.get("device", "cpu") != "cpu":
        where = report["device"]
    title = (
        f"{report['model']} {'x'.join(str(size) for size in report['clip'][:3])}, {where}; "
        f"fp32 product peak {roof / 1e9:.0f} GFLOP/s"
    )
    table = Table(title=title, title_justify="left")
    for column in ("program", "asked for", "batch"):
        table.add_column(column)
    for column in ("ms per clip", "min..max", "of peak", "/ labels", "eager / this"):
        table.add_column(column, justify="right")
    medians = engine_medians(report)
    for row in sorted(report["seconds_per_clip"], key=lambda row: (row["kind"], row["batch"], _median(row))):
        name, kind, batch, precision = row["name"], row["kind"], row["batch"], row.get("precision", "fp32")
        median, labels = (
            _median(row),
            medians.get(("eager" if name == ONE_BACKWARD else name, "labels", precision, batch)),
        )
        # Peers go forward once or several times: they have no share of this graph's work.
        share = report["flop_per_clip"][kind] / median / roof if name not in PEERS else None
        eager = medians.get((EAGER.get(kind, ONE_BACKWARD), kind, "fp32", batch))
        table.add_row(
            *(f"{name}, {precision}" if precision != "fp32" else name, kind, str(batch), f"{median * MS:.1f}"),
            f"{min(row['samples']) * MS:.1f}..{max(row['samples']) * MS:.1f}",
            f"{share:.0%}" if share is not None else "",
            f"{median / labels:.2f}" if kind != "labels" and labels else "",
            f"{eager / median:.2f}" if eager else "",
        )
    return table


PEERS = ("captum", "pytorch-grad-cam")
Case = tuple[str, str, str, int]


def engine_medians(report: Mapping[str, Any]) -> dict[Case, float]:
    """Seconds per clip by program, kind, precision and batch size."""
    return {
        (row["name"], row["kind"], row.get("precision", "fp32"), row["batch"]): _median(row)
        for row in report["seconds_per_clip"]
    }


def _median(row: Mapping[str, Any]) -> float:
    return statistics.median(row["samples"])


def engine_ratios(report: Mapping[str, Any]) -> dict[str, float]:
    """How many times as fast as eager torch each program was, which a slower or a busier machine changes little."""
    medians = engine_medians(report)
    return {
        f"{name}, {precision}, {kind}, batch {batch}: eager / this": eager / seconds
        for (name, kind, precision, batch), seconds in medians.items()
        if (eager := medians.get((EAGER.get(kind, ONE_BACKWARD), kind, "fp32", batch))) and name != "eager"
    }


Report = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """How one program's results are shown."""

    tables: Callable[[Report], list[Table]]
    ratios: Callable[[Report], Mapping[str, float]]
    pictures: Callable[[Report], Mapping[str, bytes]] = lambda report: {}


# By the key that only this program's results have.
KINDS: Mapping[str, Kind] = {
    "seconds_per_clip": Kind(lambda report: [engines_table(report)], engine_ratios),
    "serving": Kind(serving_tables, serving_shares, serving_pictures),
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
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Say which ratios have moved since the results in this folder; exit code 1 where one has become worse.",
)
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), help="Write all of them as one HTML page too.")
def main(results: tuple[Path, ...], against: Path | None, page: Path | None) -> None:
    """Print RESULTS, written by engines.py or serving.py."""
    console = Console(width=max(Console().width, 130))
    sections, worse = [], False
    for path in results:
        report, kind = read_results(path)
        tables = kind.tables(report)
        if against is not None and (before := _like(report, kind, folder=against)) is not None:
            moved = moved_ratios(kind.ratios(report), before=kind.ratios(before))
            tables.append(_moved_table(moved, title=f"{path.name}: ratios that moved since {against}"))
            worse = worse or any(now < then for now, then in moved.values())
        for table in tables:
            console.print(table)
        if page is not None:
            sections.append(section(path.name, report, tables=tables, pictures=kind.pictures(report)))
    if page is not None:
        page.write_text(html_page(sections))
    if worse:
        raise click.ClickException(f"a ratio has become worse by more than {MOVED - 1:.0%}")


# Ratios of two medians of a few runs on a shared machine differ by as much as that from run to run.
MOVED = 1.35


def moved_ratios(now: Mapping[str, float], *, before: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """(now, before) of those in both whose quotient, or its inverse, is beyond MOVED."""
    both = {name: (now[name], before[name]) for name in now if name in before}
    return {name: pair for name, pair in both.items() if max(pair) > MOVED * min(pair)}


def _like(report: Report, kind: Kind, *, folder: Path) -> Report | None:
    """The folder's results of the same program on the same model, clip and kind of device; None if there are none."""
    for path in sorted(folder.glob("*.json")):
        before = json.loads(path.read_text())
        same = ("model", "clip", "device")
        if any(KINDS[key] is kind for key in KINDS if key in before) and all(
            before.get(key) == report.get(key) for key in same
        ):
            found: Report = before
            return found
    return None


def _moved_table(moved: Mapping[str, tuple[float, float]], *, title: str) -> Table:
    table = Table(title=title if moved else f"{title}: none", title_justify="left", show_header=bool(moved))
    for column in ("ratio", "now", "then", ""):
        table.add_column(column, justify="left" if column == "ratio" else "right")
    for name, (now, then) in moved.items():
        table.add_row(name, f"{now:.2f}", f"{then:.2f}", "better" if now > then else "worse")
    return table


if __name__ == "__main__":
    main()
