"""Oracles: exact order statistics, exponential samples whose percentile is known, MLPerf's published counts."""

import doctest
import importlib
import math

import numpy as np
import pytest
from load.latency import FAILS, HOLDS, UNDECIDED, describe, histogram, interval, mlperf_samples, percentile, verdict
from load.traffic import OK, Run, Sample


@pytest.mark.parametrize("name", ["latency", "scenarios", "senders", "tables", "traffic"])
def test_examples_hold(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"load.{name}"))
    assert (found.failed, found.attempted > 0) == (0, True)


def run_of(latencies: list[float]) -> Run:
    samples = [Sample(place, place / 10, place / 10, place / 10 + one, OK) for place, one in enumerate(latencies)]
    return Run(seconds=len(latencies) / 10, samples=samples, missed=0, wall_seconds=1.0, cpu_seconds=0.1)


@pytest.mark.parametrize(("share", "needs"), [(0.5, 20), (0.9, 100), (0.99, 1000)])
def test_percentile_is_refused_below_its_number_of_samples(share: float, needs: int) -> None:
    name = f"p{share * 100:g}"
    refused = describe(run_of([0.1] * (needs - 1)), bound_seconds=1)["percentiles"][name]
    assert refused == {"needs": needs, "has": needs - 1}
    assert describe(run_of([0.1] * needs), bound_seconds=1)["percentiles"][name]["seconds"] == pytest.approx(0.1)


def test_percentile_is_the_nearest_rank() -> None:
    latencies = [float(one) for one in np.random.default_rng(0).permutation(1000) + 1]
    assert [percentile(latencies, share=share) for share in (0.5, 0.9, 0.99)] == [500, 900, 990]


def test_interval_covers_the_true_percentile_as_often_as_it_says() -> None:
    rng, true = np.random.default_rng(3), -math.log(0.1)
    draws = [interval(rng.exponential(size=200).tolist(), share=0.9) for _ in range(400)]
    covered = sum(low <= true <= high for low, high in draws) / 400
    assert 0.92 <= covered <= 0.99  # 95 % and a little more, for ranks are whole; three deviations of 400 draws
    assert interval([1.0] * 99, share=0.9) is None


def test_samples_that_mlperf_wants_are_its_own_figures() -> None:
    # MLCommons' inference rules, appendix on early stopping: 23,886 / 50,425 / 262,742.
    assert [mlperf_samples(share) for share in (0.9, 0.95, 0.99)] == [23_886, 50_425, 262_742]


def test_verdict_is_undecided_between_its_bounds() -> None:
    assert (verdict(late=0, number=100), verdict(late=0, number=299)) == (UNDECIDED, HOLDS)
    assert verdict(late=10, number=1000) == UNDECIDED  # one in a hundred exactly
    assert (verdict(late=4, number=1000), verdict(late=17, number=1000)) == (HOLDS, FAILS)
    assert verdict(late=20, number=20) == FAILS


def test_histogram_gives_percentiles_back_within_its_ratio() -> None:
    latencies = np.random.default_rng(4).lognormal(-3, 1, 5000)
    made = histogram(latencies.tolist())
    edges = [made["lowest_seconds"] * made["ratio"] ** (int(index) + 1) for index in made["counts"]]
    reached = np.cumsum(list(made["counts"].values()))
    assert reached[-1] == 5000
    for share in (0.5, 0.9, 0.99):
        read = edges[int(np.searchsorted(reached, share * 5000))]
        assert 1.0 <= read / np.quantile(latencies, share, method="inverted_cdf") <= 1.0101


def test_goodput_leaves_out_what_is_late_or_failed() -> None:
    run = run_of([0.1] * 60 + [0.5] * 40)
    described = describe(run, bound_seconds=0.2)
    assert (described["goodput_per_second"], described["late_share"]) == (pytest.approx(6.0), pytest.approx(0.4))
