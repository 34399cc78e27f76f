"""Oracle: short sequences written out."""

import numpy as np
import pytest

from sum3dcam.video.sample import clip_starts, cut_clips


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
