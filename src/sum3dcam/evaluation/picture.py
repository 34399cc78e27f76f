"""A summary as a picture: MaxBoxAcc of every map with its interval, and how it depends on the threshold."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sum3dcam.evaluation.kinds import COMPARATOR, GRAD_CAM, THREE_D_CAM, TRIVIAL
from sum3dcam.evaluation.summary import Row, Summary

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = {THREE_D_CAM: "#0072B2", GRAD_CAM: "#D55E00", COMPARATOR: "#009E73", TRIVIAL: "#666666"}
LINES = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#CC79A7")
SHOWN_IOUS = (0.3, 0.5)


def write_picture(summary: Summary, path: Path, *, title: str) -> None:
    """Writes a PNG: for each IoU of `SHOWN_IOUS` that was asked for (else for all asked), bars above, curves below."""
    ious = [iou for iou in summary.settings.ious if iou in SHOWN_IOUS] or list(summary.settings.ious)
    indices = [summary.settings.ious.index(iou) for iou in ious]
    bars_height = 0.3 * len(summary.rows) + 0.6
    figure = Figure(figsize=(6.4 * len(ious), bars_height + 5.4), layout="constrained")
    axes = figure.subplots(2, len(ious), squeeze=False, sharex="row", sharey="row", height_ratios=[bars_height, 3.4])
    best = _best_maps(summary.rows, iou_indices=indices)
    for column, (iou, index) in enumerate(zip(ious, indices, strict=True)):
        _draw_bars(axes[0][column], summary.rows, iou_index=index)
        _draw_curves(axes[1][column], best, trivial=_trivial(summary.rows), iou_index=index)
        axes[0][column].set_title(f"MaxBoxAcc V1 at IoU {iou:g}")
    axes[0][0].invert_yaxis()
    axes[1][0].set_ylabel("share of frames")
    figure.legend(*axes[1][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=110)


def _trivial(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.family == TRIVIAL]


def _best_maps(rows: Sequence[Row], *, iou_indices: Sequence[int]) -> list[Row]:
    """As many as there are colours, the best on average over the IoUs shown: more lines cannot be told apart."""
    maps = [row for row in rows if row.family != TRIVIAL]
    maps.sort(key=lambda row: -sum(row.max_box_acc["v1"][index].share.value for index in iou_indices))
    return maps[: len(LINES)]


def _draw_bars(axes: Axes, rows: Sequence[Row], *, iou_index: int) -> None:
    for position, row in enumerate(rows):
        share = row.max_box_acc["v1"][iou_index].share
        low, high = min(share.low, share.value), max(share.high, share.value)
        axes.barh(position, share.value, color=COLOURS[row.family], height=0.7)
        spread = [[share.value - low], [high - share.value]]
        axes.errorbar(share.value, position, xerr=spread, color="black", capsize=2, linewidth=1)
        # On white: a bar's figure may fall on the dashed line.
        text = axes.annotate(f"{100 * share.value:.1f}", (high, position), (5, 0), textcoords="offset points")
        text.set(va="center", fontsize=8, bbox={"color": "white", "pad": 1})
    best_trivial = max(row.max_box_acc["v1"][iou_index].share.value for row in _trivial(rows))
    axes.axvline(best_trivial, color=COLOURS[TRIVIAL], linestyle="--", linewidth=1, label="best trivial box", zorder=0)
    axes.legend(fontsize=8)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.margins(x=0.18)
    axes.set_xlim(left=0)
    axes.set_xlabel("share of frames, 95 % interval over videos")


def _draw_curves(axes: Axes, maps: Sequence[Row], *, trivial: Sequence[Row], iou_index: int) -> None:
    for row, colour in zip(maps, LINES, strict=False):
        axes.plot(row.parameters, row.max_box_acc["v1"][iou_index].curve_P, color=colour, label=row.name)
    for row, style in zip(trivial, ("-", "--", ":"), strict=True):
        share = row.max_box_acc["v1"][iou_index].share.value
        axes.axhline(share, color=COLOURS[TRIVIAL], linestyle=style, linewidth=1, label=row.name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("threshold t, one for the data set")
