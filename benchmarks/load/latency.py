"""Latencies to figures: percentiles only where enough samples bear them, late shares with their bound."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import beta, binom, norm

from load.traffic import OK, Run

PERCENTILES = (0.5, 0.9, 0.99)
# A percentile is printed from this many samples beyond it on: p50 from 20, p90 from 100, p99 from 1000.
SAMPLES_BEYOND = 10
CONFIDENCE = 0.95
# Server scenario: at most this share of requests may be later than the bound or fail.
ALLOWED_LATE = 0.01
# A histogram's bins each end this much above their begin: a percentile read from it is off by 1 % at most.
BIN_RATIO = 1.01
LOWEST_SECONDS = 1e-5

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"


def needed_samples(share: float) -> int:
    """How many samples a percentile needs.

    >>> [needed_samples(share) for share in PERCENTILES]
    [20, 100, 1000]
    """
    return round(SAMPLES_BEYOND / (1 - share))


def mlperf_samples(share: float) -> int:
    """How many MLPerf's rules ask for: 99 % confidence, a margin of a twentieth of what is beyond the percentile.

    >>> mlperf_samples(0.9), mlperf_samples(0.99)
    (23886, 262742)
    """
    margin = (1 - share) / 20
    return round(float(norm.ppf(1 - 0.01 / 2)) ** 2 * share * (1 - share) / margin**2)


def percentile(latencies: Sequence[float], *, share: float) -> float | None:
    """The smallest latency that `share` of all do not exceed; None where there are too few to tell.

    >>> percentile([0.1] * 99 + [0.5], share=0.9), percentile([0.1] * 99, share=0.9)
    (0.1, None)
    """
    if len(latencies) < needed_samples(share):
        return None
    return sorted(latencies)[_rank(share * len(latencies))]


def interval(latencies: Sequence[float], *, share: float) -> tuple[float, float] | None:
    """Order statistics between which the percentile lies with 95 % confidence, whatever the distribution."""
    number = len(latencies)
    if number < needed_samples(share):
        return None
    low, high = (int(binom.ppf(tail, number, share)) for tail in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    ordered = sorted(latencies)
    return ordered[max(low - 1, 0)], ordered[min(high, number - 1)]


def _rank(place: float) -> int:
    return math.ceil(round(place, 6)) - 1


def describe(run: Run, *, bound_seconds: float) -> dict[str, Any]:
    """A run as JSON. Latencies are of all requests intended; those that failed or were missed are infinite (null)."""
    latencies = [sample.latency_seconds for sample in run.samples] + [math.inf] * run.missed
    good = sum(latency <= bound_seconds for latency in latencies)
    lateness = [sample.sent - sample.intended for sample in run.samples]
    return {
        "seconds": run.seconds,
        "intended": len(latencies),
        "missed": run.missed,
        "errors": dict(Counter(sample.code for sample in run.samples if sample.code != OK)),
        "offered_per_second": len(latencies) / run.seconds,
        "answered_per_second": run.rate_per_second,
        "goodput_per_second": good / run.seconds,
        "bound_seconds": bound_seconds,
        "late_share": 1 - good / len(latencies) if latencies else None,
        "percentiles": {f"p{share * 100:g}": _percentile(latencies, share=share) for share in PERCENTILES},
        "histogram": histogram([latency for latency in latencies if math.isfinite(latency)]),
        "generator": {
            "cpu_share": run.cpu_share,
            "late_sends": run.late_sends,
            "worst_send_seconds": max(lateness, default=0.0),
            "median_send_seconds": sorted(lateness)[len(lateness) // 2] if lateness else 0.0,
            "saturated": run.is_saturated,
        },
    }


def _percentile(latencies: Sequence[float], *, share: float) -> dict[str, Any]:
    """Seconds with their interval, or how many samples it would take; null stands for a request that failed."""
    value = percentile(latencies, share=share)
    if value is None:
        return {"needs": needed_samples(share), "has": len(latencies)}
    low_high = interval(latencies, share=share) or ()
    return {"seconds": _finite(value), "interval": [_finite(end) for end in low_high]}


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


def histogram(seconds: Sequence[float]) -> dict[str, Any]:
    """Counts by bin: bin i is [lowest * ratio**i, lowest * ratio**(i + 1))."""
    bins = Counter(max(int(math.log(max(one, LOWEST_SECONDS) / LOWEST_SECONDS, BIN_RATIO)), 0) for one in seconds)
    return {
        "lowest_seconds": LOWEST_SECONDS,
        "ratio": BIN_RATIO,
        "counts": {str(index): bins[index] for index in sorted(bins)},
    }


def verdict(*, late: int, number: int) -> str:
    """Whether at most ALLOWED_LATE are late, with 95 % confidence either way (Clopper and Pearson's one-sided bounds).

    Without a single late one it takes 299 requests.

    >>> verdict(late=0, number=298), verdict(late=0, number=299), verdict(late=9, number=299)
    ('undecided', 'holds', 'fails')
    """
    most = beta.ppf(CONFIDENCE, late + 1, number - late) if late < number else 1.0
    least = beta.ppf(1 - CONFIDENCE, late, number - late + 1) if late else 0.0
    if most <= ALLOWED_LATE:
        return HOLDS
    return FAILS if least > ALLOWED_LATE else UNDECIDED


def server_verdict(described: Mapping[str, Any]) -> str:
    """The verdict on a described run."""
    number = described["intended"]
    return verdict(late=round(described["late_share"] * number), number=number) if number else UNDECIDED
