"""What surrounds the actor tells nothing about which way time runs."""

import numpy as np
import pytest

from sum3dcam.synthetic.difficulty import DIFFICULTIES
from sum3dcam.synthetic.scene import camera_shake, draw_scene


def test_camera_shake_never_exceeds_its_amplitude() -> None:
    for seed in range(50):
        shake = camera_shake(np.random.default_rng(seed), times=np.arange(100.0), amplitude_px=2.5)
        assert np.abs(shake).max() <= 2.5


@pytest.mark.parametrize("quantity", ["pan", "gain", "distractors"])
def test_background_motion_has_no_preferred_direction_in_time(quantity: str) -> None:
    """Oracle: a sign test over 200 scenes; |ups - downs| has standard deviation sqrt(200) = 14, we allow 4 of them."""
    balance = 0
    for seed in range(200):
        scene = draw_scene(
            np.random.default_rng(seed),
            num_frames=8,
            width=32,
            height=32,
            difficulty=DIFFICULTIES["full"],
            backdrop=(90, 120, 90),
        )
        if quantity == "pan":
            series = scene.camera_T23[:, 0, 2]
        elif quantity == "gain":
            series = scene.gain_T
        else:
            series = np.concatenate([outline[..., 0] for outline, _ in scene.distractors], axis=1).mean(axis=1)
        balance += int(np.sign(series[-1] - series[0]))
    assert abs(balance) < 4 * np.sqrt(200)


def test_an_easy_scene_stands_still() -> None:
    scene = draw_scene(
        np.random.default_rng(0),
        num_frames=5,
        width=64,
        height=48,
        difficulty=DIFFICULTIES["easy"],
        backdrop=(90, 120, 90),
    )
    assert np.ptp(scene.camera_T23, axis=0).max() == 0
    assert np.abs(scene.shake_T2).max() == 0
    assert not scene.distractors
    assert np.ptp(scene.gain_T) == 0
