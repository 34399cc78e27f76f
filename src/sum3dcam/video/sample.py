"""Frames to clips: consecutive, non-overlapping, the tail repeated from its own start. Pure integers."""

import numpy as np
from numpy.typing import NDArray


def clip_starts(num_frames: int, clip_length: int) -> tuple[int, ...]:
    """First frame of every clip.

    >>> clip_starts(40, 16)
    (0, 16, 32)
    """
    return tuple(range(0, num_frames, clip_length))


def clip_frames(start: int, *, num_frames: int, clip_length: int) -> tuple[int, ...]:
    """The source frame behind each of the clip's clip_length places.

    >>> clip_frames(4, num_frames=7, clip_length=4)
    (4, 5, 6, 4)
    """
    real = min(clip_length, num_frames - start)
    return tuple(start + place % real for place in range(clip_length))


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
