"""What a figure does: for each action the joint angles as a pure function of the phase.

Angles are radians from straight down, positive towards the side the figure faces: 0 hangs, pi/2 points
forward, pi points up. One cycle is one unit of phase. Three of the motions also run backward in time
(`REVERSED`); they are written once, so that a pair of actions has the very same single frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

REVERSED: dict[str, str] = {
    "circle_arms_backward": "circle_arms_forward",
    "stand_up_slowly": "sit_down_slowly",
    "walk_backward": "walk_forward",
}
"""An action -> the one that it is when time runs backward."""


@dataclass(frozen=True)
class Manner:
    """How one person does an action: `amplitude` about 1, `variant` in [0, 1) picks among the action's forms."""

    amplitude: float
    variant: float


@dataclass(frozen=True)
class Pose:
    """Joint angles of a figure over time: radians, float64 (T,)."""

    torso: Floats
    """Lean from upright, positive towards the facing side."""
    near_arm: Floats
    near_forearm: Floats
    far_arm: Floats
    far_forearm: Floats
    near_thigh: Floats
    near_shin: Floats
    far_thigh: Floats
    far_shin: Floats
    near_foot: Floats
    far_foot: Floats
    lift: Floats
    """Height of the lower foot above the ground, in body heights."""
    turn: float
    """0 = seen from the front, 1 = in profile."""
    planted: float
    """1 = the far foot keeps its place, 0 = the pelvis does."""


def walk(phase_T: Floats, *, manner: Manner) -> Pose:
    """The knee bends while its thigh swings forward: this, not the swing, tells the direction of time."""
    angle = 2 * np.pi * phase_T
    swing = 0.55 * manner.amplitude
    near_thigh, far_thigh = 0.05 + swing * np.sin(angle), 0.05 - swing * np.sin(angle)
    near_bend = 0.12 + 1.15 * manner.amplitude * np.clip(np.cos(angle + 0.35), 0, None)
    far_bend = 0.12 + 1.15 * manner.amplitude * np.clip(-np.cos(angle + 0.35), 0, None)
    near_arm, far_arm = -0.75 * swing / 0.55 * np.sin(angle), 0.75 * swing / 0.55 * np.sin(angle)
    elbow = 0.35 + 0.5 * manner.variant
    near_shin, far_shin = near_thigh - near_bend, far_thigh - far_bend
    return Pose(
        torso=np.full_like(angle, 0.08),
        near_arm=near_arm,
        near_forearm=near_arm + elbow,
        far_arm=far_arm,
        far_forearm=far_arm + elbow,
        near_thigh=near_thigh,
        near_shin=near_shin,
        far_thigh=far_thigh,
        far_shin=far_shin,
        near_foot=near_shin + 1.5,
        far_foot=far_shin + 1.5,
        lift=np.zeros_like(angle),
        turn=1.0,
        planted=0.0,
    )


def circle_arms(phase_T: Floats, *, manner: Manner) -> Pose:
    """Forward: at the top the hand moves to the facing side. Both arms together, opposed, or the near one alone.

    An arm rises bent and slowly behind the back and falls straight and fast in front, as a swimmer's does: whoever
    cannot make out which way a small figure faces still sees the sense.
    """
    angle = _rise_slowly(phase_T)
    zeros = np.zeros_like(angle)
    near_arm = -angle
    near_bend = _bend_while_rising(angle)
    if manner.variant < 0.75:
        far_angle = angle if manner.variant < 0.4 else _rise_slowly(phase_T + 0.5)
        far_arm, far_bend = -far_angle, _bend_while_rising(far_angle)
    else:
        far_arm = far_bend = zeros
    sway = 0.04 * np.sin(angle)
    return Pose(
        torso=0.02 + sway,
        near_arm=near_arm,
        near_forearm=near_arm + near_bend,
        far_arm=far_arm,
        far_forearm=far_arm + far_bend,
        near_thigh=zeros + 0.14,
        near_shin=zeros - 0.02,
        far_thigh=zeros - 0.06,
        far_shin=zeros - 0.18,
        near_foot=zeros + np.pi / 2,
        far_foot=zeros + np.pi / 2,
        lift=zeros,
        turn=1.0,
        planted=1.0,
    )


def _rise_slowly(phase_T: Floats) -> Floats:
    """Angle of a circling arm: the rising half circle takes 65 % of the cycle."""
    cycle = np.mod(phase_T, 1.0)
    return np.pi * np.where(cycle < 0.65, cycle / 0.65, 1 + (cycle - 0.65) / 0.35)


def _bend_while_rising(angle_T: Floats) -> Floats:
    return 1.5 * np.clip(np.sin(angle_T), 0, None)


def squat(phase_T: Floats, *, manner: Manner) -> Pose:
    """Sinks for three quarters of the cycle and rises in the last."""
    cycle = np.mod(phase_T, 1.0)
    ramp = np.where(cycle < 0.75, cycle / 0.75, (1 - cycle) / 0.25)
    # Half straight, half eased: the middle of the slope stays steep enough to see which way it goes.
    depth = (0.5 * ramp + 0.25 * (1 - np.cos(np.pi * ramp))) * min(1.0, 0.9 * manner.amplitude)
    arm = 0.1 + (1.4 if manner.variant < 0.6 else 0.3) * depth
    thigh, shin = 0.02 + 1.6 * depth, -0.02 - 0.5 * depth
    feet = np.full_like(depth, np.pi / 2)
    return Pose(
        torso=0.02 + 0.55 * depth,
        near_arm=arm,
        near_forearm=arm + 0.1,
        far_arm=arm - 0.12,
        far_forearm=arm,
        near_thigh=thigh,
        near_shin=shin,
        far_thigh=thigh - 0.1,
        far_shin=shin - 0.06,
        near_foot=feet,
        far_foot=feet,
        lift=np.zeros_like(depth),
        turn=1.0,
        planted=1.0,
    )


