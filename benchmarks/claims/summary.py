"""From counts per video, network and seed to figures with intervals, and from their differences to verdicts.

The interval is over videos (the same resampled videos for everything, so differences are paired), for the mean over
the seeds that were trained; how much seeds differ is shown beside it, one value each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from claims.measurement import FULL_SUM, IOUS, PAPERS_SUM, TOUCH, Counted, Facts
from sum3dcam.evaluation.statistics import interval, pool
from sum3dcam.evaluation.tables.journal import Counts
from sum3dcam.evaluation.tables.localisation import UNCROPPED

Float64s: TypeAlias = npt.NDArray[np.float64]
Pooled: TypeAlias = Mapping[str, Float64s]
"""Sums over videos as `statistics.pool` gives them: row 0 of the data set, the others of its resamples."""

BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"


@dataclass(frozen=True)
class Measured:
    """A share for each seed, and in each resample of the videos."""

    values_S: Float64s
    samples_SR: Float64s

    def __sub__(self, other: "Measured") -> "Measured":
        return Measured(self.values_S - other.values_S, self.samples_SR - other.samples_SR)

    def figure(self) -> dict[str, Any]:
        """The mean over seeds with its 95 % interval over videos, and each seed's own value."""
        low, high = interval(self.samples_SR.mean(axis=0))
        return {
            "value": round(float(self.values_S.mean()), 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "by_seed": [round(float(value), 4) for value in self.values_S],
        }

    def verdict(self) -> str:
        """Of a difference: decided where the interval and every seed lie on one side of zero."""
        low, high = interval(self.samples_SR.mean(axis=0))
        if low > 0 and (self.values_S > 0).all():
            return BETTER
        return WORSE if high < 0 and (self.values_S < 0).all() else UNDECIDED


def measured(seeds: Sequence[Pooled], share: Callable[[Pooled], Float64s]) -> Measured:
    shares = np.stack([share(sums) for sums in seeds])
    return Measured(shares[:, 0], shares[:, 1:])


ACCURACIES: Mapping[str, Callable[[Pooled], Float64s]] = {
    "clip accuracy": lambda sums: sums["clips_right"] / sums["clips"],
    "video accuracy": lambda sums: sums["video_right"] / sums["videos"],
}


def box_accuracy(kind: str, iou: float) -> Callable[[Pooled], Float64s]:
    return lambda sums: sums[f"{kind}/box"][:, IOUS.index(iou)] / sums["frames"]


def max_box_acc(kind: str, iou: float) -> Callable[[Pooled], Float64s]:
    """V1: the best ONE threshold for the data set, chosen anew in each resample. A trivial box has none to choose."""

    def share(sums: Pooled) -> Float64s:
        if f"{kind}/sweep" not in sums:
            return box_accuracy(kind, iou)(sums)
        best: Float64s = sums[f"{kind}/sweep"][:, :, IOUS.index(iou)].max(axis=1)
        return best / sums["frames"]

    return share


def localisation(kind: str) -> dict[str, Callable[[Pooled], Float64s]]:
    """Hit point and box accuracy, both of the authors' box, and MaxBoxAcc of one map or trivial box."""
    shown = IOUS[1:]
    return {
        "hit point": box_accuracy(kind, TOUCH),
        **{f"box accuracy {iou:g}": box_accuracy(kind, iou) for iou in shown},
        **{f"MaxBoxAcc {iou:g}": max_box_acc(kind, iou) for iou in shown},
    }


def kinds_of(counts: Counts) -> list[str]:
    """The maps and trivial boxes that were counted, in the order of the counts.

    Without the uncropped frame: actors stay inside the crop, where it is the full frame.
    """
    kinds = (name.removesuffix("/box") for name in counts if name.endswith("/box"))
    return [kind for kind in kinds if kind != UNCROPPED]


GROUPS: Mapping[str, Callable[[Facts], bool]] = {
    "one shot, one action": lambda facts: not facts.cut and not facts.second_action,
    "a second action": lambda facts: facts.second_action,
    "a cut": lambda facts: facts.cut,
    "an actor below 0.2 of the height": lambda facts: facts.height_share < 0.2,
    "an actor of 0.2 and more": lambda facts: facts.height_share >= 0.2,
}

Networks: TypeAlias = Mapping[str, Sequence[Counted]]
"""Variant -> of each seed what its network got right."""


def summarise(networks: Networks, *, facts: Sequence[Facts]) -> dict[str, Any]:
    """All tables of the study, by variant, as plain values; `facts` of every test video."""
    first = next(iter(networks.values()))[0]
    accuracy = {variant: _accuracy([counted.labels for counted in seeds]) for variant, seeds in networks.items()}
    maps = {variant: _maps([counted.maps for counted in seeds]) for variant, seeds in networks.items()}
    return {
        "videos": len(first.labels),
        "clips": int(sum(counts["clips"] for counts in first.labels)),
        "map_videos": len(first.maps),
        "map_frames": int(sum(counts["frames"] for counts in first.maps)),
        "accuracy": {variant: _figures(found) for variant, found in accuracy.items()},
        "gated_minus_plain": {
            name: _difference(accuracy["gated"][name], accuracy["plain"][name]) for name in ACCURACIES
        },
        "maps": {variant: {kind: _figures(found) for kind, found in kinds.items()} for variant, kinds in maps.items()},
        "sum3dcam_minus_other": {
            variant: {
                ours: {
                    kind: {name: _difference(kinds[ours][name], found) for name, found in theirs.items()}
                    for kind, theirs in kinds.items()
                    if kind not in (FULL_SUM, PAPERS_SUM)
                }
                for ours in (FULL_SUM, PAPERS_SUM)
            }
            for variant, kinds in maps.items()
        },
        "groups": {
            name: _group(networks, chosen=[has(one) for one in facts])
            for name, has in GROUPS.items()
            if any(map(has, facts[: len(first.maps)]))
        },
    }


def _pooled(seeds: Sequence[Sequence[Counts]]) -> list[Pooled]:
    return [pool(counts, num_videos=len(counts)) for counts in seeds]


def _accuracy(seeds: Sequence[Sequence[Counts]]) -> dict[str, Measured]:
    sums = _pooled(seeds)
    return {name: measured(sums, share) for name, share in ACCURACIES.items()}


def _maps(seeds: Sequence[Sequence[Counts]]) -> dict[str, dict[str, Measured]]:
    sums = _pooled(seeds)
    return {
        kind: {name: measured(sums, share) for name, share in localisation(kind).items()}
        for kind in kinds_of(seeds[0][0])
    }


def _group(networks: Networks, *, chosen: Sequence[bool]) -> dict[str, Any]:
    """Accuracy and maps on the chosen videos."""

    def some(counts: Sequence[Counts]) -> list[Counts]:
        return [one for one, wanted in zip(counts, chosen, strict=False) if wanted]

    first = next(iter(networks.values()))[0]
    return {
        "videos": len(some(first.labels)),
        "map_videos": len(some(first.maps)),
        "accuracy": {
            variant: _figures(_accuracy([some(counted.labels) for counted in seeds]))
            for variant, seeds in networks.items()
        },
        "maps": {
            variant: {kind: _figures(found) for kind, found in _maps([some(counted.maps) for counted in seeds]).items()}
            for variant, seeds in networks.items()
        },
    }


def _figures(found: Mapping[str, Measured]) -> dict[str, Any]:
    return {name: one.figure() for name, one in found.items()}


def _difference(ours: Measured, theirs: Measured) -> dict[str, Any]:
    difference = ours - theirs
    return {**difference.figure(), "verdict": difference.verdict()}
