"""The motions as joint angles: what makes each action the one it is."""

import numpy as np
import pytest

from sum3dcam.synthetic.figure import MOTIONS, Manner, circle_arms, squat, walk

CYCLE = np.linspace(0, 1, 400, endpoint=False)
MANNER = Manner(amplitude=1.0, variant=0.2)


@pytest.mark.parametrize("action", MOTIONS)
def test_a_motion_repeats_after_one_cycle(action: str) -> None:
    pose, later = (vars(MOTIONS[action].pose(phase, manner=MANNER)) for phase in (CYCLE, CYCLE + 1))
    for joint in pose:
        # Angles are compared as directions: a circling arm is a whole turn further. 1e-9: rounding of phase + 1.
        np.testing.assert_allclose(np.exp(1j * pose[joint]), np.exp(1j * later[joint]), atol=1e-9, err_msg=joint)


def test_a_walker_bends_the_knee_while_the_thigh_swings_forward() -> None:
    pose = walk(CYCLE, manner=MANNER)
    bend, swing = pose.near_thigh - pose.near_shin, np.gradient(pose.near_thigh)
    assert bend[swing > 0].mean() > 3 * bend[swing < 0].mean()


def test_arms_circle_forward_over_the_top_to_the_facing_side() -> None:
    pose = circle_arms(CYCLE, manner=MANNER)
    height, ahead = -np.cos(pose.near_arm), np.sin(pose.near_arm)
    assert (np.gradient(ahead)[height > 0.9] > 0).all()


def test_sitting_down_takes_three_quarters_of_the_cycle() -> None:
    pose = squat(CYCLE, manner=MANNER)
    going_down = np.diff(pose.near_thigh) > 0
    # One of 400 samples straddles each turning point.
    assert abs(going_down.mean() - 0.75) <= 2 / 400
