"""A server's answer as frozen, typed values; the same whichever transport brought it.

Times are None where the source has no clock: a single image, an .npy clip.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float32]
XYXY: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class Label:
    """A class and its softmax score in [0,1]."""

    index: int
    label: str
    score: float


@dataclass(frozen=True)
class Explained:
    """The class that a tube speaks for."""

    index: int
    label: str


@dataclass(frozen=True)
class Attribution:
    """How the maps came from the grids: the method, its taps, how it interpolates and by what maximum it divides."""

    method: str
    taps: tuple[str, ...]
    coordinates: str
    normalisation: str


@dataclass(frozen=True)
class Box:
    """A half-open [x1, y1, x2, y2) in pixels of the source video; `frame` counts from the source's first."""

    frame: int
    time_seconds: float | None
    box_xyxy_px: XYXY
    score: float


@dataclass(frozen=True)
class Tube:
    """Boxes that belong together, in frame order, at most one per frame, all of one explained class.

    It stands for the source's frames [start_frame, end_frame), some of which may have no box: short gaps, and frames
    that resampling dropped. `score` is the mean of its boxes' scores.
    """

    explained: Explained
    start_frame: int
    end_frame: int
    start_seconds: float | None
    end_seconds: float | None
    score: float
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Explanation:
    """A class explained in a clip: its score, the taps that said nothing of it, and the boxes of its map."""

    index: int
    label: str
    score: float
    empty_taps: tuple[str, ...]
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Clip:
    """One clip of the video; it stands for the source's frames [start_frame, end_frame).

    `frames` holds the source frame at each place of the clip, in order; places that fill the video's last clip repeat
    its frames from the start. A source frame that resampling dropped is at no place.
    `explanations` are those of the classes asked for, in that order; there are none where nothing was explained.
    """

    index: int
    start_frame: int
    end_frame: int
    frames: tuple[int, ...]
    start_seconds: float | None
    end_seconds: float | None
    labels: tuple[Label, ...]
    explanations: tuple[Explanation, ...]


@dataclass(frozen=True)
class Video:
    """The whole video; `labels` are the mean softmax over its clips, best first.

    `num_frames` are the source's own. The last clip was filled with `padded_frames` repeated frames. `tubes` are
    ranked by the sum of their boxes' scores; there are none unless asked for with tubes="linked" or "smoothed".
    """

    num_frames: int
    width_px: int
    height_px: int
    fps: float | None
    duration_seconds: float | None
    padded_frames: int
    labels: tuple[Label, ...]
    tubes: tuple[Tube, ...]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the server answered.

    Attributes:
        envelope: the reply's JSON object as it came.
        attribution: how the classes were explained, None when nothing was.
        map_region_xyxy_px: the rectangle of the source that the maps cover, None when nothing was explained.
        maps_NETHW: float32 in [0,1], N clips of T frames for each of E classes explained, in the order of the clips'
            `explanations`; None unless asked for with explain="maps".
        stream_maps: as maps_NETHW from the taps of one stream alone, keyed by stream; empty unless the maps came and
            speak for several streams.
        grids: float32 (N,E,t,h,w) keyed by `contract.grid_name`; empty unless asked for with explain="grids".
    """

    request_id: str | None
    model: Mapping[str, Any]
    video: Video
    clips: tuple[Clip, ...]
    attribution: Attribution | None
    map_region_xyxy_px: XYXY | None
    maps_NETHW: Array | None
    stream_maps: Mapping[str, Array]
    grids: Mapping[str, Array]
    envelope: Mapping[str, Any]

    @property
    def clip_length(self) -> int:
        """Frames of one clip, padding included."""
        return len(self.clips[0].frames) if self.clips else 0

    def without_tensors(self) -> "Prediction":
        """The same answer without its maps and grids, to keep for many videos."""
        return replace(self, maps_NETHW=None, stream_maps={}, grids={})
