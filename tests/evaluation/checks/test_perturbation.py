"""Oracles: four voxels that can be followed by eye, and a network that scores and sees what is bright."""

import numpy as np
import pytest
from rich.console import Console

from sum3dcam.evaluation.checks.clips import LabelledClip
from sum3dcam.evaluation.checks.perturbation import (
    BATCH_CLIPS,
    TRIVIAL_MAPS,
    area,
    blurred,
    class_scores,
    mean_pixel,
    measure,
    order_of,
    summarise,
    way,
)
from sum3dcam.evaluation.checks.report import render_perturbation
from sum3dcam.evaluation.kinds import COMPARATOR, TRIVIAL, Comparator, MapKind

SHAPE = (4, 16, 16)


def test_voxels_come_in_order_of_saliency():
    map_THW = np.array([0.2, 0.9, 0.0, 0.5], np.float32).reshape(1, 2, 2)
    assert order_of(map_THW, rng=np.random.default_rng(0)).tolist() == [1, 3, 0, 2]


def test_equal_voxels_come_in_random_order_and_each_once():
    order = order_of(np.zeros(SHAPE, np.float32), rng=np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(order.size))
    # In reading order the first half would lie in the first half of the clip; at random 256 +- 11 of 512 do.
    assert abs((order[:512] < 512).sum() - 256) < 60


def test_each_step_changes_the_next_voxels_with_all_their_channels():
    before = np.zeros((1, 2, 2, 3), np.uint8)
    after = np.arange(1, 13, dtype=np.uint8).reshape(before.shape)
    steps = list(way(before, after, order=np.array([1, 3, 0, 2]), num_steps=4))
    changed = [(step.reshape(4, 3) == after.reshape(4, 3)).all(1).tolist() for step in steps]
    assert changed == [[False, True, False, False], [False, True, False, True], [True, True, False, True]]
    assert not before.any()


def test_a_number_of_steps_that_does_not_divide_the_voxels_loses_none():
    clip = np.full((1, 5, 7, 1), 9, np.uint8)
    steps = list(way(np.zeros_like(clip), clip, order=np.arange(35), num_steps=10))
    assert [int((step == 9).sum()) for step in steps] == [round(3.5 * step) for step in range(1, 10)]


def test_the_area_is_numpys_trapezoid():
    scores = np.random.default_rng(0).random((3, 2, 21))
    np.testing.assert_allclose(area(scores), np.trapezoid(scores, dx=1 / 20, axis=-1), rtol=1e-12)


def test_the_starts_are_without_shape_but_of_the_clips_colour():
    clip = np.zeros((*SHAPE, 3), np.uint8)
    clip[:, 4:8, 4:8, 0] = 160  # a sixteenth of the frame
    assert (mean_pixel(clip) == [10, 0, 0]).all()
    soft = blurred(clip).astype(float)
    assert soft.shape == clip.shape
    assert 0 < soft[..., 0].max() < 130
    assert soft[..., 0].mean() == pytest.approx(10, abs=0.6)
    assert not soft[..., 1:].any()


def test_one_channel_survives_the_blur():
    assert blurred(np.zeros((*SHAPE, 1), np.uint8)).shape == (*SHAPE, 1)


@pytest.fixture
def engine(make_engine):
    return make_engine(num_frames=SHAPE[0], size_px=SHAPE[1])


def test_scores_are_the_softmax_of_the_class_in_the_order_of_the_clips(engine):
    bright = np.arange(0, 4 * (BATCH_CLIPS + 3), 4, dtype=np.uint8)
    clips = np.broadcast_to(bright[:, None, None, None, None], (len(bright), *SHAPE, 3))
    logit = 100 * bright.astype(float) / 255 - 1
    np.testing.assert_allclose(class_scores(engine, clips, class_index=1), 1 / (1 + np.exp(-logit)), rtol=1e-5)
    np.testing.assert_allclose(class_scores(engine, clips, class_index=0), 1 / (1 + np.exp(logit)), rtol=1e-4)


def spotted(num_videos):
    """Dark noise with a bright square each, elsewhere in each: class 1 is what is bright on the whole."""
    rng = np.random.default_rng(3)
    for video in range(num_videos):
        clip = rng.integers(0, 4, (1, *SHAPE, 3), np.uint8)
        clip[:, :, video % 12 : video % 12 + 2, 12 - video % 12 : 14 - video % 12] = 250
        yield LabelledClip(clip, np.array([1]))


def test_a_map_that_sees_what_is_scored_beats_every_trivial_order_and_its_opposite_none(engine):
    def dark(clip_BTHWC, class_B):
        assert class_B.tolist() == [1]
        return 1 - clip_BTHWC.mean(-1, dtype=np.float32) / 255

    opposite = Comparator(MapKind("opposite", COMPARATOR, "dark", ()), dark)
    found = measure(engine, spotted(12), scorer=engine, comparators=[opposite], num_steps=10)
    rows = {row.kind.name: row for row in found.rows}
    assert found.num_videos == 12
    assert set(rows) >= {"Sum3DCAM all taps", "opposite", *TRIVIAL_MAPS}
    assert rows["Grad-CAM layer1"].beats_trivial == {"insertion": True, "deletion": True}
    assert rows["opposite"].beats_trivial == {"insertion": False, "deletion": False}
    assert rows["Random voxels"].beats_trivial == {"insertion": False, "deletion": False}
    for curve, sign in (("insertion", 1), ("deletion", -1)):
        ends = [row.scores_S[curve][[0, -1]] for row in found.rows]
        assert np.ptp(ends, axis=0).max() == 0  # all orders begin and end alike
        areas = [rows[name].area[curve].value * sign for name in ("Grad-CAM layer1", "Random voxels", "opposite")]
        assert areas == sorted(areas, reverse=True)


def test_better_is_higher_for_insertion_and_lower_for_deletion():
    scores = np.zeros((5, 2, 2, 3))
    scores[:, 0, :, 1] = 0.5  # the first kind's areas are .25, the trivial order's 0
    kinds = [MapKind("ours", "3DCAM", "sum3dcam", ()), MapKind("random", TRIVIAL, "", ())]
    ours, random = summarise(scores, every=kinds).rows
    assert ours.beats_trivial == {"insertion": True, "deletion": False}
    assert random.beats_trivial == {"insertion": False, "deletion": False}
    assert ours.area["insertion"].value == 0.25
    console = Console(width=100)
    with console.capture() as capture:
        console.print(render_perturbation(summarise(scores, every=kinds)))
    assert "25.0 [25-25]" in capture.get()
