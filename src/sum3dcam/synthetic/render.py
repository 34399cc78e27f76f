"""One video of one action: a person in a scene, with the box of the person in every frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sum3dcam.synthetic.body import paint
from sum3dcam.synthetic.composition import Shot, compose
from sum3dcam.synthetic.difficulty import Difficulty
from sum3dcam.synthetic.figure import ACTIONS, PLAYED_BACKWARD, REVERSED
from sum3dcam.synthetic.scene import expose, scene_frame

FPS = 25.0


@dataclass(frozen=True)
class ActionTube:
    """Where one person does one action, from one cut to the next."""

    action: str
    first_frame: int
    boxes_xyxy_px: npt.NDArray[np.float32]
    """(T, 4) half-open [x1, y1, x2, y2): the tight box of the pixels that the person covers by half or more."""


def boxes_of(action: str, tubes: tuple[ActionTube, ...]) -> npt.NDArray[np.float32]:
    """(T, 4) boxes of the action's tubes one after the other, which for a video's own action are all its frames."""
    ordered = sorted(tubes, key=lambda tube: tube.first_frame)
    return np.concatenate([tube.boxes_xyxy_px for tube in ordered if tube.action == action])


@dataclass(frozen=True)
class RenderedVideo:
    """A video and where its actors are: those of `action` in every frame, others where there are any."""

    frames_THWC: npt.NDArray[np.uint8]
    """RGB."""
    tubes: tuple[ActionTube, ...]
    """In each shot that of `action` first."""
    action: str
    fps: float
    seed: int

    @property
    def boxes_xyxy_px(self) -> npt.NDArray[np.float32]:
        """(T, 4) half-open boxes of `action` alone, over the cuts."""
        return boxes_of(self.action, self.tubes)


def render(
    *, seed: int, action: str, num_frames: int = 48, width: int = 192, height: int = 144, difficulty: Difficulty
) -> RenderedVideo:
    """The video of a seed: the same bytes each time.

    The two actions of a time-reversed pair (`REVERSED`) give, for one seed, the same frames in opposite order.
    Raises ValueError for an unknown action, a negative seed, no frames, or a side that is odd or below 32 pixels.
    """
    check_request(seed=seed, action=action, num_frames=num_frames, width=width, height=height)
    shots = compose(seed=seed, action=action, num_frames=num_frames, width=width, height=height, difficulty=difficulty)
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    tubes = [tube for shot in shots for tube in _film(shot, frames_THWC=frames)]
    if action in REVERSED:
        frames = np.ascontiguousarray(frames[::-1])
        # Shots and all run backward; within a shot the order of people stays.
        tubes = sorted((_backward(tube, num_frames=num_frames) for tube in tubes), key=lambda tube: tube.first_frame)
    return RenderedVideo(frames, tuple(tubes), action, FPS, seed)


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


def mask_box(mask_HW: npt.NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Half-open [x1, y1, x2, y2) around the pixels covered by half or more."""
    _, solid = cv2.threshold(mask_HW, 127, 255, cv2.THRESH_BINARY)
    x, y, box_width, box_height = cv2.boundingRect(solid)
    return x, y, x + box_width, y + box_height


def _film(shot: Shot, *, frames_THWC: npt.NDArray[np.uint8]) -> list[ActionTube]:
    """Fills the shot's frames; gives the tubes of those who act."""
    indices = range(shot.first_frame, shot.end_frame)
    boxes = np.empty((len(shot.people), len(indices), 4), np.float32)
    mask = np.zeros(frames_THWC.shape[1:3], np.uint8)
    for position, index in enumerate(indices):
        frame = scene_frame(shot.scene, index=index)
        for person in reversed(range(len(shot.people))):
            mask[:] = 0
            paint(shot.people[person].actor, index=index, frame_HWC=frame, mask_HW=mask)
            boxes[person, position] = mask_box(mask)
        frames_THWC[index] = expose(shot.scene, frame_HWC=frame, index=index)
    return [
        ActionTube(person.action, shot.first_frame, own_T4)
        for person, own_T4 in zip(shot.people, boxes, strict=True)
        if person.action is not None
    ]


def _backward(tube: ActionTube, *, num_frames: int) -> ActionTube:
    boxes = np.ascontiguousarray(tube.boxes_xyxy_px[::-1])
    return ActionTube(PLAYED_BACKWARD[tube.action], num_frames - tube.first_frame - len(boxes), boxes)
