"""Oracle: short sequences written out."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import count, islice

import numpy as np
import pytest

from sum3dcam.video.sample import clip_span, clip_starts, cut_clips, resample, shows_first

NTSC = Fraction(30000, 1001)


def _frames(count: int) -> np.ndarray:
    """Frame i is filled with the value i."""
    return np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


@pytest.mark.parametrize(
    ("num_frames", "clips", "padded"),
    [
        (4, [[0, 1, 2, 3]], 0),
        (8, [[0, 1, 2, 3], [4, 5, 6, 7]], 0),
        (5, [[0, 1, 2, 3], [4, 4, 4, 4]], 3),
        (6, [[0, 1, 2, 3], [4, 5, 4, 5]], 2),
        (7, [[0, 1, 2, 3], [4, 5, 6, 4]], 1),
        (3, [[0, 1, 2, 0]], 1),
        (1, [[0, 0, 0, 0]], 3),
    ],
)
def test_clips_follow_each_other_and_the_tail_repeats_from_its_own_start(
    num_frames: int, clips: list[list[int]], padded: int
) -> None:
    cut_NTHWC, padded_frames = cut_clips(_frames(num_frames), clip_length=4)
    assert cut_NTHWC[:, :, 0, 0, 0].tolist() == clips
    assert cut_NTHWC.shape == (len(clips), 4, 2, 2, 3)
    assert padded_frames == padded


def test_starts_are_a_clip_apart() -> None:
    assert clip_starts(33, 16) == (0, 16, 32)


def _source_frames(begins: Sequence[Fraction], *, end: Fraction, fps: float | None) -> list[int]:
    """The source frame at each place."""
    ends = (*begins[1:], end)
    timed = ((frame, begin, until) for frame, (begin, until) in enumerate(zip(begins, ends, strict=True)))
    return [frame for frame, places in resample(timed, fps=fps) for _ in range(places)]


def _at_rate(rate: Fraction, seconds: int, *, tick: Fraction | None = None) -> tuple[list[Fraction], Fraction]:
    """Begins and end of a source of constant rate, its stamps rounded to a tick as containers do."""
    times = [frame / rate for frame in range(int(rate * seconds) + 1)]
    if tick is not None:
        times = [round(time / tick) * tick for time in times]
    return times[:-1], times[-1]


@pytest.mark.parametrize(
    ("rate", "fps", "first_places"),
    [
        (25, 25.0, [0, 1, 2, 3, 4, 5]),
        (50, 25.0, [0, 2, 4, 6, 8, 10]),
        (25, 50.0, [0, 0, 1, 1, 2, 2]),
        (30, 25.0, [0, 1, 2, 3, 4, 6]),  # floor(k * 6 / 5)
        (24, 25.0, [0, 0, 1, 2, 3, 4]),  # floor(k * 24 / 25): one frame of each second is shown twice
        (25, 10.0, [0, 2, 5, 7, 10, 12]),
    ],
)
def test_a_place_shows_the_frame_on_screen_at_its_time(rate: int, fps: float, first_places: list[int]) -> None:
    begins, end = _at_rate(Fraction(rate), 2)
    shown = _source_frames(begins, end=end, fps=fps)
    assert shown[:6] == first_places
    assert len(shown) == 2 * fps
    assert shown == sorted(shown)


@pytest.mark.parametrize("tick", [None, Fraction(1, 1000), Fraction(1, 12800), Fraction(1, 90000)])
@pytest.mark.parametrize("rate", [Fraction(10), Fraction(24), Fraction(25), Fraction(30), NTSC, Fraction(60)])
def test_a_source_at_the_rate_asked_for_stays_as_it_is_however_its_stamps_are_rounded(
    rate: Fraction, tick: Fraction | None
) -> None:
    begins, end = _at_rate(rate, 20, tick=tick)
    # float(30000/1001) is not the fraction, and a millisecond is not a thirtieth of a second's part.
    assert _source_frames(begins, end=end, fps=float(rate)) == list(range(len(begins)))


def test_no_rate_takes_every_frame_whatever_its_time() -> None:
    assert _source_frames([Fraction(3), Fraction(1), Fraction(1)], end=Fraction(0), fps=None) == [0, 1, 2]


def test_uneven_times_are_sampled_by_time_and_not_by_number() -> None:
    begins = [Fraction(time, 10) for time in (0, 1, 2, 7, 8)]
    # At 0, .2, .4, .6, .8 and 1.0 of 1.1 seconds.
    assert _source_frames(begins, end=Fraction(11, 10), fps=5) == [0, 2, 2, 2, 4, 4]


def test_random_times_agree_with_a_search_for_the_frame_on_screen() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        # Multiples of 1/7: 1/175 of a second or more from every k / 25, but for whole seconds, where they are equal.
        begins = [Fraction(int(tick), 7) for tick in np.sort(rng.choice(60, size=30, replace=False))]
        begins[0], end = Fraction(0), begins[-1] + Fraction(int(rng.integers(1, 10)), 7)
        on_screen = []
        for k in count():
            if Fraction(k, 25) >= end:
                break
            on_screen.append(max(frame for frame, begin in enumerate(begins) if begin <= Fraction(k, 25)))
        assert _source_frames(begins, end=end, fps=25) == on_screen


def test_the_first_frame_is_shown_from_the_start_and_what_is_before_the_start_is_not() -> None:
    late = [Fraction(1), Fraction(2)]
    assert _source_frames(late, end=Fraction(3), fps=1) == [0, 0, 1]
    early = [Fraction(-2), Fraction(-1), Fraction(0), Fraction(1)]
    assert _source_frames(early, end=Fraction(2), fps=1) == [2, 3]


def test_stamps_that_fall_never_undo_a_place() -> None:
    begins = [Fraction(0), Fraction(2), Fraction(1), Fraction(3)]
    shown = _source_frames(begins, end=Fraction(4), fps=1)
    assert shown == sorted(shown)
    assert len(shown) == 4


def test_a_source_shorter_than_a_place_still_has_one() -> None:
    assert _source_frames([Fraction(0)], end=Fraction(1, 2000), fps=1) == [0]
    assert list(resample([], fps=25)) == []


def test_resampling_runs_one_frame_behind_its_source() -> None:
    taken = []

    def endless():
        for frame in count():
            taken.append(frame)
            yield frame, Fraction(frame), Fraction(frame + 1)

    assert list(islice(resample(endless(), fps=0.5), 3)) == [(0, 1), (1, 0), (2, 1)]
    assert taken == [0, 1, 2, 3]


def test_clips_of_a_resampled_source_cover_it() -> None:
    source_frames = (0, 2, 4, 6, 8)
    spans = [clip_span(start, source_frames=source_frames, clip_length=2, num_source_frames=11) for start in (0, 2, 4)]
    assert spans == [(0, 4), (4, 8), (8, 11)]


def test_clips_that_show_the_same_frame_both_stand_for_it() -> None:
    source_frames = (0, 0, 1, 1, 2, 2)
    spans = [clip_span(start, source_frames=source_frames, clip_length=3, num_source_frames=3) for start in (0, 3)]
    assert spans == [(0, 2), (1, 3)]
    assert [shows_first(place, source_frames=source_frames) for place in range(8)] == [
        *(True, False, True, False, True, False),
        *(False, False),  # behind the end: padding
    ]
