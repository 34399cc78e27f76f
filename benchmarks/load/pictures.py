"""A results file of serving.py as pictures: latency against load, a request's parts, throughput."""

import io
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from load.latency import CONFIDENCE
from load.server import NOOP
from load.tables import offline_rates

MS = 1e3
# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = {"p50": "#56B4E9", "p90": "#0072B2", "p99": "#D55E00"}
GOOD, ANSWERED, GREY = "#009E73", "#0072B2", "#666666"
PARTS = ("#E69F00", "#56B4E9", "#0072B2", "#CC79A7")  # hop, decode, compute, encode
WIDTH_INCHES, HEIGHT_INCHES = 6.4, 7.2


def serving_pictures(report: Mapping[str, Any]) -> dict[str, bytes]:
    """PNGs by what they show, as far as it was measured."""
    drawn = {"load": _load(report), "parts": _parts(report)}
    return {name: _png(figure) for name, figure in drawn.items() if figure is not None}


def write_pictures(report: Mapping[str, Any], path: Path) -> None:
    """Writes each picture as PATH's name with what it shows: serving-load.png."""
    for name, picture in serving_pictures(report).items():
        path.with_name(f"{path.stem}-{name}.png").write_bytes(picture)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _load(report: Mapping[str, Any]) -> Figure | None:
    """A column for each curve: latency percentiles above, what came of the load below."""
    curves: Sequence[Mapping[str, Any]] = report["serving"]["curve"]
    if not curves:
        return None
    figure = Figure(figsize=(WIDTH_INCHES * len(curves), HEIGHT_INCHES), layout="constrained")
    axes = figure.subplots(2, len(curves), squeeze=False, sharex="col", sharey="row", height_ratios=[3, 2])
    for column, curve in enumerate(curves):
        _draw_latencies(axes[0][column], curve)
        _draw_rates(axes[1][column], curve)
    axes[0][0].set_ylabel("ms from the intended send")
    axes[1][0].set_ylabel("requests per second")
    figure.suptitle(f"{report['model']}, {report['machine']['cores']} cores for client and server")
    return figure


def _draw_latencies(axes: Axes, curve: Mapping[str, Any]) -> None:
    points = curve["points"]
    for name, colour in COLOURS.items():
        known = [
            (point["rate_per_second"], point["percentiles"][name])
            for point in points
            if point["percentiles"][name].get("seconds") is not None
        ]
        if not known:
            continue
        rates = [rate for rate, _ in known]
        axes.plot(rates, [one["seconds"] * MS for _, one in known], "o-", color=colour, markersize=4, label=name)
        # An interval that ends among failed requests has no upper end.
        lows, highs = ([(one["interval"][end] or math.nan) * MS for _, one in known] for end in (0, 1))
        axes.fill_between(rates, lows, highs, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(points[0]["bound_seconds"] * MS, color=GREY, linestyle=":", linewidth=1, label="bound")
    axes.axvline(curve["offline_per_second"], color=GREY, linestyle="--", linewidth=1, label="offline throughput")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.set_title(f"{curve['transport']}, {curve['payload']} of {curve['input']}")
    axes.legend(loc="upper left", fontsize=8, title=f"band: {CONFIDENCE:.0%} interval", title_fontsize=8)


def _draw_rates(axes: Axes, curve: Mapping[str, Any]) -> None:
    points = curve["points"]
    rates = [point["rate_per_second"] for point in points]
    axes.plot(rates, rates, color=GREY, linewidth=1, label="offered")
    for name, colour, label in (("answered", ANSWERED, "answered"), ("goodput", GOOD, "within the bound")):
        axes.plot(
            rates, [point[f"{name}_per_second"] for point in points], "o-", color=colour, markersize=4, label=label
        )
    axes.axvline(curve["offline_per_second"], color=GREY, linestyle="--", linewidth=1)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.set_xlabel("requests per second intended (Poisson)")
    axes.legend(loc="upper left", fontsize=8)


def _parts(report: Mapping[str, Any]) -> Figure | None:
    """Left, one request's time part by part beside what was measured; right, throughput beside the predictor's own."""
    found = report["serving"]
    cases = [row for row in found["single_stream"] if row["model"] != NOOP and offline_rates(found, like=row)]
    if not found["phases"] or not cases:
        return None
    figure = Figure(figsize=(2 * WIDTH_INCHES, 0.62 * len(cases) + 2.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, case in enumerate(cases):
        _draw_parts(left, found, case, place=place)
        _draw_throughput(right, found, case, place=place)
    left.set_yticks(range(len(cases)), [f"{case['payload']} of {case['input']}, {case['transport']}" for case in cases])
    left.invert_yaxis()
    left.set_xlabel("ms, medians; diamond: the request as a whole (SingleStream p50)")
    right.set_xlabel("answers per second; line: min..max of the rounds")
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        handles, labels = axes.get_legend_handles_labels()
        once = dict(zip(labels, handles, strict=True))
        axes.legend(
            once.values(),
            once.keys(),
            fontsize=8,
            loc="upper center",
            bbox_to_anchor=(0.5, 1.0 + 0.5 / len(cases)),
            ncols=5,
        )
    figure.suptitle(f"{report['model']}, {report['machine']['cores']} cores for client and server")
    return figure


def _draw_parts(axes: Axes, found: Mapping[str, Any], case: Mapping[str, Any], *, place: int) -> None:
    phases = next(
        row["seconds"] for row in found["phases"] if (row["payload"], row["input"]) == (case["payload"], case["input"])
    )
    hop = _like(found["single_stream"], {**case, "model": NOOP})["percentiles"]["p50"].get("seconds") or 0.0
    left = 0.0
    for (name, seconds), colour in zip(
        [("hop", hop), *((name, statistics.median(values)) for name, values in phases.items())], PARTS, strict=True
    ):
        axes.barh(place, seconds * MS, left=left, color=colour, height=0.7, label=name)
        left += seconds * MS
    whole = case["percentiles"]["p50"].get("seconds")
    if whole is not None:
        axes.plot(whole * MS, place, "D", color="black", markersize=5, label="as a whole")


def _draw_throughput(axes: Axes, found: Mapping[str, Any], case: Mapping[str, Any], *, place: int) -> None:
    own = [
        row["per_second"]
        for row in found["in_process"]
        if (row["payload"], row["input"]) == (case["payload"], case["input"])
    ]
    for offset, (name, rates, colour) in enumerate(
        (("in process", own, GREY), ("served", offline_rates(found, like=case), ANSWERED))
    ):
        at, middle = place - 0.18 + 0.36 * offset, statistics.median(rates)
        axes.barh(at, middle, height=0.34, color=colour, label=name)
        axes.hlines(at, min(rates), max(rates), color="black", linewidth=1)
        axes.annotate(f"{middle:.1f}", (max(rates), at), (5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.margins(x=0.12)


def _like(rows: Sequence[Mapping[str, Any]], case: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(
        row for row in rows if all(row[name] == case[name] for name in ("model", "transport", "payload", "input"))
    )
