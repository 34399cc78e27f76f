"""Convex outlines and colours: what the body and the scene are drawn from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sum3dcam.synthetic.figure import Floats

Colour = tuple[int, int, int]
"""RGB."""

SUBPIXEL_BITS = 4
"""OpenCV draws at 1/16 pixel."""
ARC_POINTS = 7
"""Vertices on the round end of a capsule: at a radius of 10 pixels the outline is within 0.4 pixels of a circle."""


def capsule(start: Floats, end: Floats, *, radii: tuple[Floats | float, Floats | float]) -> Floats:
    """(..., 2 * ARC_POINTS, 2) outline vertices of capsules from start to end, (..., 2), with a radius at each."""
    along = end - start
    heading = np.arctan2(along[..., 1], along[..., 0])[..., None]
    arc = heading + np.linspace(-np.pi / 2, np.pi / 2, ARC_POINTS)
    # (..., V, 2); the arc at the start is the opposite one.
    round_end = np.stack([np.cos(arc), np.sin(arc)], axis=-1)
    start_radius, end_radius = (np.asarray(radius)[..., None, None] for radius in radii)
    return np.concatenate(
        [end[..., None, :] + end_radius * round_end, start[..., None, :] - start_radius * round_end], axis=-2
    )


def disc(centre_T2: Floats, *, radius: float) -> Floats:
    """(T, 24, 2) vertices of a disc over time."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return centre_T2[:, None] + radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def fixed_point(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """Pixels -> int32 in 1/16 pixel."""
    fixed: npt.NDArray[np.int32] = np.rint(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
    return fixed


def any_colour(rng: np.random.Generator, *, darkest: int = 25, brightest: int = 235) -> Colour:
    """A colour drawn evenly from a cube in RGB."""
    red, green, blue = (int(value) for value in rng.integers(darkest, brightest + 1, 3))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, darker for a factor below 1."""
    red, green, blue = (min(255, int(value * factor)) for value in colour)
    return red, green, blue


def mix(first: Colour, second: Colour, *, share: float) -> Colour:
    """The first colour for a share of 0, the second for 1."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return red, green, blue
