"""A server's answer as frozen, typed values; the same whichever transport brought it.

Times are None where the source has no clock: a single image, an .npy clip.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sum3dcam import wire
from sum3dcam.contract import CONTRACT_VERSION, MAPS, STREAM_CHANNELS, stream_name
from sum3dcam.errors import ServerError

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
    """The class that maps and boxes speak for."""

    index: int
    label: str


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
class Clip:
    """One clip of the video; it stands for the source's frames [start_frame, end_frame).

    `frames` holds the source frame at each place of the clip, in order; places that fill the video's last clip repeat
    its frames from the start. A source frame that resampling dropped is at no place.
    `explained` and `method` are None when nothing was explained; `empty_taps` are those that said nothing.
    """

    index: int
    start_frame: int
    end_frame: int
    frames: tuple[int, ...]
    start_seconds: float | None
    end_seconds: float | None
    labels: tuple[Label, ...]
    explained: Explained | None
    method: str | None
    taps: tuple[str, ...]
    empty_taps: tuple[str, ...]
    boxes: tuple[Box, ...]


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
        map_region_xyxy_px: the rectangle of the source that the maps cover, None when nothing was explained.
        maps_NTHW: float32 in [0,1], N clips of T frames; None unless asked for with explain="maps".
        stream_maps: as maps_NTHW from the taps of one stream alone, keyed by stream; empty unless the maps came and
            speak for several streams.
        grids: float32 (N,t,h,w) keyed by `contract.grid_name`; empty unless asked for with explain="grids".
    """

    request_id: str | None
    model: Mapping[str, Any]
    video: Video
    clips: tuple[Clip, ...]
    map_region_xyxy_px: XYXY | None
    maps_NTHW: Array | None
    stream_maps: Mapping[str, Array]
    grids: Mapping[str, Array]
    envelope: Mapping[str, Any]

    @property
    def clip_length(self) -> int:
        """Frames of one clip, padding included."""
        return len(self.clips[0].frames) if self.clips else 0

    def without_tensors(self) -> "Prediction":
        """The same answer without its maps and grids, to keep for many videos."""
        return replace(self, maps_NTHW=None, stream_maps={}, grids={})


def read_reply(body: bytes) -> Prediction:
    """The prediction in a reply's body.

    Raises:
        Sum3DCamError: the leaf that the error envelope names, if it is one; `ServerError` if the bytes are no reply
            of this contract version.
    """
    try:
        envelope, tensors = wire.decode_reply(body)
        version = envelope["contract_version"]
        if version != CONTRACT_VERSION:
            raise ServerError(
                "the server speaks another contract version; use the client of its release",
                got=version,
                allowed=CONTRACT_VERSION,
            )
        return _from_envelope(envelope, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(
            "the reply lacks something that the contract promises; client and server are of different releases",
            got=f"{type(error).__name__}: {error}",
        ) from error


def _from_envelope(envelope: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> Prediction:
    region = envelope.get("map_region_xyxy_px")
    names = {stream: stream_name(MAPS, stream) for stream in STREAM_CHANNELS}
    maps = {name: _unit_float(tensors[name]) for name in (MAPS, *names.values()) if name in tensors}
    for name, tensor in tensors.items():
        if tensor.ndim != 4 or len(tensor) != len(envelope["clips"]):
            raise ValueError(f"{name} {tensor.shape} is not one item for each of {len(envelope['clips'])} clips")
    return Prediction(
        request_id=envelope.get("request_id"),
        model=envelope["model"],
        video=_video(envelope["video"]),
        clips=tuple(_clip(clip) for clip in envelope["clips"]),
        map_region_xyxy_px=None if region is None else _xyxy(region),
        maps_NTHW=maps.get(MAPS),
        stream_maps={stream: maps[name] for stream, name in names.items() if name in maps},
        grids={name: grid.astype(np.float32, copy=False) for name, grid in tensors.items() if name not in maps},
        envelope=envelope,
    )


def _video(raw: Mapping[str, Any]) -> Video:
    return Video(
        num_frames=raw["num_frames"],
        width_px=raw["width_px"],
        height_px=raw["height_px"],
        fps=raw.get("fps"),
        duration_seconds=raw.get("duration_seconds"),
        padded_frames=raw["padded_frames"],
        labels=_labels(raw["labels"]),
        tubes=tuple(_tube(tube) for tube in raw.get("tubes") or ()),
    )


def _clip(raw: Mapping[str, Any]) -> Clip:
    return Clip(
        index=raw["index"],
        start_frame=raw["start_frame"],
        end_frame=raw["end_frame"],
        frames=tuple(raw["frames"]),
        start_seconds=raw.get("start_seconds"),
        end_seconds=raw.get("end_seconds"),
        labels=_labels(raw["labels"]),
        explained=None if raw.get("explained") is None else _explained(raw["explained"]),
        method=raw.get("method"),
        taps=tuple(raw.get("taps") or ()),
        empty_taps=tuple(raw.get("empty_taps") or ()),
        boxes=tuple(_box(box) for box in raw.get("boxes") or ()),
    )


def _explained(raw: Mapping[str, Any]) -> Explained:
    return Explained(index=raw["index"], label=raw["label"])


def _tube(raw: Mapping[str, Any]) -> Tube:
    return Tube(
        explained=_explained(raw["explained"]),
        start_frame=raw["start_frame"],
        end_frame=raw["end_frame"],
        start_seconds=raw.get("start_seconds"),
        end_seconds=raw.get("end_seconds"),
        score=raw["score"],
        boxes=tuple(_box(box) for box in raw["boxes"]),
    )


def _box(raw: Mapping[str, Any]) -> Box:
    return Box(
        frame=raw["frame"],
        time_seconds=raw.get("time_seconds"),
        box_xyxy_px=_xyxy(raw["box_xyxy_px"]),
        score=raw["score"],
    )


def _labels(raw: Any) -> tuple[Label, ...]:
    return tuple(Label(index=item["index"], label=item["label"], score=item["score"]) for item in raw)


def _xyxy(raw: Any) -> XYXY:
    x1, y1, x2, y2 = (float(value) for value in raw)
    return x1, y1, x2, y2


def _unit_float(maps: npt.NDArray[Any]) -> Array:
    if maps.dtype == np.uint8:
        return maps.astype(np.float32) / np.float32(255)
    return maps.astype(np.float32, copy=False)
