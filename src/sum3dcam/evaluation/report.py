"""A summary as a table to read and as JSON to keep."""

import json
import re
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sum3dcam.evaluation.kinds import THREE_D_CAM, TRIVIAL
from sum3dcam.evaluation.statistics import CONFIDENCE, Estimate
from sum3dcam.evaluation.summary import Row, Summary

EXPLAINED = {"true": "the ground-truth class", "top": "the top class"}

CONVENTIONS = (
    "MaxBoxAcc (Choe et al. 2020): each frame's map min-max normalised, uint8, pixels strictly above int(t * max), "
    "ONE t for the data set (the best, per IoU); V1 the largest contour, V2 any contour; IoU of inclusive pixels. "
    "Boxes are compared in map pixels of the centre crop; ground truth outside the crop is cut off, and frames "
    "without any, or repeated to fill a clip, are not counted. Oracle: the best t and contour of every single frame, "
    "which no method could know. Point: the map's peak within 15 source pixels of the box. Empty: clips whose map is "
    "all zero. Intervals: 95 %, percentile bootstrap over videos. Bold, or clearly better: the difference to every "
    "trivial box, on the same resampled videos, has its whole interval above zero."
)


def percent(estimate: Estimate) -> str:
    """The share and its interval in per cent.

    >>> percent(Estimate(value=0.5, low=0.401, high=0.6))
    '50.0 [40-60]'
    """
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.0f}-{100 * estimate.high:.0f}]"


def _iou(value: float) -> str:
    return f"{value:.2f}".rstrip("0").lstrip("0")


def render(summary: Summary, *, title: str) -> RenderableType:
    """The table, with the accuracy above and the conventions and the verdict below."""
    settings = summary.settings
    accuracy = Text(
        f"clip accuracy {percent(summary.clip_accuracy)} %, video accuracy {percent(summary.video_accuracy)} % "
        f"({summary.num_videos} videos, {summary.num_clips} clips; {summary.num_frames} frames with ground truth)"
    )
    table = Table(title=title, caption_justify="left")
    table.caption = f"Per cent of frames. Explained: {EXPLAINED[settings.target]}. {CONVENTIONS}"
    table.add_column("map", no_wrap=True)
    for iou in settings.ious:
        table.add_column(f"V1 IoU {_iou(iou)}", justify="right", no_wrap=True)
    middle = len(settings.ious) // 2
    table.add_column(f"t at {_iou(settings.ious[middle])}", justify="right")
    table.add_column("V2 mean", justify="right")
    table.add_column(f"oracle {_iou(settings.ious[middle])}", justify="right")
    table.add_column("point 15", justify="right")
    table.add_column("peak in box", justify="right")
    table.add_column("empty", justify="right")
    for index, row in enumerate(summary.rows):
        ends_family = index + 1 < len(summary.rows) and summary.rows[index + 1].family != row.family
        curves = row.max_box_acc["v1"]
        table.add_row(
            row.name,
            *(
                Text(percent(curve.share), style="bold green" if row.beats_trivial["v1"][i] else "")
                for i, curve in enumerate(curves)
            ),
            f"{row.parameters[curves[middle].best]:.2f}",
            "-" if row.v2_mean is None else f"{100 * row.v2_mean:.1f}",
            f"{100 * row.oracle[middle].value:.1f}",
            f"{100 * row.pointed.value:.1f}",
            f"{100 * row.peak_inside.value:.1f}",
            f"{100 * row.empty_clips:.0f} %" if row.empty_clips else "",
            style="dim" if row.family == TRIVIAL else None,
            end_section=ends_family,
        )
    return Group(accuracy, table, Text("\n".join(verdict(summary))))


def verdict(summary: Summary) -> list[str]:
    """In words, per IoU: which 3DCAM maps are clearly better than every trivial box, and which are not."""
    lines = []
    rows = [row for row in summary.rows if row.family == THREE_D_CAM]
    for i, iou in enumerate(summary.settings.ious):
        better = [row.name for row in rows if row.beats_trivial["v1"][i]]
        others = [row.name for row in rows if not row.beats_trivial["v1"][i]]
        lines.append(
            f"IoU {_iou(iou)} (V1), clearly better than every trivial box: {', '.join(better) or 'none'}; "
            f"not: {', '.join(others) or 'none'}."
        )
    return lines


def to_json(summary: Summary, *, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The whole summary, with how it came about; shares in [0,1]."""
    return {
        "format": "sum3dcam-evaluation",
        "version": 1,
        **provenance,
        "counts": {"videos": summary.num_videos, "clips": summary.num_clips, "frames": summary.num_frames},
        "settings": {
            "target": summary.settings.target,
            "thresholds": list(summary.settings.thresholds),
            "ious": list(summary.settings.ious),
            "confidence": CONFIDENCE,
            "conventions": CONVENTIONS,
        },
        "accuracy": {"clip": vars(summary.clip_accuracy), "video": vars(summary.video_accuracy)},
        "saliency_against_grids_max_difference": summary.saliency_difference,
        "maps": [_row_json(row, ious=summary.settings.ious) for row in summary.rows],
        "verdict": verdict(summary),
    }


def dumps(tree: Mapping[str, Any]) -> str:
    """JSON with a key per line but a list of plain values on one: a curve of fifty points stays readable in a diff.

    >>> print(dumps({"a": [1, 2]}))
    {
     "a": [1, 2]
    }
    """
    text = json.dumps(tree, indent=1, allow_nan=False)
    # A string never holds a raw line break, so only the space between values is taken out.
    return re.sub(r"\[\n[^\[\]{}]*\]", lambda plain: re.sub(r"\n\s*", "", plain[0].replace(",\n", ", \n")), text)


def _row_json(row: Row, *, ious: tuple[float, ...]) -> dict[str, Any]:
    return {
        "name": row.name,
        "family": row.family,
        "method": row.method,
        "taps": list(row.taps),
        "max_box_acc": {
            version: {
                str(iou): {
                    **vars(curve.share),
                    "parameter": row.parameters[curve.best],
                    "beats_trivial": row.beats_trivial[version][i],
                    "curve": [round(float(share), 6) for share in curve.curve_P],
                }
                for i, (iou, curve) in enumerate(zip(ious, curves, strict=True))
            }
            for version, curves in row.max_box_acc.items()
        },
        "v2_mean": row.v2_mean,
        "parameters": list(row.parameters),
        "oracle": {str(iou): vars(share) for iou, share in zip(ious, row.oracle, strict=True)},
        "pointing_15px": vars(row.pointed),
        "peak_in_box": vars(row.peak_inside),
        "empty_clips": row.empty_clips,
    }
