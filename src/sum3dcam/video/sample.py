"""Which source frames make up a video and its clips. Pure integers and fractions.

A source is first resampled to the network's frame rate, which gives `source_frames`: the source frame that each place
of the video shows, in order, repeated or dropped as the rates demand. The places are then cut into clips: consecutive,
non-overlapping, the tail repeated from its own start.
"""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from math import ceil
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

# A frame counts as on screen from this long before its time stamp: matroska and flv round stamps to milliseconds, and
# a video resampled to its own rate must stay as it is.
STAMP_SLACK_SECONDS = Fraction(1, 1000)


def resample(frames: Iterable[tuple[T, Fraction, Fraction]], *, fps: float | None) -> Iterator[tuple[T, int]]:
    """Each frame with the number of places that show it in a sequence of constant rate.

    Place k = 0, 1, ... shows the frame that is on screen at k / fps seconds; there are places as long as k / fps is
    before the end of the last frame, and always place 0. Runs one frame behind its input and keeps nothing else.

    Args:
        frames: what is to be counted, with its begin and end in seconds since the source's start. A frame is on screen
            until the next begins; only the last one's own end matters.
        fps: places per second; None leaves the source as it is, one place for each frame.

    >>> seconds = [Fraction(0), Fraction(1, 4), Fraction(1, 2), Fraction(3, 4), Fraction(1)]
    >>> list(resample(zip("abcd", seconds, seconds[1:]), fps=2))
    [('a', 1), ('b', 0), ('c', 1), ('d', 0)]
    >>> list(resample(zip("abcd", seconds, seconds[1:]), fps=6))
    [('a', 2), ('b', 1), ('c', 2), ('d', 1)]
    """
    if fps is None:
        yield from ((frame, 1) for frame, _, _ in frames)
        return
    rate = Fraction(fps)
    done = 0  # places that are given to a frame; never falls, even where time stamps do
    waiting: tuple[T, Fraction] | None = None
    for frame, begin, end in frames:
        if waiting is not None:
            until = max(done, ceil((begin - STAMP_SLACK_SECONDS) * rate))
            yield waiting[0], until - done
            done = until
        waiting = (frame, end)
    if waiting is not None:
        frame, end = waiting
        yield frame, max(done, ceil((end - STAMP_SLACK_SECONDS) * rate), 1) - done


def clip_starts(num_frames: int, clip_length: int) -> tuple[int, ...]:
    """First place of every clip.

    >>> clip_starts(40, 16)
    (0, 16, 32)
    """
    return tuple(range(0, num_frames, clip_length))


def clip_frames(start: int, *, num_frames: int, clip_length: int) -> tuple[int, ...]:
    """The video's frame at each of the clip's clip_length places.

    >>> clip_frames(4, num_frames=7, clip_length=4)
    (4, 5, 6, 4)
    """
    real = min(clip_length, num_frames - start)
    return tuple(start + place % real for place in range(clip_length))


def clip_span(start: int, *, source_frames: Sequence[int], clip_length: int, num_source_frames: int) -> tuple[int, int]:
    """The source frames [first, end) that the clip at that start stands for: from the first it shows up to the first
    of the next clip, so that a dropped frame too is some clip's. Two clips share a frame that resampling repeats in
    both.

    >>> clip_span(0, source_frames=(0, 2, 4, 6), clip_length=2, num_source_frames=8)
    (0, 4)
    """
    shown = source_frames[start : start + clip_length]
    behind = (*source_frames[start + clip_length : start + clip_length + 1], num_source_frames)[0]
    return shown[0], max(shown[-1] + 1, behind)


def shows_first(place: int, *, source_frames: Sequence[int]) -> bool:
    """Whether that place is the video's first to show its source frame; never so behind the video's end.

    >>> [shows_first(place, source_frames=(0, 0, 1)) for place in range(4)]
    [True, False, True, False]
    """
    if place >= len(source_frames):
        return False
    return place == 0 or source_frames[place] != source_frames[place - 1]


def padded_frames(num_frames: int, clip_length: int) -> int:
    """How many places of the last clip repeat a frame.

    >>> padded_frames(40, 16), padded_frames(32, 16)
    (8, 0)
    """
    return -num_frames % clip_length


def cut_clips(frames_THWC: NDArray[np.uint8], *, clip_length: int) -> tuple[NDArray[np.uint8], int]:
    """The video's clips, uint8 (N, clip_length, H, W, C), and how many frames of the last one are repeats."""
    num_frames = len(frames_THWC)
    index = [
        clip_frames(start, num_frames=num_frames, clip_length=clip_length)
        for start in clip_starts(num_frames, clip_length)
    ]
    return frames_THWC[np.asarray(index, dtype=np.intp)], padded_frames(num_frames, clip_length)
