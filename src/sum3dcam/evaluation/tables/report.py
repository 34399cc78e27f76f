"""A table's result to read, as JSON and as CSV."""

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sum3dcam.evaluation.kinds import TRIVIAL
from sum3dcam.evaluation.statistics import CONFIDENCE, Estimate
from sum3dcam.evaluation.tables.result import BOX, MEASURED, ONE_THRESHOLD, ORACLE, SERVED, Result, ResultRow

PAPER = "paper"
MEANINGS: Mapping[str, str] = {
    SERVED: "the box that a server answers with by default, the authors' rule: pixels at or above mean + 0.5 (max - "
    "mean) of their frame, and the tight box of all of them",
    ONE_THRESHOLD: "the largest contour at ONE threshold for the data set, the best for each column (MaxBoxAcc)",
    ORACLE: "the paper's wording: the best threshold and contour of every single frame, which no method could know",
    BOX: "the row's own, the same in every frame",
    MEASURED: "share of clips, and of videos by the mean of their clips' softmax",
    PAPER: "what the paper printed; - where that is not recorded here",
}


def figure(value: float) -> str:
    """A share as the paper prints it.

    >>> figure(0.8369), figure(1.0), figure(float("nan"))
    ('.837', '1.000', '-')
    """
    return "-" if value != value else f"{value:.3f}".removeprefix("0")


def cell(value: Estimate | None) -> str:
    """The share and its interval.

    >>> cell(Estimate(0.8369, 0.8212, 0.85)), cell(None)
    ('.837 [.82-.85]', '-')
    """
    if value is None:
        return "-"
    low, high = (f"{bound:.2f}".removeprefix("0") for bound in (value.low, value.high))
    return f"{figure(value.value)} [{low}-{high}]"


def render(result: Result, *, title: str) -> RenderableType:
    """The table with the paper's line below each row's own, and what the lines mean."""
    table = Table(title=f"Table {result.number}: {title}", caption_justify="left")
    table.add_column("row", no_wrap=True)
    table.add_column("", no_wrap=True)
    for column in result.columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in result.rows:
        style = "dim" if row.family == TRIVIAL else None
        lines = _text_lines(row, result.columns)
        for number, (name, cells) in enumerate(lines):
            table.add_row(
                row.name if number == 0 else "", name, *cells, style=style, end_section=number + 1 == len(lines)
            )
    used = {line.name for row in result.rows for line in row.lines} | {PAPER}
    missing = [row.name for row in result.rows if not row.lines and not row.paper]
    notes = [*([f"Not measured: {', '.join(missing)}."] if missing else []), *result.notes]
    facts = [", ".join(f"{count:,} {what}" for what, count in result.counts.items()) + "."]
    facts += [f"{name.capitalize()} {cell(value)}." for name, value in result.accuracy.items()]
    legend = [f"{name}: {meaning}." for name, meaning in MEANINGS.items() if name in used]
    interval = f"In brackets: {100 * CONFIDENCE:.0f} % interval, percentile bootstrap over videos."
    return Group(table, Text(" ".join(facts)), Text("\n".join([*legend, interval, *notes])))


def _text_lines(row: ResultRow, columns: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    lines = [(line.name, [cell(line.values.get(column)) for column in columns]) for line in row.lines]
    if row.family == TRIVIAL or not (row.lines or row.paper):
        return lines
    return [*lines, (PAPER, [figure(row.paper.get(column, math.nan)) for column in columns])]


def to_json(result: Result, *, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """All figures, with how they came about; shares in [0,1]."""
    return {
        "format": "sum3dcam-table",
        "version": 1,
        **provenance,
        "table": result.number,
        "title": result.title,
        "counts": dict(result.counts),
        "accuracy": {name: vars(value) for name, value in result.accuracy.items()},
        "confidence": CONFIDENCE,
        "lines": dict(MEANINGS),
        "rows": [
            {
                "name": row.name,
                "family": row.family,
                "paper": dict(row.paper),
                **{line.name: {name: vars(value) for name, value in line.values.items()} for line in row.lines},
            }
            for row in result.rows
        ],
        "notes": list(result.notes),
    }


def to_csv(result: Result) -> str:
    """A row for each figure: row, line, column, value, low, high, paper; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "line", "column", "value", "low", "high", "paper"])
    for row in result.rows:
        lines = [(line.name, line.values) for line in row.lines] or [("", {})]
        for name, values in lines:
            for column in result.columns:
                found = values.get(column)
                figures = ["", "", ""] if found is None else [f"{x:.6f}" for x in (found.value, found.low, found.high)]
                writer.writerow([row.name, name, column, *figures, row.paper.get(column, "")])
    return text.getvalue()
