"""Moving shapes that are no figures: balls, boxes and poles, to and fro as often as fro and to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sum3dcam.synthetic.difficulty import Difficulty
from sum3dcam.synthetic.figure import Floats
from sum3dcam.synthetic.shapes import Colour, any_colour, capsule, disc, shade

Moving = tuple[Floats, Colour]
"""A convex outline over time, (T, V, 2), and its colour."""


def draw_distractors(
    rng: np.random.Generator, *, times: Floats, width: int, height: int, difficulty: Difficulty
) -> list[Moving]:
    """What moves about the scene: outlines in pixels, in drawing order."""
    low, high = difficulty.distractors
    drawn: list[Moving] = []
    for _ in range(int(rng.integers(low, high + 1))):
        kind = KINDS[int(rng.integers(len(KINDS)))]
        drawn += kind(rng, times, (float(width), float(height)))
    return drawn


def _ball(rng: np.random.Generator, times: Floats, frame: tuple[float, float]) -> list[Moving]:
    """Rolls along a level, with a bar across it that shows the rolling."""
    radius, speed = rng.uniform(0.05, 0.12) * frame[1], rng.uniform(0.005, 0.02) * frame[1]
    x = _bounce(rng.uniform(0, 2), times * speed / frame[0])
    centre = np.stack([x * frame[0], np.full_like(x, rng.uniform(0.1, 0.95) * frame[1])], axis=-1)
    # Rolling without slipping: the angle is the way over the radius, and turns back where the ball does.
    roll = x * frame[0] / radius
    reach = 0.8 * radius * np.stack([np.cos(roll), np.sin(roll)], axis=-1)
    colour = any_colour(rng)
    return [
        (disc(centre, radius=radius), colour),
        (capsule(centre - reach, centre + reach, radii=(0.15 * radius, 0.15 * radius)), any_colour(rng)),
    ]


def _box(rng: np.random.Generator, times: Floats, frame: tuple[float, float]) -> list[Moving]:
    """Slides straight across the frame in any direction and bounces off its edges."""
    half = rng.uniform(0.05, 0.14, 2) * frame[1]
    speed, heading = rng.uniform(0.005, 0.025) * frame[1], rng.uniform(0, 2 * np.pi)
    x = _bounce(rng.uniform(0, 2), times * speed * np.cos(heading) / frame[0])
    y = _bounce(rng.uniform(0, 2), times * speed * np.sin(heading) / frame[1])
    centre = np.stack([x * frame[0], y * frame[1]], axis=-1)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64) * half
    colour = any_colour(rng)
    return [(centre[:, None] + corners, shade(colour, 0.5)), (centre[:, None] + corners * 0.8, colour)]


def _pole(rng: np.random.Generator, times: Floats, frame: tuple[float, float]) -> list[Moving]:
    """Swings on a pivot."""
    length, radius = rng.uniform(0.25, 0.5) * frame[1], rng.uniform(0.012, 0.03) * frame[1]
    pivot = np.array([rng.uniform(0, frame[0]), rng.uniform(-0.1, 0.6) * frame[1]])
    period, phase = rng.uniform(10, 30), rng.uniform(0, 2 * np.pi)
    angle = rng.uniform(0.3, 1.0) * np.sin(2 * np.pi * times / period + phase)
    tip = pivot + length * np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    colour = any_colour(rng)
    start = np.broadcast_to(pivot, tip.shape)
    return [(capsule(start, tip, radii=(radius, radius)), colour), (disc(tip, radius=2.5 * radius), colour)]


Kind = Callable[[np.random.Generator, Floats, tuple[float, float]], list[Moving]]
KINDS: tuple[Kind, ...] = (_ball, _box, _pole)


def _bounce(start: float, way: Floats) -> Floats:
    """A point that goes to and fro in [0, 1]; a start in [0, 2) settles place and heading."""
    position = np.mod(start + way, 2.0)
    return np.where(position < 1, position, 2 - position)
