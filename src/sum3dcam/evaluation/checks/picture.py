"""The checks as pictures: how similarity falls with the randomised weights, and the areas of insertion and deletion."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sum3dcam.evaluation.checks.perturbation import CURVES, Perturbation
from sum3dcam.evaluation.checks.randomisation import CONTROLS, SIMILARITIES, Randomisation
from sum3dcam.evaluation.kinds import TRIVIAL
from sum3dcam.evaluation.picture import COLOURS, LINES
from sum3dcam.evaluation.statistics import Estimate

PANELS = 2  # columns of the picture: both checks have two results side by side
MARKERS = ("o", "s", "^", "D", "v", "P")
WORDS = {"insertion": "insertion (higher is better)", "deletion": "deletion (lower is better)"}

AREA_LABEL = (
    "area under the class's softmax, 95 % interval over videos\nbold: clearly better; dashed: best trivial order"
)

Draw = Callable[[Sequence[Axes]], None]  # one row of panels


def write_picture(draws: Sequence[tuple[float, Draw]], path: Path, *, title: str) -> None:
    """Writes a PNG with one row of panels per check; each comes with its height in inches."""
    heights = [height for height, _ in draws]
    figure = Figure(figsize=(13.0, sum(heights) + 0.8), layout="constrained")
    rows = figure.subfigures(len(draws), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (_, draw) in zip(rows, draws, strict=True):
        draw(part.subplots(1, PANELS, sharey=True))
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=110)


def randomisation_row(found: Randomisation) -> tuple[float, Draw]:
    def draw(axes: Sequence[Axes]) -> None:
        places = np.arange(1 + len(found.stages))  # place 0 is the intact network, like itself
        apart = len(places) + 0.3 + np.arange(len(CONTROLS))
        for panel, similarity in zip(axes, SIMILARITIES, strict=True):
            for index, row in enumerate(found.rows):
                # Side by side, so that the intervals can be told apart.
                shift = (index - (len(found.rows) - 1) / 2) * 0.06
                stages = [row.similarity[similarity][stage] for stage in found.stages]
                look = _look(index)
                values, spread = [1.0, *(value.value for value in stages)], np.hstack([[[0], [0]], _spread(stages)])
                panel.errorbar(places + shift, values, yerr=spread, label=row.kind.name, **look)
                others = [row.similarity[similarity][control] for control in CONTROLS]
                heights = [other.value for other in others]
                panel.errorbar(apart + shift, heights, yerr=_spread(others), **{**look, "linestyle": "none"})
            panel.axvline(len(places) - 0.35, color=COLOURS[TRIVIAL], linewidth=1)
            panel.axhline(0, color=COLOURS[TRIVIAL], linewidth=0.8, linestyle="--")
            names = ["intact", *(f"+ {stage}" if index else stage for index, stage in enumerate(found.stages))]
            panel.set_xticks([*places, *apart], [*names, *(control.replace(" ", "\n") for control in CONTROLS)])
            panel.set_xlabel("weights randomised so far, from the top down")
            panel.set_title(f"{similarity.capitalize()} correlation with the intact network's map", fontsize=11)
        axes[0].set_ylabel("mean, 95 % interval over videos")
        axes[1].legend(fontsize=9)

    return 4.6, draw


def _look(index: int) -> dict[str, Any]:
    colour, marker = LINES[index % len(LINES)], MARKERS[index % len(MARKERS)]
    return {"color": colour, "marker": marker, "markersize": 5, "capsize": 2, "linewidth": 1.5}


def _spread(values: Sequence[Estimate]) -> npt.NDArray[np.float64]:
    """How far the intervals reach below and above, (2,n)."""
    return np.array([[value.value - value.low, value.high - value.value] for value in values]).T.clip(0)


def perturbation_row(found: Perturbation) -> tuple[float, Draw]:
    def draw(axes: Sequence[Axes]) -> None:
        for panel, curve in zip(axes, CURVES, strict=True):
            for position, row in enumerate(found.rows):
                value = row.area[curve]
                panel.barh(position, value.value, color=COLOURS[row.kind.family], height=0.7)
                panel.errorbar(value.value, position, xerr=_spread([value]), color="black", capsize=2, linewidth=1)
                text = panel.annotate(
                    f"{100 * value.value:.1f}", (value.high, position), (5, 0), textcoords="offset points"
                )
                weight = "bold" if row.beats_trivial[curve] else "normal"
                text.set(va="center", fontsize=8, fontweight=weight, bbox={"color": "white", "pad": 1})
            trivial = [row.area[curve].value for row in found.rows if row.kind.family == TRIVIAL]
            best = max(trivial) if curve == "insertion" else min(trivial)
            panel.axvline(best, color=COLOURS[TRIVIAL], linestyle="--", linewidth=1, zorder=0)
            panel.set_yticks(range(len(found.rows)), [row.kind.name for row in found.rows])
            panel.margins(x=0.15)
            panel.set_xlim(left=0)
            panel.set_xlabel(AREA_LABEL)
            panel.set_title(WORDS[curve], fontsize=11)
        axes[0].invert_yaxis()

    return 0.3 * len(found.rows) + 1.2, draw
