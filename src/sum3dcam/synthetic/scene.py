"""What is around the actor: textured moving background, clutter, distractors, camera shake, light and noise.

Every movement has a distribution that is the same with time running backward (random directions, sines of random
phase, bounces without loss), so that nothing but the actor tells which way time runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sum3dcam.synthetic.difficulty import Difficulty
from sum3dcam.synthetic.distractors import draw_distractors
from sum3dcam.synthetic.figure import Floats
from sum3dcam.synthetic.shapes import SUBPIXEL_BITS, Colour, any_colour, fixed_point, mix

Image = npt.NDArray[np.uint8]

REFERENCE_HEIGHT = 144
"""Difficulty gives lengths in pixels of a frame this high."""
MARGIN_PX = 48
"""Background painted beyond the frame on each side; a pan that goes farther meets its mirror image."""
NOISE_MARGIN_PX = 32


@dataclass(frozen=True)
class Scene:
    """All that a frame shows but the actor."""

    background: Image
    """Larger than the frame by MARGIN_PX on each side."""
    camera_T23: Floats
    """Frame pixel -> background pixel, affine."""
    shake_T2: Floats
    """Displacement in pixels of what stands in the scene."""
    distractors: tuple[tuple[npt.NDArray[np.int32], Colour], ...]
    """Convex outlines (T, V, 2) in 1/16 pixel, in drawing order, each with its colour."""
    light_HWC: Image
    """Brightness over the frame; 255 = unchanged."""
    gain_T: Floats
    noise: Image
    """Around 128, larger than the frame by NOISE_MARGIN_PX."""
    noise_origin_T2: npt.NDArray[np.int64]
    width: int
    height: int


def draw_scene(
    rng: np.random.Generator, *, num_frames: int, width: int, height: int, difficulty: Difficulty, backdrop: Colour
) -> Scene:
    """A scene whose background's mean is about the backdrop."""
    times = np.arange(num_frames, dtype=np.float64)
    unit = height / REFERENCE_HEIGHT
    shake = camera_shake(rng, times=times, amplitude_px=difficulty.shake_px * unit)
    distractors = draw_distractors(rng, times=times, width=width, height=height, difficulty=difficulty)
    return Scene(
        background=_background(rng, width=width, height=height, difficulty=difficulty, backdrop=backdrop),
        camera_T23=_camera(rng, times=times, shake_T2=shake, width=width, height=height, difficulty=difficulty),
        shake_T2=shake,
        distractors=tuple((fixed_point(points + shake[:, None]), colour) for points, colour in distractors),
        light_HWC=_light(rng, width=width, height=height, strength=difficulty.light_change),
        gain_T=_gain(rng, times=times, strength=difficulty.light_change),
        noise=_noise(rng, width=width, height=height, most_levels=difficulty.noise_levels),
        noise_origin_T2=rng.integers(0, NOISE_MARGIN_PX + 1, (num_frames, 2)),
        width=width,
        height=height,
    )


