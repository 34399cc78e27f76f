"""What is drawn at random before any pixel: the shots of a video, in each a scene and the people in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sum3dcam.synthetic.body import Actor, Body, outlines, place
from sum3dcam.synthetic.difficulty import Difficulty
from sum3dcam.synthetic.figure import MOTIONS, PLAYED_BACKWARD, REVERSED, Floats, Manner, Motion
from sum3dcam.synthetic.scene import REFERENCE_HEIGHT, Scene, draw_scene
from sum3dcam.synthetic.shapes import SUBPIXEL_BITS, Colour, any_colour

SKINS: tuple[Colour, ...] = ((255, 219, 190), (235, 188, 150), (198, 140, 100), (150, 98, 66), (98, 62, 42))
EDGE_PX = 1.0
"""What anti-aliasing may add beyond an outline."""
ROOM_TRIES = 12
"""Places tried for a further person before it is left out."""
HELD_SWAY = 0.015
"""Cycles to either side by which somebody who holds a pose sways."""


@dataclass(frozen=True)
class Person:
    """Somebody in a shot. `action` is None for a bystander."""

    actor: Actor
    action: str | None


@dataclass(frozen=True)
class Shot:
    """What one camera sees, of the frames [first_frame, end_frame) of a video.

    `people[0]` does the video's action, and stands in front of the others.
    """

    scene: Scene
    people: tuple[Person, ...]
    first_frame: int
    end_frame: int


def compose(
    *, seed: int, action: str, num_frames: int, width: int, height: int, difficulty: Difficulty
) -> tuple[Shot, ...]:
    """Draws all of a video from one generator; time runs in the sense of the forward action.

    An action and its reverse get the very same shots, with the forward actions' names.
    """
    rng = np.random.default_rng(seed)
    forward = REVERSED.get(action, action)

    def shot(first_frame: int, end_frame: int) -> Shot:
        # As long as the video: where the cut lies changes nothing that is drawn.
        backdrop = any_colour(rng, darkest=40, brightest=215)
        scene = draw_scene(
            rng, num_frames=num_frames, width=width, height=height, difficulty=difficulty, backdrop=backdrop
        )
        people = _draw_people(rng, action=forward, backdrop=backdrop, scene=scene, difficulty=difficulty)
        return Shot(scene, people, first_frame, end_frame)

    whole = shot(0, num_frames)
    # After all else of the first shot, so that videos without a cut do not depend on it.
    if num_frames < 2 or rng.random() >= difficulty.cut_share:
        return (whole,)
    cut = int(rng.integers(max(1, num_frames // 4), max(1, 3 * num_frames // 4) + 1))
    return Shot(whole.scene, whole.people, 0, cut), shot(cut, num_frames)


def _draw_people(
    rng: np.random.Generator, *, action: str, backdrop: Colour, scene: Scene, difficulty: Difficulty
) -> tuple[Person, ...]:
    def draw(motion: Motion, pace: Pace) -> Actor:
        body = _draw_body(rng, backdrop=backdrop, distance=difficulty.colour_distance)
        return _draw_actor(rng, motion=motion, pace=pace, body=body, scene=scene, difficulty=difficulty)

    people = [Person(draw(MOTIONS[action], _acts), action)]

    def add(name: str | None, motion: Motion, pace: Pace) -> None:
        for _ in range(ROOM_TRIES):
            actor = draw(motion, pace)
            if not any(_meet(actor, person.actor) for person in people):
                people.append(Person(actor, name))
                return

    if rng.random() < difficulty.second_action_share:
        others = [name for name in sorted(PLAYED_BACKWARD) if name != action]
        other = others[int(rng.integers(len(others)))]
        add(other, MOTIONS[REVERSED.get(other, other)], _acts_backward if other in REVERSED else _acts)
    motions = list(MOTIONS.values())
    low, high = difficulty.bystanders
    for _ in range(int(rng.integers(low, high + 1))):
        add(None, motions[int(rng.integers(len(motions)))], _holds)
    return tuple(people)


def _meet(one: Actor, other: Actor) -> bool:
    """Whether what the two cover over all frames overlaps."""
    (low, high), (other_low, other_high) = (
        (actor.vertices_TPV2.min(axis=(0, 1, 2)), actor.vertices_TPV2.max(axis=(0, 1, 2))) for actor in (one, other)
    )
    edge = int(2 * EDGE_PX) << SUBPIXEL_BITS
    return bool((low < other_high + edge).all() and (other_low < high + edge).all())


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


Pace = Callable[[np.random.Generator, int, Motion, float], Floats]
"""(generator, num_frames, motion, jitter) -> the phase (T,) in cycles."""


def _acts(rng: np.random.Generator, num_frames: int, motion: Motion, jitter: float) -> Floats:
    """A steady pace, made faster and slower by at most the jitter."""
    times = np.arange(num_frames, dtype=np.float64)
    period = rng.uniform(*motion.period_frames)
    change, wave_period = rng.uniform(0, jitter), rng.uniform(20, 60)
    angle = 2 * np.pi * times / wave_period + rng.uniform(0, 2 * np.pi)
    # The integral of (1 - change * sin(angle)) / period.
    phase: Floats = rng.uniform() + (times + change * wave_period / (2 * np.pi) * np.cos(angle)) / period
    return phase


def _acts_backward(rng: np.random.Generator, num_frames: int, motion: Motion, jitter: float) -> Floats:
    return _acts(rng, num_frames, motion, jitter)[::-1]


def _holds(rng: np.random.Generator, num_frames: int, _motion: Motion, _jitter: float) -> Floats:
    """A pose of the motion, so that no single frame tells who acts."""
    times = np.arange(num_frames, dtype=np.float64)
    angle = 2 * np.pi * times / rng.uniform(20, 60) + rng.uniform(0, 2 * np.pi)
    phase: Floats = rng.uniform() + HELD_SWAY * np.sin(angle)
    return phase


def _draw_actor(
    rng: np.random.Generator, *, motion: Motion, pace: Pace, body: Body, scene: Scene, difficulty: Difficulty
) -> Actor:
    """Stands the figure anywhere in the centre square, where all of it stays at all times."""
    num_frames = len(scene.gain_T)
    phase = pace(rng, num_frames, motion, difficulty.speed_jitter)
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
