"""A figure's body: from joint angles to filled outlines, and the paint on them.

Every part is a capsule (two discs of maybe different radius and what lies between), so a figure is one array of
convex outlines. Units are body heights until `Actor` puts them in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sum3dcam.synthetic.figure import Floats, Pose
from sum3dcam.synthetic.shapes import SUBPIXEL_BITS, Colour, capsule, fixed_point, shade

OUTLINE = 0.011
"""Width of the dark line around the parts, in body heights."""


@dataclass(frozen=True)
class Body:
    """Proportions in body heights, and colours (RGB)."""

    torso: float
    arm: float
    leg: float
    head: float
    """Radius."""
    girth: float
    """Factor on the thickness of everything."""
    shirt: Colour
    sleeve: Colour
    cuff: Colour
    """Of the forearm: the sleeve's or the skin's colour."""
    trousers: Colour
    skin: Colour
    cap: Colour
    shoe: Colour


@dataclass(frozen=True)
class Part:
    """A capsule over time: from start (T, 2) to end (T, 2), with a radius at each."""

    start: Floats
    end: Floats
    radii: tuple[float, float]
    colour: Colour


def direction(angle_T: Floats) -> Floats:
    """(T, 2) unit vectors (x to the facing side, y down) of angles from straight down."""
    return np.stack([np.sin(angle_T), np.cos(angle_T)], axis=-1)


def limbs(pose: Pose, *, body: Body) -> list[list[Part]]:
    """The figure on ground y = 0, facing +x, as groups of parts from the farthest to the nearest."""
    up = -direction(pose.torso) * np.array([-1.0, 1.0])
    across = np.stack([-up[:, 1], up[:, 0]], axis=-1)
    frontal = 1.0 - pose.turn
    pelvis = np.zeros((len(pose.torso), 2))
    chest = pelvis + body.torso * up
    shoulder = across * 0.085 * frontal
    hip = np.array([0.05 * frontal, 0.0])
    girth = body.girth

    def leg(at: Floats, thigh_T: Floats, shin_T: Floats, foot_T: Floats, light: float) -> list[Part]:
        knee = at + 0.51 * body.leg * direction(thigh_T)
        ankle = knee + 0.49 * body.leg * direction(shin_T)
        toe = ankle + 0.095 * direction(foot_T)
        return [
            Part(ankle, toe, (0.03 * girth, 0.024 * girth), shade(body.shoe, light)),
            Part(knee, ankle, (0.042 * girth, 0.03 * girth), shade(body.trousers, light)),
            Part(at, knee, (0.056 * girth, 0.042 * girth), shade(body.trousers, light)),
        ]

    def arm(at: Floats, upper_T: Floats, fore_T: Floats, light: float) -> list[Part]:
        elbow = at + 0.48 * body.arm * direction(upper_T)
        wrist = elbow + 0.46 * body.arm * direction(fore_T)
        hand = wrist + 0.06 * body.arm * direction(fore_T)
        return [
            Part(elbow, wrist, (0.032 * girth, 0.027 * girth), shade(body.cuff, light)),
            Part(at, elbow, (0.04 * girth, 0.034 * girth), shade(body.sleeve, light)),
            Part(wrist, hand, (0.033 * girth, 0.036 * girth), shade(body.skin, light)),
        ]

    far_leg = leg(pelvis - hip, pose.far_thigh, pose.far_shin, pose.far_foot, 0.72)
    near_leg = leg(pelvis + hip, pose.near_thigh, pose.near_shin, pose.near_foot, 1.0)
    far_arm = arm(chest - shoulder, pose.far_arm, pose.far_forearm, 0.72)
    near_arm = arm(chest + shoulder, pose.near_arm, pose.near_forearm, 1.0)
    width = (0.07 + 0.035 * frontal) * girth
    trunk = [
        Part(chest, chest + (0.05 + body.head * 0.4) * up, (0.032 * girth, 0.032 * girth), shade(body.skin, 0.85)),
        Part(pelvis - 0.01 * up, chest - 0.02 * up, (0.85 * width, width), body.shirt),
    ]
    groups = [far_arm, far_leg, trunk, near_leg, _head(chest, up, across, pose=pose, body=body), near_arm]
    if frontal:
        groups = [far_leg, near_leg, trunk, groups[4], far_arm, near_arm]
    return _stand(groups, feet=(far_leg, near_leg), pose=pose)


def _head(chest: Floats, up: Floats, across: Floats, *, pose: Pose, body: Body) -> list[Part]:
    """Face, cap with a peak, nose and eye: they show which way the figure looks."""
    radius = body.head
    centre = chest + (0.055 + radius) * up
    ahead = across * (pose.turn * radius)
    crown = centre + 0.45 * radius * up - 0.12 * ahead
    brow = centre + 0.42 * radius * up
    nose = centre + 0.95 * ahead - 0.1 * radius * up
    return [
        Part(nose, nose + 0.2 * ahead, (0.26 * radius, 0.2 * radius), body.skin),
        Part(centre, centre + 0.04 * up, (radius, 0.97 * radius), body.skin),
        Part(crown - 0.1 * across * radius, crown + 0.1 * across * radius, (0.78 * radius, 0.78 * radius), body.cap),
        Part(brow, brow + 1.5 * ahead, (0.22 * radius, 0.17 * radius), body.cap),
    ]


def _stand(groups: list[list[Part]], *, feet: tuple[list[Part], list[Part]], pose: Pose) -> list[list[Part]]:
    """Moves the figure so that its lower foot touches the ground (plus lift) and the planted foot keeps its place."""
    soles = [
        np.maximum(foot.start[:, 1] + foot.radii[0], foot.end[:, 1] + foot.radii[1])
        for foot in (feet[0][0], feet[1][0])
    ]
    ground = np.maximum(soles[0], soles[1]) + pose.lift
    ankle_x = feet[0][0].start[:, 0] * pose.planted
    move = np.stack([ankle_x, ground], axis=-1)
    return [[Part(part.start - move, part.end - move, part.radii, part.colour) for part in group] for group in groups]


@dataclass(frozen=True)
class Outlines:
    """A figure ready to be scaled: vertices (T, P, V, 2) in body heights, drawn in order of P.

    `contour` marks the parts drawn wider in a dark tone below the others: together they cover the whole figure.
    """

    vertices_TPV2: Floats
    colours: tuple[Colour, ...]
    contour: tuple[bool, ...]


def outlines(pose: Pose, *, body: Body) -> Outlines:
    """Each group's dark contour, then its parts, from the farthest group to the nearest."""
    parts, widenings, colours = [], [], []
    for group in limbs(pose, body=body):
        for widening, factor in ((OUTLINE, 0.35), (0.0, 1.0)):
            for part in group:
                parts.append(part)
                widenings.append(widening)
                colours.append(shade(part.colour, factor))
    start = np.stack([part.start for part in parts], axis=1)
    end = np.stack([part.end for part in parts], axis=1)
    radii = np.array([part.radii for part in parts]) + np.array(widenings)[:, None]
    vertices = capsule(start, end, radii=(radii[:, 0], radii[:, 1]))
    return Outlines(vertices, tuple(colours), tuple(widening > 0 for widening in widenings))


