"""Cascading randomisation (Adebayo et al., NeurIPS 2018): do the maps change when the network forgets?

The artefact's own weights are permuted from the top down, stage by stage, each stage in addition to those above. The
class explained stays the clip's own; a map that stays as well does not tell what the network has learnt. An empty map
has nothing in common with the intact network's: its similarity is 0.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from sum3dcam.attribution.maps import Array
from sum3dcam.evaluation.checks.clips import LabelledClip, checked_kinds, engine_maps
from sum3dcam.evaluation.kinds import MapKind
from sum3dcam.evaluation.statistics import Estimate, resample, share_estimate
from sum3dcam.serving.engines import Engine

# Every other row and column of every frame: a map is smooth, and ranks of all voxels take four times as long.
STRIDE_PX = 2

# What comes before the randomised stages: the map of the same method for the video before, whose network is intact.
OTHER_VIDEO = "another video"

# How a map's voxels are read before they are correlated.
SIMILARITIES = MappingProxyType({"spearman": rankdata, "pearson": np.ravel})


@dataclass(frozen=True)
class Row:
    """One map kind: {similarity: {OTHER_VIDEO or stage: mean over clips and draws}}, {similarity: {stage: mean of each
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


def read(map_THW: Array) -> Mapping[str, npt.NDArray[np.float64]]:
    """{similarity: the map's voxels as it compares them}."""
    thinned = map_THW[:, ::STRIDE_PX, ::STRIDE_PX].ravel()
    return {name: np.asarray(how(thinned), np.float64) for name, how in SIMILARITIES.items()}


def measure(
    engine: Engine, clips: Iterable[LabelledClip], *, cascades: Mapping[int, Mapping[str, Engine]]
) -> Randomisation:
    """Compares the artefact's maps with those of its randomised selves, {seed: {stage: engine}}.

    Args:
        clips: one per video, at least one.

    Raises:
        ArtifactError: as `checked_kinds`.
    """
    kinds = checked_kinds(engine.card)
    seeds, stages = tuple(cascades), tuple(next(iter(cascades.values())))
    places = (OTHER_VIDEO, *stages)
    empty = np.zeros((len(kinds), len(places)))
    per_video, before = [], None
    for clip in clips:
        # (kinds, similarities, places, draws); the place of another video has no draws and is filled with one value.
        of_video = np.full((len(kinds), len(SIMILARITIES), len(places), len(seeds)), np.nan)
        own = {name: read(map_THW) for name, map_THW in engine_maps(engine, clip, kinds=kinds).items()}
        if before is not None:
            for k, kind in enumerate(kinds):
                of_video[k, :, 0] = _similar(own[kind.name], before[kind.name])[:, None]
        for d, seed in enumerate(seeds):
            for p, stage in enumerate(stages, start=1):
                maps = engine_maps(cascades[seed][stage], clip, kinds=kinds)
                for k, kind in enumerate(kinds):
                    of_video[k, :, p, d] = _similar(own[kind.name], read(maps[kind.name]))
                    empty[k, p] += not maps[kind.name].any()
        per_video.append(of_video)
        before = own
    found = np.stack(per_video)
    weights_RV = resample(len(found))

    def mean(values_VD: npt.NDArray[np.float64]) -> Estimate:
        defined = np.isfinite(values_VD)
        sums_V = np.where(defined, values_VD, 0).sum(1)
        return share_estimate(sums_V, totals_V=defined.sum(1), weights_RV=weights_RV)

    def row(k: int, kind: MapKind) -> Row:
        similarity, by_draw = {}, {}
        for s, name in enumerate(SIMILARITIES):
            similarity[name] = {place: mean(found[:, k, s, p]) for p, place in enumerate(places)}
            by_draw[name] = {
                stage: tuple(mean(found[:, k, s, p, [d]]).value for d in range(len(seeds)))
                for p, stage in enumerate(stages, start=1)
            }
        share = empty[k] / (len(found) * len(seeds))
        return Row(kind, similarity, by_draw, dict(zip(stages, share[1:].tolist(), strict=True)))

    return Randomisation(stages, seeds, len(found), tuple(row(k, kind) for k, kind in enumerate(kinds)))


def _similar(
    one: Mapping[str, npt.NDArray[np.float64]], other: Mapping[str, npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    return np.array([correlation(one[name], other[name]) for name in SIMILARITIES])