def scene_frame(scene: Scene, *, index: int) -> Image:
    """(H, W, 3) background and distractors, before light and noise."""
    frame: Image = cv2.warpAffine(  # type: ignore[assignment]
        scene.background,
        scene.camera_T23[index],
        (scene.width, scene.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    for points, colour in scene.distractors:
        cv2.fillConvexPoly(frame, points[index], colour, cv2.LINE_AA, SUBPIXEL_BITS)
    return frame


def expose(scene: Scene, *, frame_HWC: Image, index: int) -> Image:
    """(H, W, 3) the frame as the camera records it: light, then the sensor's noise."""
    lit = cv2.multiply(frame_HWC, scene.light_HWC, scale=scene.gain_T[index] / 255)
    y, x = scene.noise_origin_T2[index]
    grain = scene.noise[y : y + scene.height, x : x + scene.width]
    exposed: Image = cv2.addWeighted(lit, 1.0, grain, 1.0, -128.0)  # type: ignore[assignment]
    return exposed


def camera_shake(rng: np.random.Generator, *, times: Floats, amplitude_px: float) -> Floats:
    """(T, 2) a sum of three sines per axis, never beyond the amplitude."""
    periods, phases = rng.uniform(5, 30, (2, 3)), rng.uniform(0, 2 * np.pi, (2, 3))
    weights = rng.dirichlet(np.ones(3), 2) * amplitude_px * rng.uniform(0.3, 1.0)
    angle = 2 * np.pi * times[:, None, None] / periods + phases
    shake: Floats = (weights * np.sin(angle)).sum(axis=-1)
    return shake


def _camera(
    rng: np.random.Generator, *, times: Floats, shake_T2: Floats, width: int, height: int, difficulty: Difficulty
) -> Floats:
    unit = height / REFERENCE_HEIGHT
    heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0, difficulty.background_speed_px * unit)
    middle = times - times.mean()
    pan = middle[:, None] * speed * np.array([np.cos(heading), np.sin(heading)]) - shake_T2
    turn_period, turn_phase = rng.uniform(30, 90), rng.uniform(0, 2 * np.pi)
    most_turn = rng.uniform(0, difficulty.background_turn_radians)
    turn = most_turn * np.sin(2 * np.pi * times / turn_period + turn_phase)
    cos, sin = np.cos(turn), np.sin(turn)
    centre_x, centre_y = width / 2, height / 2
    shift_x = MARGIN_PX + centre_x + pan[:, 0] - cos * centre_x + sin * centre_y
    shift_y = MARGIN_PX + centre_y + pan[:, 1] - sin * centre_x - cos * centre_y
    return np.stack([np.stack([cos, -sin, shift_x], axis=-1), np.stack([sin, cos, shift_y], axis=-1)], axis=1)


def _background(
    rng: np.random.Generator, *, width: int, height: int, difficulty: Difficulty, backdrop: Colour
) -> Image:
    full_width, full_height = width + 2 * MARGIN_PX, height + 2 * MARGIN_PX
    contrast = rng.uniform(*difficulty.texture_contrast)
    texture = np.zeros((full_height, full_width, 3), np.float32)
    weights = rng.dirichlet(np.ones(4)) ** 0.5
    # Octaves of noise, from blotches of 48 pixels to grain of 4; half of it coloured, half grey.
    for cell, weight in zip((48, 20, 9, 4), weights, strict=True):
        rows, columns = full_height // cell + 2, full_width // cell + 2
        grid = 0.5 * rng.standard_normal((rows, columns, 3), np.float32)
        grid += 0.8 * rng.standard_normal((rows, columns, 1), np.float32)
        texture += float(weight) * cv2.resize(grid, (full_width, full_height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.4:
        texture += _stripes(rng, width=full_width, height=full_height)[..., None]
    texture *= np.float32(contrast / max(float(texture.std()), 1e-6))
    canvas: Image = np.clip(texture + np.array(backdrop, np.float32), 0, 255).astype(np.uint8)
    low, high = difficulty.clutter_shapes
    for _ in range(int(rng.integers(low, high + 1))):
        _paint_clutter(rng, canvas=canvas, backdrop=backdrop, height=height)
    return canvas


def _stripes(rng: np.random.Generator, *, width: int, height: int) -> npt.NDArray[np.float32]:
    heading, period = rng.uniform(0, np.pi), rng.uniform(8, 40)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    across = (x * np.cos(heading) + y * np.sin(heading)) * (2 * np.pi / period)
    stripes: npt.NDArray[np.float32] = np.sign(np.sin(across)).astype(np.float32)
    return stripes


def _paint_clutter(rng: np.random.Generator, *, canvas: Image, backdrop: Colour, height: int) -> None:
    """A box, a disc or a bar; its colour leans to the backdrop's, so that the actor's clothes stand out of it."""
    colour = mix(backdrop, any_colour(rng), share=rng.uniform(0.2, 0.6))
    centre = rng.uniform((0, 0), (canvas.shape[1], canvas.shape[0]))
    long, short = rng.uniform(0.06, 0.3) * height, rng.uniform(0.02, 0.15) * height
    kind, angle = rng.integers(3), rng.uniform(0, 180)
    if kind == 0:
        corners = cv2.boxPoints((centre.tolist(), (long, short * 2), angle))
        cv2.fillConvexPoly(canvas, fixed_point(np.asarray(corners, np.float64)), colour, cv2.LINE_AA, SUBPIXEL_BITS)
    elif kind == 1:
        axes = (int(long / 2), int(short) + 1)
        cv2.ellipse(canvas, (int(centre[0]), int(centre[1])), axes, angle, 0, 360, colour, -1, cv2.LINE_AA)
    else:
        reach = long * 1.5 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        ends = fixed_point(np.stack([centre - reach, centre + reach])).tolist()
        cv2.line(canvas, ends[0], ends[1], colour, max(1, height // 60), cv2.LINE_AA, SUBPIXEL_BITS)


def _light(rng: np.random.Generator, *, width: int, height: int, strength: float) -> Image:
    """A slope of brightness across the frame."""
    slope = rng.uniform(-1, 1, 2) * strength / 2
    x, y = np.linspace(-1, 1, width)[None], np.linspace(-1, 1, height)[:, None]
    level = 1 - strength / 2 + (slope[0] * x + slope[1] * y) / 2
    return np.repeat(np.rint(np.clip(255 * level, 0, 255)).astype(np.uint8)[..., None], 3, axis=2)


def _gain(rng: np.random.Generator, *, times: Floats, strength: float) -> Floats:
    """Brightness over time: a level of its own and a slow wave."""
    level, depth = 1 + rng.uniform(-0.5, 1.0) * strength, rng.uniform(0, 0.4) * strength
    period, phase = rng.uniform(15, 60), rng.uniform(0, 2 * np.pi)
    gain: Floats = level + depth * np.sin(2 * np.pi * times / period + phase)
    return gain


def _noise(rng: np.random.Generator, *, width: int, height: int, most_levels: float) -> Image:
    shape = (height + NOISE_MARGIN_PX, width + NOISE_MARGIN_PX, 3)
    levels = rng.uniform(0, most_levels) if most_levels else 0.0
    grain = rng.standard_normal(shape, np.float32) * np.float32(levels) + np.float32(128)
    noise: Image = np.clip(np.rint(grain), 0, 255).astype(np.uint8)
    return noise