@dataclass(frozen=True)
class Actor:
    """A figure in the frame: vertices int32 (T, P, V, 2) in 1/16 pixel."""

    vertices_TPV2: npt.NDArray[np.int32]
    colours: tuple[Colour, ...]
    contour: tuple[bool, ...]


def place(figure: Outlines, *, scale_px: float, offset_px_T2: Floats, facing: int) -> Actor:
    """The figure at a scale (pixels per body height), its origin at the offsets, facing +1 = right or -1 = left."""
    pixels = figure.vertices_TPV2 * np.array([facing * scale_px, scale_px]) + offset_px_T2[:, None, None]
    return Actor(fixed_point(pixels), figure.colours, figure.contour)


def paint(actor: Actor, *, index: int, frame_HWC: npt.NDArray[np.uint8], mask_HW: npt.NDArray[np.uint8]) -> None:
    """Draws the actor at a frame's index into the frame, and its coverage (0..255) into the mask."""
    for points, colour, contour in zip(actor.vertices_TPV2[index], actor.colours, actor.contour, strict=True):
        cv2.fillConvexPoly(frame_HWC, points, colour, cv2.LINE_AA, SUBPIXEL_BITS)
        if contour:
            cv2.fillConvexPoly(mask_HW, points, (255,), cv2.LINE_AA, SUBPIXEL_BITS)
