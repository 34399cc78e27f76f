"""The checks as tables to read and as JSON to keep."""

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sum3dcam.evaluation.checks.perturbation import BETTER, CURVES, Perturbation
from sum3dcam.evaluation.checks.randomisation import CONTROLS, OTHER_CLASS, OTHER_VIDEO, STRIDE_PX, Randomisation
from sum3dcam.evaluation.kinds import TRIVIAL
from sum3dcam.evaluation.report import percent
from sum3dcam.evaluation.statistics import CONFIDENCE, Estimate

RANDOMISATION = (
    "Correlation of a map with the intact network's map of the same clip and class, after the weights of a stage and "
    "of all above it (head: all behind the last tap, and the gates) were permuted within their tensors; an empty map "
    f"counts as 0. '{OTHER_CLASS}': with the intact network's map of the same clip for the class half the list away; "
    f"'{OTHER_VIDEO}': with that of the video before, which is what maps of that kind have in common. A correlation "
    "that does not fall means that the map does not depend on what those weights learnt: it shows edges, movement or "
    f"the centre, not reasons. Over every {STRIDE_PX}nd row and column of the first clip of each video. Intervals: "
    "95 %, percentile bootstrap over videos."
)
PERTURBATION = (
    "Area under the softmax of the ground-truth class in per cent, as voxels change in order of saliency in equal "
    "steps, equal voxels in random order. Insertion (higher is better): from the blurred clip to the clip. Deletion "
    "(lower is better): from the clip to its mean pixel. First clip of each video. Bold: the 95 % interval of the "
    "paired difference to every order that knows nothing of the network (random voxels, random blobs, nearest the "
    "centre) lies on the better side of zero. Changed clips are unlike any that the network saw, and an order of "
    "scattered voxels can break its score without showing what it saw: read both areas together."
)


def signed(estimate: Estimate) -> str:
    """A correlation, and its interval below it.

    >>> print(signed(Estimate(value=-0.05, low=-0.1, high=0.004)))
    -0.05
    [-0.10, 0.00]
    """
    return f"{estimate.value:.2f}\n[{estimate.low:.2f}, {estimate.high:.2f}]"


def render_randomisation(found: Randomisation) -> RenderableType:
    """The rank correlations; the stages from left to right are those from the top down."""
    table = Table(title="Cascading randomisation: rank correlation with the intact network's map", show_lines=True)
    table.add_column("map", no_wrap=True)
    for place in found.stages:
        table.add_column(place if place == found.stages[0] else f"+ {place}", justify="right", no_wrap=True)
    for control in CONTROLS:
        table.add_column(control, justify="right", no_wrap=True)
    for row in found.rows:
        ranks = row.similarity["spearman"]
        cells = [f"{signed(ranks[stage])}{_empty(row.empty[stage])}" for stage in found.stages]
        table.add_row(row.kind.name, *cells, *(signed(ranks[control]) for control in CONTROLS))
    return Group(table, Text(RANDOMISATION))


def _empty(share: float) -> str:
    return f"\n{100 * share:.0f} % empty" if share >= 0.005 else ""


def render_perturbation(found: Perturbation) -> RenderableType:
    table = Table(title="Insertion and deletion")
    table.add_column("order of the voxels", no_wrap=True)
    for curve in CURVES:
        table.add_column(f"{curve} area", justify="right", no_wrap=True)
    for index, row in enumerate(found.rows):
        cells = [
            Text(percent(row.area[curve]), style="bold green" if row.beats_trivial[curve] else "") for curve in CURVES
        ]
        last_of_family = index + 1 < len(found.rows) and found.rows[index + 1].kind.family != row.kind.family
        style = "dim" if row.kind.family == TRIVIAL else None
        table.add_row(row.kind.name, *cells, style=style, end_section=last_of_family)
    return Group(table, Text(PERTURBATION))


def randomisation_json(found: Randomisation) -> dict[str, Any]:
    return {
        "definition": RANDOMISATION,
        "confidence": CONFIDENCE,
        "videos": found.num_videos,
        "draw": "a permutation of each tensor's values",
        "seeds": list(found.seeds),
        "stages": list(found.stages),
        "maps": [
            {
                "name": row.kind.name,
                "method": row.kind.method,
                "taps": list(row.kind.taps),
                "similarity": {
                    name: {place: _plain(value) for place, value in places.items()}
                    for name, places in row.similarity.items()
                },
                "similarity_by_draw": {
                    name: {stage: [_defined(value) for value in values] for stage, values in places.items()}
                    for name, places in row.by_draw.items()
                },
                "empty": dict(row.empty),
            }
            for row in found.rows
        ],
    }


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {name: _defined(value) for name, value in vars(estimate).items()}


def _defined(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def perturbation_json(found: Perturbation) -> dict[str, Any]:
    return {
        "definition": PERTURBATION,
        "confidence": CONFIDENCE,
        "videos": found.num_videos,
        "steps": found.num_steps,
        "better": {curve: "higher" if sign > 0 else "lower" for curve, sign in BETTER.items()},
        "orders": [
            {
                "name": row.kind.name,
                "family": row.kind.family,
                "method": row.kind.method or None,
                "taps": list(row.kind.taps),
                **{
                    curve: {
                        **vars(row.area[curve]),
                        "beats_trivial": row.beats_trivial[curve],
                        "scores": [round(float(score), 6) for score in row.scores_S[curve]],
                    }
                    for curve in CURVES
                },
            }
            for row in found.rows
        ],
    }


def to_json(results: Mapping[str, Mapping[str, Any]], *, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The results by the check's name, with how they came about."""
    return {"format": "sum3dcam-checks", "version": 1, **provenance, **results}
