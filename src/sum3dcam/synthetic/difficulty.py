"""How hard a rendered video is: ranges from which everything but the action is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Difficulty:
    """Ranges are inclusive (low, high); a single number is the most that occurs.

    Lengths in pixels are for a frame 144 pixels high and grow with the frame.
    """

    actor_height_share: tuple[float, float]
    """Standing height of the actor over the height of the frame."""
    texture_contrast: tuple[float, float]
    """Standard deviation of the background's texture in grey levels."""
    clutter_shapes: tuple[int, int]
    """Still shapes painted on the background."""
    background_speed_px: float
    """Fastest pan of the background, pixels per frame, in any direction."""
    background_turn_radians: float
    """Largest slow rotation of the background to either side."""
    distractors: tuple[int, int]
    """Moving shapes that are no figures."""
    shake_px: float
    """Largest displacement of the camera along each axis."""
    light_change: float
    """Largest relative change of brightness, over the frame and over time."""
    noise_levels: float
    """Largest standard deviation of the sensor's noise in grey levels."""
    speed_jitter: float
    """Largest relative change of the action's speed within a video."""
    colour_distance: float
    """Least distance (Euclid, RGB grey levels) of the actor's clothes to the background's mean."""
    bystanders: tuple[int, int] = (0, 0)
    """People beside the actor who hold a pose; one for whom there is no room is left out."""
    second_action_share: float = 0.0
    """Share of shots in which, where there is room, a second person does another action at the same time."""
    cut_share: float = 0.0
    """Share of videos in which the scene changes in the middle half; another person goes on with the action."""


DIFFICULTIES: dict[str, Difficulty] = {
    "easy": Difficulty(
        actor_height_share=(0.6, 0.85),
        texture_contrast=(0.0, 4.0),
        clutter_shapes=(0, 0),
        background_speed_px=0.0,
        background_turn_radians=0.0,
        distractors=(0, 0),
        shake_px=0.0,
        light_change=0.0,
        noise_levels=0.0,
        speed_jitter=0.05,
        colour_distance=110.0,
    ),
    "medium": Difficulty(
        actor_height_share=(0.5, 0.8),
        texture_contrast=(6.0, 18.0),
        clutter_shapes=(2, 8),
        background_speed_px=0.5,
        background_turn_radians=0.03,
        distractors=(0, 1),
        shake_px=1.0,
        light_change=0.15,
        noise_levels=2.0,
        speed_jitter=0.12,
        colour_distance=95.0,
    ),
    "full": Difficulty(
        actor_height_share=(0.35, 0.75),
        texture_contrast=(12.0, 32.0),
        clutter_shapes=(6, 18),
        background_speed_px=1.5,
        background_turn_radians=0.1,
        distractors=(1, 3),
        shake_px=2.5,
        light_change=0.3,
        noise_levels=5.0,
        speed_jitter=0.2,
        colour_distance=85.0,
    ),
}
# At 144 pixels the smallest actor is 14 high, at a network's 112 it is 11.
DIFFICULTIES["hard"] = replace(
    DIFFICULTIES["full"],
    actor_height_share=(0.1, 0.45),
    bystanders=(0, 3),
    second_action_share=0.35,
    cut_share=0.35,
)


def difficulty_named(name: str) -> Difficulty:
    """The difficulty of that name. Raises ValueError for an unknown one."""
    if name not in DIFFICULTIES:
        raise ValueError(f"difficulty: got {name!r}, wanted one of {', '.join(DIFFICULTIES)}")
    return DIFFICULTIES[name]
