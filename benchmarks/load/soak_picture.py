"""A soak's results as one picture: answers, latency and memory over the same time, with the faults."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

MS, MINUTE_SECONDS = 1e3, 60.0
# Okabe and Ito's, told apart by colour-blind readers too.
ROLE_COLOURS = {
    "front ends": "#0072B2",
    "workers": "#E69F00",
    "decoders": "#56B4E9",
    "keepers": "#CC79A7",
    "exporters": "#F0E442",
    "proxy": "#009E73",
    "others": "#999999",
    "left over": "#000000",
}
GOOD, BAD, GREY = "#009E73", "#D55E00", "#666666"


def soak_picture(report: Mapping[str, Any]) -> bytes:
    """A PNG."""
    figure = Figure(figsize=(11, 9), layout="constrained")
    rates, latencies, memory = figure.subplots(3, 1, sharex=True)
    _draw_rates(rates, report)
    _draw_latencies(latencies, report["timeline"])
    _draw_memory(memory, report["memory"])
    for axes in (rates, latencies, memory):
        for fault in report["faults"]:
            axes.axvline(fault["at_seconds"] / MINUTE_SECONDS, color=GREY, linestyle=":", linewidth=0.8)
        axes.grid(alpha=0.3)
    memory.set_xlabel("minutes")
    memory.set_xlim(0, report["plan"]["seconds"] / MINUTE_SECONDS)
    answers = report["answers"]
    figure.suptitle(
        f"{answers['asked']} requests behind {report['proxy']} at {report['plan']['share']:.0%} of capacity: "
        f"{answers['right']} right, {answers['wrong']} wrong, {answers['lost']} lost"
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _draw_rates(axes: Axes, report: Mapping[str, Any]) -> None:
    timeline = report["timeline"]
    minutes = _minutes(timeline)
    axes.plot(minutes, timeline["answered_per_second"], color=GOOD, label="right answers")
    axes.plot(minutes, timeline["failed_tries_per_second"], color=BAD, label="tries that failed, and were repeated")
    axes.axhline(report["rate_per_second"], color=GREY, linewidth=1, label="offered")
    axes.set_ylabel("per second")
    axes.set_ylim(bottom=0, top=1.6 * max(report["rate_per_second"], *timeline["answered_per_second"]))
    axes.legend(loc="lower left", fontsize=8, ncols=3)
    top = axes.get_ylim()[1]
    for fault in report["faults"]:
        axes.annotate(
            fault["fault"],
            (fault["at_seconds"] / MINUTE_SECONDS, top),
            (2, -2),
            textcoords="offset points",
            rotation=90,
            va="top",
            fontsize=6,
            color=GREY,
        )


def _draw_latencies(axes: Axes, timeline: Mapping[str, Any]) -> None:
    for share, colour in ((50, "#56B4E9"), (99, "#D55E00")):
        ms = [np.nan if one is None else one * MS for one in timeline[f"p{share}_seconds"]]
        axes.plot(_minutes(timeline), ms, color=colour, label=f"p{share}")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("ms from the intended send,\nall tries included")
    axes.legend(loc="upper left", fontsize=8, title=f"in {timeline['width_seconds']:.0f} s", title_fontsize=8)


def _draw_memory(axes: Axes, memory: Mapping[str, Any]) -> None:
    minutes = np.array(memory["at_seconds"]) / MINUTE_SECONDS
    by_role = memory["mib"]
    roles = [role for role in ROLE_COLOURS if role in by_role]
    axes.stackplot(
        minutes,
        [by_role[role] for role in roles],
        labels=roles,
        colors=[ROLE_COLOURS[role] for role in roles],
        alpha=0.8,
    )
    whole = memory["slopes"]["all"]
    low, high = whole["interval"]
    warm = minutes[minutes >= memory["warm_after_seconds"] / MINUTE_SECONDS]
    line = whole["begin_mib"] + whole["mib_per_hour"] * (warm - warm[0]) / MINUTE_SECONDS
    label = f"{whole['mib_per_hour']:+.1f} MiB/h [{low:+.1f}, {high:+.1f}]"
    axes.plot(warm, line, color="black", linestyle="--", label=label)
    axes.set_ylabel("resident MiB")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left", fontsize=8, ncols=4)


def _minutes(timeline: Mapping[str, Any]) -> np.ndarray:
    return (np.array(timeline["begin_seconds"]) + timeline["width_seconds"] / 2) / MINUTE_SECONDS
