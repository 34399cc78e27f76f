"""Oracles: worked out by hand, and the normal approximation for the width of an interval."""

import numpy as np
import pytest

from sum3dcam.evaluation.statistics import (
    best_of_curve,
    interval,
    pool,
    pooled_share,
    resample,
    resample_blocks,
    share_estimate,
)


def test_shares_pool_frames_over_videos():
    # 1 of 2 and 8 of 8: 9 / 10, not the mean of 50 % and 100 %.
    assert pooled_share([1, 8], totals_V=[2, 8], weights_RV=[[1, 1]]).tolist() == [0.9]
    assert pooled_share([1, 8], totals_V=[2, 8], weights_RV=[[2, 0]]).tolist() == [0.5]


def test_a_share_of_nothing_is_undefined_and_no_part_of_an_interval():
    share = pooled_share([0, 8], totals_V=[0, 8], weights_RV=[[2, 0], [1, 1]])
    assert np.isnan(share[0])
    assert interval(share) == (1.0, 1.0)
    assert np.isnan(interval(share[:1])).all()


def test_videos_that_agree_leave_no_doubt():
    estimate = share_estimate([3] * 20, totals_V=[4] * 20, weights_RV=resample(20))
    assert (estimate.value, estimate.low, estimate.high) == (0.75, 0.75, 0.75)


def test_the_interval_has_the_width_of_a_binomial_share():
    # 400 videos, half of them right: 0.5 +- 1.96 sqrt(0.25 / 400) = 0.049; 2000 resamples know it to about 5 %.
    estimate = share_estimate([1, 0] * 200, totals_V=[1] * 400, weights_RV=resample(400))
    assert estimate.low == pytest.approx(0.5 - 0.049, abs=0.005)
    assert estimate.high == pytest.approx(0.5 + 0.049, abs=0.005)


def test_resamples_draw_as_many_videos_as_there_are_and_are_repeatable():
    weights = resample(7)
    assert (weights.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(weights, resample(7))


def test_one_parameter_serves_the_whole_data_set():
    # Each video is hit at another threshold: per video the best would be 100 %, with one threshold it is 50 %.
    curve = best_of_curve([[0, 1, 0], [0, 0, 1]], totals_V=[1, 1], weights_RV=resample(2))
    assert curve.share.value == 0.5
    assert curve.best == 1
    assert curve.curve_P.tolist() == [0.0, 0.5, 0.5]


def test_each_resample_chooses_its_parameter_anew():
    # Of the draws (2,0), (1,1), (0,2) the one-sided ones have a threshold that serves all: 100 %.
    curve = best_of_curve([[1, 0], [0, 1]], totals_V=[1, 1], weights_RV=np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]]))
    assert curve.samples_R.tolist() == [1.0, 0.5, 1.0]


def test_blocks_of_a_resample_draw_every_video_equally_often_and_as_many_as_there_are():
    blocks = list(resample_blocks(10, block=4, resamples=20_000))
    weights = np.concatenate(blocks, axis=1)
    assert [block.shape[1] for block in blocks] == [4, 4, 2]
    assert (weights.sum(axis=1) == 10).all()
    # Each count is binomial(10, 1/10): mean 1, variance .9; covariance -.1. Four standard errors of 20,000 draws.
    np.testing.assert_allclose(weights.mean(axis=0), 1.0, atol=4 * np.sqrt(0.9 / 20_000))
    covariance = np.cov(weights.T)
    np.testing.assert_allclose(np.diag(covariance), 0.9, atol=0.05)
    np.testing.assert_allclose(covariance[~np.eye(10, dtype=bool)], -0.1, atol=0.04)


def test_pooling_adds_up_the_data_set_and_its_resamples_block_by_block():
    rng = np.random.default_rng(0)
    counts = [{"hits": rng.integers(0, 5, (2, 3)), "frames": np.asarray(7)} for _ in range(9)]
    pooled = pool(counts, num_videos=9, block=4)
    weights = np.concatenate(list(resample_blocks(9, block=4)), axis=1)
    assert pooled["hits"][0].tolist() == sum(video["hits"] for video in counts).tolist()
    assert (pooled["frames"] == 63).all()
    np.testing.assert_allclose(pooled["hits"][5], sum(w * v["hits"] for w, v in zip(weights[4], counts, strict=True)))


@pytest.mark.parametrize("announced", [2, 4])
def test_pooling_wants_the_number_of_videos_announced(announced):
    counts = [{"frames": np.asarray(1)}] * 3
    with pytest.raises(ValueError, match="announced"):
        pool(counts, num_videos=announced, block=2)
