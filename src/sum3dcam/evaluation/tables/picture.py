"""A table's result as a picture: a panel for each column, a bar for each row, the paper's figure beside it."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sum3dcam.evaluation.kinds import TRIVIAL
from sum3dcam.evaluation.picture import COLOURS
from sum3dcam.evaluation.tables.result import ORACLE, Result, ResultRow

PANELS_PER_LINE = 4


def write_picture(result: Result, path: Path, *, title: str) -> None:
    """Writes a PNG: per column the first line of each row with its interval, the oracle, the paper's figure."""
    rows = [row for row in result.rows if row.lines or row.paper]
    num_columns = min(PANELS_PER_LINE, len(result.columns))
    num_lines = -(-len(result.columns) // num_columns)
    size = (2.0 + 3.4 * num_columns, num_lines * (0.28 * len(rows) + 1.2) + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(num_lines, num_columns, squeeze=False, sharey=True).ravel()
    for one, column in zip(axes, result.columns, strict=False):
        _draw(one, rows, column=column)
        one.label_outer(remove_inner_ticks=False)
    for unused in axes[len(result.columns) :]:
        unused.set_visible(False)
    axes[0].set_yticks(range(len(rows)), [row.name for row in rows])
    axes[0].invert_yaxis()
    handles = {label: handle for one in axes for handle, label in zip(*one.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, fontsize=9)
    figure.suptitle(f"Table {result.number}: {title}")
    figure.savefig(path, format="png", dpi=110)


def _draw(axes: Axes, rows: Sequence[ResultRow], *, column: str) -> None:
    for place, row in enumerate(rows):
        lines = {line.name: line.values[column] for line in row.lines if column in line.values}
        if lines:
            first = next(iter(lines.values()))
            axes.barh(place, first.value, color=COLOURS.get(row.family, "#0072B2"), height=0.7)
            spread = [[max(0.0, first.value - first.low)], [max(0.0, first.high - first.value)]]
            axes.errorbar(first.value, place, xerr=spread, color="black", capsize=2, linewidth=1)
        if ORACLE in lines:
            axes.plot(lines[ORACLE].value, place, "|", color="black", markersize=9, label="oracle")
        if column in row.paper:
            axes.plot(row.paper[column], place, "D", color="#E69F00", markersize=5, label="paper")
    best = [line.values[column].value for row in rows if row.family == TRIVIAL for line in row.lines[:1]]
    if best:
        axes.axvline(max(best), color=COLOURS[TRIVIAL], linestyle="--", linewidth=1, label="best trivial row", zorder=0)
    axes.set_xlim(0, 1)
    axes.set_title(column)
