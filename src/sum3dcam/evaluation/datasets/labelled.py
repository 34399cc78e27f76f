"""What every data set is read into: videos, their labels, and their ground truth when it is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Float32s: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tube:
    """One actor's ground truth, or one object's.

    `boxes_xyxy_px` float32 (T,4), half-open, source pixels, of the frames [first_frame, first_frame + T), counted from
    0; NaN in a frame in between for which the data set has none.
    """

    label: str
    first_frame: int
    boxes_xyxy_px: Float32s


@dataclass(frozen=True)
class Segment:
    """A time span [begins_seconds, ends_seconds) of a video in which an action goes on."""

    label: str
    begins_seconds: float
    ends_seconds: float


@dataclass(frozen=True)
class LabelledVideo:
    """One file (a video or an image) or folder of numbered frames, and its truth.

    `read_tubes` reads the ground truth from its file each time it is called, so that memory does not grow with the data
    set; () where the data set has no boxes. `key` is the video's name in its data set, stable and different for each.
    `frame_size_px` (width, height) and `num_frames` are what the annotations say, None where only decoding tells.
    `segments` is empty where the data set has no time spans.
    """

    path: Path
    label: str
    read_tubes: Callable[[], tuple[Tube, ...]]
    key: str
    frame_size_px: tuple[int, int] | None = None
    num_frames: int | None = None
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class LabelledVideos:
    """A data set; `provenance` is what tells it apart in a report (split, seed, difficulty, ...)."""

    videos: tuple[LabelledVideo, ...]
    labels: tuple[str, ...]
    provenance: Mapping[str, Any]


def no_tubes() -> tuple[Tube, ...]:
    """`read_tubes` of a video without boxes."""
    return ()


def boxes_by_frame(tubes: tuple[Tube, ...], *, num_frames: int) -> tuple[Float32s, ...]:
    """Each frame's boxes (N,4) of all actors, N >= 0; what a tube has beyond the video's frames is left out."""
    boxes: list[list[npt.NDArray[np.float32]]] = [[] for _ in range(num_frames)]
    for tube in tubes:
        for frame, box in enumerate(tube.boxes_xyxy_px, start=tube.first_frame):
            if 0 <= frame < num_frames and not np.isnan(box).any():
                boxes[frame].append(box)
    return tuple(np.array(frame_boxes, np.float32).reshape(-1, 4) for frame_boxes in boxes)