def jumping_jack(phase_T: Floats, *, manner: Manner) -> Pose:
    """Seen from the front; arms and legs open and close together."""
    angle = 2 * np.pi * phase_T
    opening = (1 - np.cos(angle)) / 2
    arm = 0.2 + 2.65 * opening
    leg = 0.04 + 0.5 * manner.amplitude * opening
    feet = np.full_like(angle, 0.9)
    return Pose(
        torso=np.zeros_like(angle),
        near_arm=arm,
        near_forearm=arm + 0.12,
        far_arm=-arm,
        far_forearm=-arm - 0.12,
        near_thigh=leg,
        near_shin=leg,
        far_thigh=-leg,
        far_shin=-leg,
        near_foot=feet,
        far_foot=-feet,
        lift=0.07 * manner.amplitude * np.abs(np.sin(angle)),
        turn=0.0,
        planted=0.0,
    )


def wave(phase_T: Floats, *, manner: Manner) -> Pose:
    """The raised forearm swings over the head; the other arm hangs."""
    angle = 2 * np.pi * phase_T
    zeros = np.zeros_like(angle)
    arm = 2.1 + 0.1 * np.sin(angle)
    forearm = np.pi + 0.85 * manner.amplitude * np.sin(angle)
    hanging = zeros + 0.12
    raised_is_near = manner.variant < 0.5
    return Pose(
        torso=0.03 * np.sin(angle),
        near_arm=arm if raised_is_near else hanging,
        near_forearm=forearm if raised_is_near else hanging,
        far_arm=-hanging if raised_is_near else -arm,
        far_forearm=-hanging if raised_is_near else -forearm,
        near_thigh=zeros + 0.06,
        near_shin=zeros + 0.04,
        far_thigh=zeros - 0.06,
        far_shin=zeros - 0.04,
        near_foot=zeros + 1.0,
        far_foot=zeros - 1.0,
        lift=zeros,
        turn=0.25,
        planted=1.0,
    )


def kick(phase_T: Floats, *, manner: Manner) -> Pose:
    """The near leg swings back bent and shoots out to the facing side."""
    angle = 2 * np.pi * phase_T
    thigh = 0.5 + 1.0 * manner.amplitude * np.sin(angle)
    bend = 0.05 + 1.1 * np.clip(-np.sin(angle - 0.5), 0, None)
    zeros = np.zeros_like(angle)
    balance = 0.5 * np.sin(angle)
    return Pose(
        torso=-0.08 - 0.2 * np.sin(angle),
        near_arm=-0.2 - balance,
        near_forearm=0.3 - balance,
        far_arm=0.4 + balance,
        far_forearm=0.8 + balance,
        near_thigh=thigh,
        near_shin=thigh - bend,
        far_thigh=zeros + 0.05,
        far_shin=zeros - 0.05,
        near_foot=thigh - bend + 1.4,
        far_foot=zeros + np.pi / 2,
        lift=zeros,
        turn=1.0,
        planted=1.0,
    )


def bow(phase_T: Floats, *, manner: Manner) -> Pose:
    """The torso bends at the hip until it lies level, and comes up again."""
    angle = 2 * np.pi * phase_T
    depth = (1 - np.cos(angle)) / 2 * min(1.1, manner.amplitude)
    arm = 0.05 + (0.2 if manner.variant < 0.6 else -1.1) * depth
    zeros = np.zeros_like(angle)
    return Pose(
        torso=0.02 + 1.5 * depth,
        near_arm=arm,
        near_forearm=arm + 0.1,
        far_arm=arm - 0.08,
        far_forearm=arm + 0.04,
        near_thigh=0.02 + 0.15 * depth,
        near_shin=0.02 + 0.15 * depth,
        far_thigh=-0.04 + 0.15 * depth,
        far_shin=-0.04 + 0.15 * depth,
        near_foot=zeros + np.pi / 2,
        far_foot=zeros + np.pi / 2,
        lift=zeros,
        turn=1.0,
        planted=1.0,
    )


@dataclass(frozen=True)
class Motion:
    """An action in its forward sense: its pose, its period, and how far a cycle carries the body."""

    pose: Callable[..., Pose]
    period_frames: tuple[float, float]
    travel_per_cycle: tuple[float, float] = (0.0, 0.0)
    """In body heights, towards the facing side."""


MOTIONS: dict[str, Motion] = {
    "bow": Motion(bow, (11.0, 15.0)),
    "circle_arms_forward": Motion(circle_arms, (9.5, 14.0)),
    "jumping_jack": Motion(jumping_jack, (9.5, 14.0)),
    "kick": Motion(kick, (9.5, 14.0)),
    "sit_down_slowly": Motion(squat, (11.0, 15.0)),
    "walk_forward": Motion(walk, (10.0, 14.0), (0.08, 0.2)),
    "wave": Motion(wave, (8.5, 12.0)),
}
ACTIONS: tuple[str, ...] = tuple(sorted([*MOTIONS, *REVERSED]))
PLAYED_BACKWARD: dict[str, str] = {
    **REVERSED,
    **{forward: backward for backward, forward in REVERSED.items()},
    **{symmetric: symmetric for symmetric in ("bow", "jumping_jack", "wave")},
}
"""An action -> the one that it is when played backward. A kick is none of them then."""
