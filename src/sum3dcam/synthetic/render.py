"""One video of one action: a person in a scene, with the box of the person in every frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sum3dcam.synthetic.body import Actor, Body, outlines, paint, place
from sum3dcam.synthetic.difficulty import Difficulty
from sum3dcam.synthetic.figure import ACTIONS, MOTIONS, REVERSED, Floats, Manner, Motion
from sum3dcam.synthetic.scene import REFERENCE_HEIGHT, Scene, draw_scene, expose, scene_frame
from sum3dcam.synthetic.shapes import Colour, any_colour

FPS = 25.0
SKINS: tuple[Colour, ...] = ((255, 219, 190), (235, 188, 150), (198, 140, 100), (150, 98, 66), (98, 62, 42))
EDGE_PX = 1.0
"""What anti-aliasing may add beyond an outline."""


@dataclass(frozen=True)
class RenderedVideo:
    """A video and where its actor is."""

    frames_THWC: npt.NDArray[np.uint8]
    """RGB."""
    boxes_xyxy_px: npt.NDArray[np.float32]
    """(T, 4) half-open [x1, y1, x2, y2): the tight box of the pixels that the actor covers by half or more."""
    action: str
    fps: float
    seed: int


@dataclass(frozen=True)
class Composition:
    """All that is drawn at random, before any pixel of a frame. Time runs in the sense of the forward action."""

    scene: Scene
    actor: Actor
    num_frames: int


def render(
    *, seed: int, action: str, num_frames: int = 48, width: int = 192, height: int = 144, difficulty: Difficulty
) -> RenderedVideo:
    """The video of a seed: the same bytes each time.

    The two actions of a time-reversed pair (`REVERSED`) give, for one seed, the same frames in opposite order.
    Raises ValueError for an unknown action, a negative seed, no frames, or a side that is odd or below 32 pixels.
    """
    check_request(seed=seed, action=action, num_frames=num_frames, width=width, height=height)
    composition = compose(
        seed=seed, action=action, num_frames=num_frames, width=width, height=height, difficulty=difficulty
    )
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    boxes = np.empty((num_frames, 4), np.float32)
    mask = np.zeros((height, width), np.uint8)
    for index in range(num_frames):
        frame = scene_frame(composition.scene, index=index)
        mask[:] = 0
        paint(composition.actor, index=index, frame_HWC=frame, mask_HW=mask)
        boxes[index] = mask_box(mask)
        frames[index] = expose(composition.scene, frame_HWC=frame, index=index)
    if action in REVERSED:
        frames, boxes = np.ascontiguousarray(frames[::-1]), np.ascontiguousarray(boxes[::-1])
    return RenderedVideo(frames, boxes, action, FPS, seed)


def check_request(*, seed: int, action: str, num_frames: int, width: int, height: int) -> None:
    """Raises ValueError where `render` cannot make such a video."""
    if action not in ACTIONS:
        raise ValueError(f"action: got {action!r}, wanted one of {', '.join(ACTIONS)}")
    if seed < 0:
        raise ValueError(f"seed: got {seed}, wanted 0 or more")
    if num_frames < 1:
        raise ValueError(f"num_frames: got {num_frames}, wanted 1 or more")
    for name, side in (("width", width), ("height", height)):
        if side % 2 or side < 32:
            raise ValueError(f"{name}: got {side}, wanted an even number (H.264 yuv420p) of at least 32 pixels")


def compose(*, seed: int, action: str, num_frames: int, width: int, height: int, difficulty: Difficulty) -> Composition:
    """Draws scene and actor from one generator. An action and its reverse get the very same composition."""
    rng = np.random.default_rng(seed)
    backdrop = any_colour(rng, darkest=40, brightest=215)
    scene = draw_scene(rng, num_frames=num_frames, width=width, height=height, difficulty=difficulty, backdrop=backdrop)
    motion = MOTIONS[REVERSED.get(action, action)]
    body = _draw_body(rng, backdrop=backdrop, distance=difficulty.colour_distance)
    actor = _draw_actor(rng, motion=motion, body=body, scene=scene, difficulty=difficulty)
    return Composition(scene, actor, num_frames)


def mask_box(mask_HW: npt.NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Half-open [x1, y1, x2, y2) around the pixels covered by half or more."""
    _, solid = cv2.threshold(mask_HW, 127, 255, cv2.THRESH_BINARY)
    x, y, box_width, box_height = cv2.boundingRect(solid)
    return x, y, x + box_width, y + box_height


