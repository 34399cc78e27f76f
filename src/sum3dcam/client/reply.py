"""A reply's bytes to a `Prediction`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sum3dcam import wire
from sum3dcam.client.prediction import (
    XYXY,
    Array,
    Attribution,
    Box,
    Clip,
    Explained,
    Explanation,
    Label,
    Prediction,
    Tube,
    Video,
)
from sum3dcam.contract import COMPRESSED_SHARE, CONTRACT_VERSION, MAPS, STREAM_CHANNELS, stream_name
from sum3dcam.errors import ServerError


def read_reply(body: bytes, *, max_message_bytes: int = 0) -> Prediction:
    """The prediction in a reply's body.

    Args:
        max_message_bytes: the limit that the body has been held to, 0 for none. A compressed one may take so many bytes
            for its envelope, and COMPRESSED_SHARE times as many for its tensors.

    Raises:
        Sum3DCamError: the leaf that the error envelope names, if it is one; `ServerError` if the bytes are no reply
            of this contract version.
    """
    try:
        envelope, tensors = wire.decode_reply(body, max_inflated_bytes=(1 + COMPRESSED_SHARE) * max_message_bytes)
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
    clips = tuple(_clip(clip) for clip in envelope["clips"])
    explained_NE = (len(clips), len(clips[0].explanations) if clips else 0)
    for name, tensor in tensors.items():
        if tensor.ndim != 5 or tensor.shape[:2] != explained_NE:
            raise ValueError(f"{name} {tensor.shape} is not one item for each of (clips, explanations) {explained_NE}")
    return Prediction(
        request_id=envelope.get("request_id"),
        model=envelope["model"],
        video=_video(envelope["video"]),
        clips=clips,
        attribution=None if envelope.get("attribution") is None else _attribution(envelope["attribution"]),
        map_region_xyxy_px=None if region is None else _xyxy(region),
        maps_NETHW=maps.get(MAPS),
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
        explanations=tuple(_explanation(explanation) for explanation in raw["explanations"]),
    )


def _attribution(raw: Mapping[str, Any]) -> Attribution:
    return Attribution(
        method=raw["method"],
        taps=tuple(raw["taps"]),
        coordinates=raw["coordinates"],
        normalisation=raw["normalisation"],
    )


def _explanation(raw: Mapping[str, Any]) -> Explanation:
    return Explanation(
        index=raw["index"],
        label=raw["label"],
        score=raw["score"],
        empty_taps=tuple(raw["empty_taps"]),
        boxes=tuple(_box(box) for box in raw["boxes"]),
    )


def _tube(raw: Mapping[str, Any]) -> Tube:
    return Tube(
        explained=Explained(index=raw["explained"]["index"], label=raw["explained"]["label"]),
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
