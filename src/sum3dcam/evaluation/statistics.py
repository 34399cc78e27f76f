"""From counts per video to shares with bootstrap intervals. Videos are resampled, never frames or clips: the frames
of a video are no independent evidence."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Float64s: TypeAlias = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2000
BOOTSTRAP_SEED = 0
# Videos held at once while counts are pooled.
POOL_BLOCK = 256


@dataclass(frozen=True)
class Estimate:
    """A share in [0,1] with its 95 % percentile bootstrap interval."""

    value: float
    low: float
    high: float


def resample(num_videos: int, *, resamples: int = RESAMPLES, seed: int = BOOTSTRAP_SEED) -> Float64s:
    """How often each video is drawn in each resample (R,V); the same for every map kind, so differences are paired."""
    draws = np.random.default_rng(seed).multinomial(num_videos, np.full(num_videos, 1 / num_videos), size=resamples)
    return draws.astype(np.float64)


def interval(samples_R: Float64s) -> tuple[float, float]:
    """The percentile interval of bootstrap samples; an undefined sample (no frame drawn) is left out."""
    defined = samples_R[np.isfinite(samples_R)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def estimate(value: float, samples_R: Float64s) -> Estimate:
    low, high = interval(samples_R)
    return Estimate(value=float(value), low=low, high=high)


def pooled_share(hits_VX: npt.ArrayLike, *, totals_V: npt.ArrayLike, weights_RV: npt.ArrayLike) -> Float64s:
    """Share of hits over all videos (R,...), every video counted as often as its weight; NaN where nothing counts.

    Args:
        hits_VX: hits per video, with any further axes.
        totals_V: how many could have been hit, per video.
        weights_RV: `resample`'s, or a row of ones for the data set itself.
    """
    hits, totals, weights = (np.asarray(values, np.float64) for values in (hits_VX, totals_V, weights_RV))
    pooled = (weights @ hits.reshape(len(hits), -1)).reshape(len(weights), *hits.shape[1:])
    total_R = (weights @ totals).reshape(len(weights), *[1] * (hits.ndim - 1))
    share: Float64s = np.divide(pooled, total_R, out=np.full_like(pooled, np.nan), where=total_R > 0)
    return share


def share_estimate(hits_V: npt.ArrayLike, *, totals_V: npt.ArrayLike, weights_RV: Float64s) -> Estimate:
    """A plain share, such as accuracy, with its interval."""
    value = pooled_share(hits_V, totals_V=totals_V, weights_RV=np.ones((1, weights_RV.shape[1])))[0]
    return estimate(value, pooled_share(hits_V, totals_V=totals_V, weights_RV=weights_RV))


@dataclass(frozen=True)
class BestOfCurve:
    """MaxBoxAcc at one IoU: the best share over one parameter shared by the whole data set.

    `best` is the index of that parameter, `curve_P` the share at each, `samples_R` the best share of each resample
    (the parameter is chosen anew in each, so the interval knows of that choice).
    """

    share: Estimate
    best: int
    curve_P: Float64s
    samples_R: Float64s


def best_of_curve(hits_VP: npt.ArrayLike, *, totals_V: npt.ArrayLike, weights_RV: Float64s) -> BestOfCurve:
    """The best share over the parameters, ONE for all videos."""
    curve_P = pooled_share(hits_VP, totals_V=totals_V, weights_RV=np.ones((1, weights_RV.shape[1])))[0]
    samples_R = pooled_share(hits_VP, totals_V=totals_V, weights_RV=weights_RV).max(axis=1)
    best = int(np.argmax(curve_P))
    return BestOfCurve(share=estimate(curve_P[best], samples_R), best=best, curve_P=curve_P, samples_R=samples_R)


def resample_blocks(
    num_videos: int, *, block: int, resamples: int = RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> Iterator[Float64s]:
    """`resample`, in blocks (R,B) of at most `block` videos: the same distribution, in memory that does not grow with
    their number.

    How many draws fall into the videos not yet seen is known; how many of them into this block is binomial.
    """
    rng = np.random.default_rng(seed)
    left_R = np.full(resamples, num_videos)
    for start in range(0, num_videos, block):
        size = min(block, num_videos - start)
        here_R = rng.binomial(left_R, size / (num_videos - start))
        left_R = left_R - here_R
        yield rng.multinomial(here_R, np.full(size, 1 / size)).astype(np.float64)


def pool(
    counts: Iterable[Mapping[str, npt.NDArray[np.int64]]], *, num_videos: int, block: int = POOL_BLOCK
) -> Mapping[str, Float64s]:
    """Sums (1+R,...) of every count over the videos: row 0 of the data set itself, the rest of its resamples.

    Runs through the videos once and keeps a block of them.

    Args:
        counts: per video, the same names and shapes in each.

    Raises:
        ValueError: another number of videos than `num_videos`.
    """
    videos = iter(counts)
    sums: dict[str, Float64s] = {}
    seen = 0
    for weights_RB in resample_blocks(num_videos, block=block):
        batch = list(islice(videos, weights_RB.shape[1]))
        seen += len(batch)
        if len(batch) < weights_RB.shape[1]:
            break
        weights = np.concatenate([np.ones((1, len(batch))), weights_RB])
        for name, first in batch[0].items():
            counts_BX = np.stack([video[name] for video in batch]).reshape(len(batch), -1).astype(np.float64)
            pooled = (weights @ counts_BX).reshape(len(weights), *first.shape)
            sums[name] = sums[name] + pooled if name in sums else pooled
    if seen != num_videos or next(videos, None) is not None:
        raise ValueError(f"counts of {seen} videos or more came, {num_videos} were announced")
    return sums


def pooled_estimate(share_R: Float64s) -> Estimate:
    """Of shares (1+R,) as `pool` orders them."""
    return estimate(share_R[0], share_R[1:])