def _draw_body(rng: np.random.Generator, *, backdrop: Colour, distance: float) -> Body:
    shirt = _colour_apart(rng, others=(backdrop,), distance=distance)
    sleeve = _colour_apart(rng, others=(backdrop, shirt), distance=distance)
    trousers = _colour_apart(rng, others=(backdrop, sleeve), distance=distance)
    skin = SKINS[int(rng.integers(len(SKINS)))]
    return Body(
        torso=rng.uniform(0.28, 0.32),
        arm=rng.uniform(0.36, 0.41),
        leg=rng.uniform(0.46, 0.51),
        head=rng.uniform(0.078, 0.09),
        girth=rng.uniform(0.9, 1.2),
        shirt=shirt,
        sleeve=sleeve,
        cuff=sleeve if rng.random() < 0.6 else skin,
        trousers=trousers,
        skin=skin,
        cap=_colour_apart(rng, others=(backdrop, skin), distance=distance),
        shoe=_colour_apart(rng, others=(backdrop, trousers), distance=distance / 2),
    )


def _colour_apart(rng: np.random.Generator, *, others: tuple[Colour, ...], distance: float) -> Colour:
    """Of sixteen colours the first that is far enough from the others, else the farthest."""
    candidates = rng.integers(15, 246, (16, 3))
    gaps = np.linalg.norm(candidates[:, None] - np.array(others)[None], axis=-1).min(axis=1)
    chosen = int(np.argmax(gaps >= distance)) if (gaps >= distance).any() else int(np.argmax(gaps))
    red, green, blue = (int(value) for value in candidates[chosen])
    return red, green, blue


def _draw_phase(rng: np.random.Generator, *, num_frames: int, motion: Motion, jitter: float) -> Floats:
    """(T,) cycles: a steady pace, made faster and slower by at most the jitter."""
    times = np.arange(num_frames, dtype=np.float64)
    period = rng.uniform(*motion.period_frames)
    change, wave_period = rng.uniform(0, jitter), rng.uniform(20, 60)
    angle = 2 * np.pi * times / wave_period + rng.uniform(0, 2 * np.pi)
    # The integral of (1 - change * sin(angle)) / period.
    phase: Floats = rng.uniform() + (times + change * wave_period / (2 * np.pi) * np.cos(angle)) / period
    return phase


def _draw_actor(rng: np.random.Generator, *, motion: Motion, body: Body, scene: Scene, difficulty: Difficulty) -> Actor:
    """Stands the figure anywhere in the centre square, where all of it stays at all times."""
    num_frames = len(scene.gain_T)
    phase = _draw_phase(rng, num_frames=num_frames, motion=motion, jitter=difficulty.speed_jitter)
    manner = Manner(amplitude=rng.uniform(0.88, 1.12), variant=rng.uniform())
    figure = outlines(motion.pose(phase, manner=manner), body=body)
    facing = 1 if rng.random() < 0.5 else -1
    unit = scene.height / REFERENCE_HEIGHT
    side = min(scene.width, scene.height) - 2 * (EDGE_PX + difficulty.shake_px * unit)
    corner = (np.array([scene.width, scene.height]) - side) / 2

    points = figure.vertices_TPV2.reshape(num_frames, -1, 2) * np.array([facing, 1])
    wanted = rng.uniform(*difficulty.actor_height_share) * scene.height
    scale = min(wanted, side / np.ptp(points, axis=(0, 1)).max())
    travel = facing * (phase - phase[0]) * rng.uniform(*motion.travel_per_cycle)
    # A walk that would leave the square is made slower, not smaller.
    room = side / scale - np.ptp(points[..., 0])
    travel *= min(1.0, room / max(float(np.ptp(travel)), 1e-9))
    way_T2 = np.stack([travel, np.zeros(num_frames)], axis=-1)

    reached = (points + way_T2[:, None]) * scale
    low, high = reached.min(axis=(0, 1)), reached.max(axis=(0, 1))
    origin = rng.uniform(corner - low, np.maximum(corner - low, corner + side - high))
    # Where OpenCV's pixel centres lie at whole numbers, the frame's left edge is at -0.5.
    offset = origin - 0.5 + way_T2 * scale + scene.shake_T2
    return place(figure, scale_px=scale, offset_px_T2=offset, facing=facing)
