"""Cascading randomisation (Adebayo et al., NeurIPS 2018): do the maps change when the network forgets?

The artefact's own weights are permuted from the top down, stage by stage, each stage in addition to those above. The
class explained stays the clip's own; a map that stays as well does not tell what the network has learnt. An empty map
has nothing in common with the intact network's: its similarity is 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from sum3dcam.attribution.maps import Array
from sum3dcam.evaluation.checks.clips import LabelledClip, checked_kinds, engine_maps
from sum3dcam.evaluation.kinds import MapKind
from sum3dcam.evaluation.statistics import Estimate, resample, share_estimate
from sum3dcam.serving.engines import Engine

Reading: TypeAlias = Mapping[str, npt.NDArray[np.float64]]  # {similarity: a map's voxels as it compares them}
Readings: TypeAlias = Mapping[str, Reading]  # of each map kind

# Every other row and column of every frame: a map is smooth, and ranks of all voxels take four times as long.
STRIDE_PX = 2

# The intact network's maps that stand beside those of the randomised stages: of the video before, and of the same clip
# but for the class that is half the list of classes away.
OTHER_VIDEO, OTHER_CLASS = "another video", "another class"
CONTROLS = (OTHER_VIDEO, OTHER_CLASS)

# How a map's voxels are read before they are correlated.
SIMILARITIES = MappingProxyType({"spearman": rankdata, "pearson": np.ravel})


@dataclass(frozen=True)
class Row:
    """One map kind: {similarity: {control or stage: mean over clips and draws}}, {similarity: {stage: mean of each
    draw}}, and the share of maps that were empty at each stage. NaN where the intact network gave no map at all.
    """

    kind: MapKind
    similarity: Mapping[str, Mapping[str, Estimate]]
    by_draw: Mapping[str, Mapping[str, tuple[float, ...]]]
    empty: Mapping[str, float]


@dataclass(frozen=True)
class Randomisation:
    """`stages` from the top down; `seeds`, one per draw of random weights."""

    stages: tuple[str, ...]
    seeds: tuple[int, ...]
    num_videos: int
    rows: tuple[Row, ...]


def correlation(intact_N: npt.ArrayLike, other_N: npt.ArrayLike) -> float:
    """Pearson's; 0 where the other is constant, NaN where the intact one is.

    >>> correlation([1, 2, 3], [3, 5, 7]), correlation([1, 2], [0, 0]), correlation([0, 0], [1, 2])
    (1.0, 0.0, nan)
    """
    intact, other = (np.asarray(values, np.float64) for values in (intact_N, other_N))
    first, second = intact - intact.mean(), other - other.mean()
    if not first.any():
        return float("nan")
    size = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / size) if size > 0 else 0.0


def read(map_THW: Array) -> Reading:
    """What each of SIMILARITIES compares of a map."""
    thinned = map_THW[:, ::STRIDE_PX, ::STRIDE_PX].ravel()
    return {name: np.asarray(how(thinned), np.float64) for name, how in SIMILARITIES.items()}


def read_all(maps: Mapping[str, Array]) -> Readings:
    return {name: read(map_THW) for name, map_THW in maps.items()}


@dataclass(frozen=True)
class Draw:
    """Of one draw of random weights: `similarity_VKSP`, over videos, kinds, SIMILARITIES and CONTROLS followed by the
    stages, NaN where it is undefined; `empty_KP`, the share of videos whose map was empty at each stage."""

    kinds: tuple[MapKind, ...]
    stages: tuple[str, ...]
    similarity_VKSP: npt.NDArray[np.float64]
    empty_KP: npt.NDArray[np.float64]


def measure(engine: Engine, clips: Iterable[LabelledClip], *, randomised: Mapping[str, Engine]) -> Draw:
    """Compares the artefact's maps with those of its randomised selves, {stage: engine} from the top down.

    Args:
        clips: one per video, at least one.

    Raises:
        ArtifactError: as `checked_kinds`.
    """
    kinds = checked_kinds(engine.card)
    num_classes = len(engine.card.labels)
    per_video, empty = [], []
    before: Readings | None = None
    for clip in clips:
        own = read_all(engine_maps(engine, clip, kinds=kinds))
        at_stages = [engine_maps(other, clip, kinds=kinds) for other in randomised.values()]
        asked_otherwise = replace(clip, class_1=(clip.class_1 + num_classes // 2) % num_classes)
        other_class = read_all(engine_maps(engine, asked_otherwise, kinds=kinds))
        others = [before, other_class, *(read_all(maps) for maps in at_stages)]
        per_video.append(
            [
                _similar(own[kind.name], [None if other is None else other[kind.name] for other in others])
                for kind in kinds
            ]
        )
        empty.append([[not maps[kind.name].any() for maps in at_stages] for kind in kinds])
        before = own
    return Draw(kinds, tuple(randomised), np.array(per_video), np.mean(empty, axis=0))


def summarise(draws: Mapping[int, Draw]) -> Randomisation:
    """Averages over the videos and the draws, {seed: draw}, of which there is at least one."""
    first = next(iter(draws.values()))
    places = (*CONTROLS, *first.stages)
    found_DVKSP = np.stack([draw.similarity_VKSP for draw in draws.values()])
    empty_KP = np.mean([draw.empty_KP for draw in draws.values()], axis=0)
    weights_RV = resample(found_DVKSP.shape[1])

    def mean(values_DV: npt.NDArray[np.float64]) -> Estimate:
        defined = np.isfinite(values_DV)
        return share_estimate(np.where(defined, values_DV, 0).sum(0), totals_V=defined.sum(0), weights_RV=weights_RV)

    def row(k: int, kind: MapKind) -> Row:
        similarity, by_draw = {}, {}
        for s, name in enumerate(SIMILARITIES):
            of_kind_PDV = np.moveaxis(found_DVKSP[:, :, k, s], -1, 0)
            similarity[name] = {place: mean(found_DV) for place, found_DV in zip(places, of_kind_PDV, strict=True)}
            by_draw[name] = {
                stage: tuple(mean(found_V[None]).value for found_V in found_DV)
                for stage, found_DV in zip(first.stages, of_kind_PDV[len(CONTROLS) :], strict=True)
            }
        return Row(kind, similarity, by_draw, dict(zip(first.stages, empty_KP[k].tolist(), strict=True)))

    rows = tuple(row(k, kind) for k, kind in enumerate(first.kinds))
    return Randomisation(first.stages, tuple(draws), found_DVKSP.shape[1], rows)


def _similar(own: Reading, others: Sequence[Reading | None]) -> list[list[float]]:
    """Per similarity, that of each other map; NaN where there is none."""
    return [
        [float("nan") if other is None else correlation(own[name], other[name]) for other in others]
        for name in SIMILARITIES
    ]
