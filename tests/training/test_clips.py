"""What augmentation may and may not do to a clip and its label."""

from pathlib import Path

import numpy as np
import pytest

from sum3dcam.synthetic import ACTIONS
from sum3dcam.training.clips import BACKWARD_LABEL, ClipSet, cached_clips, resize, window


@pytest.mark.parametrize(
    ("action", "backward"),
    [
        ("walk_forward", "walk_backward"),
        ("walk_backward", "walk_forward"),
        ("circle_arms_forward", "circle_arms_backward"),
        ("sit_down_slowly", "stand_up_slowly"),
    ],
)
def test_a_reversed_clip_gets_the_label_of_the_reversed_action(action: str, backward: str) -> None:
    assert ACTIONS[BACKWARD_LABEL[ACTIONS.index(action)]] == backward


@pytest.mark.parametrize("action", ["wave", "kick", "bow", "jumping_jack"])
def test_an_action_without_a_reverse_is_never_played_backward(action: str) -> None:
    assert BACKWARD_LABEL[ACTIONS.index(action)] == -1


def test_augmentation_mirrors_reverses_and_shuffles_colours_and_nothing_else() -> None:
    clips = np.zeros((2, 4, 6, 6, 3), np.uint8)
    # One bright red pixel: first frame, left. Where it goes says what was done.
    clips[:, 0, 2, 0, 0] = 200
    walk, wave = ACTIONS.index("walk_forward"), ACTIONS.index("wave")
    source = ClipSet(clips, np.array([walk, wave]))
    rng = np.random.default_rng(0)
    examples = [source.augmented(item % 2, num_frames=4, size_px=6, rng=rng) for item in range(200)]
    where = [tuple(int(axis) for axis in np.argwhere(example.clip_THWC == 200)[0]) for example in examples]
    assert {(frame, x) for frame, _, x, _ in where} == {(0, 0), (0, 5), (3, 0), (3, 5)}
    assert {y for _, y, _, _ in where} == {2}
    assert {channel for *_, channel in where} == {0, 1, 2}
    for (frame, *_), example, before in zip(where, examples, [walk, wave] * 100, strict=True):
        reversed_in_time = frame == 3
        assert example.label == (BACKWARD_LABEL[before] if reversed_in_time else before)
        assert not (reversed_in_time and before == wave)
        assert example.gain_C.shape == example.bias_C.shape == (3,)
    assert {example.key for example in examples} == {"rendered/walk_forward_00000 clip 0", "rendered/wave_00000 clip 1"}


def test_a_plain_clip_is_the_middle_as_it_is() -> None:
    clips = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, :, None, None, None], (1, 16, 2, 2, 3))
    example = ClipSet(clips, np.array([3])).plain(0, num_frames=6, size_px=2)
    assert example.clip_THWC[:, 0, 0, 0].tolist() == [5, 6, 7, 8, 9, 10]
    assert (example.label, example.gain_C.tolist(), example.bias_C.tolist()) == (3, [1, 1, 1], [0, 0, 0])


def test_resize_averages_areas() -> None:
    frames = np.zeros((1, 4, 4, 3), np.uint8)
    frames[0, :2, :2] = 100
    assert resize(frames, size_px=2)[0, :, :, 0].tolist() == [[100, 0], [0, 0]]


def test_windows_are_consecutive_frames_from_any_start() -> None:
    clip = np.broadcast_to(np.arange(16, dtype=np.uint8)[:, None, None, None], (16, 2, 2, 3))
    rng = np.random.default_rng(0)
    cut = np.stack([window(clip, num_frames=5, rng=rng)[:, 0, 0, 0] for _ in range(100)])
    assert (np.diff(cut, axis=1) == 1).all()
    assert set(cut[:, 0]) == set(range(12))


def test_cached_clips_are_rendered_once_and_labelled_in_turn(tmp_path: Path) -> None:
    first = cached_clips(tmp_path, difficulty="easy", num_videos=3, seed=5, workers=1)
    (file,) = tmp_path.glob("*.npy")
    written = file.stat().st_mtime_ns
    again = cached_clips(tmp_path, difficulty="easy", num_videos=3, seed=5, workers=1)
    assert first.clips_NTHWC.shape == (6, 16, 112, 112, 3)
    assert first.labels_N.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.array_equal(first.clips_NTHWC, again.clips_NTHWC)
    assert file.stat().st_mtime_ns == written
