"""A clip's pictures again, small and with their times: no more of the source is kept than that."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from sum3dcam.client.comparison import Comparison
from sum3dcam.client.overlay import check_same_size
from sum3dcam.client.shading import Frame
from sum3dcam.client.source import open_source
from sum3dcam.errors import RequestError


@dataclass(frozen=True)
class Tile:
    """A place of the clip: its source frame, small, and when that is shown, in seconds since the source's start."""

    place: int
    frame_HWC: Frame
    begin_seconds: Fraction
    end_seconds: Fraction


def read_tiles(comparison: Comparison, *, source: Path, places: Sequence[int], longer_side_px: int) -> list[Tile]:
    """The clip's places asked for, each as long on screen as its frame, or its share of a frame that is repeated.

    Raises:
        RequestError: the source is not the video that was compared.
        UnreadableMediaError: it cannot be decoded.
    """
    frames, wanted = comparison.frames, {comparison.frames[place] for place in places}
    small: dict[int, Frame] = {}
    spans: dict[int, tuple[Fraction, Fraction]] = {}
    with open_source(source) as opened:
        for picture in opened.frames:
            if picture.index in frames:
                check_same_size(picture.frame_HWC, video=comparison.video)
                begin = picture.pts * opened.time_base
                spans[picture.index] = (begin, begin + picture.duration * opened.time_base)
            if picture.index in wanted:
                small[picture.index] = _small(picture.frame_HWC, opened.pixel_aspect, longer_side_px=longer_side_px)
            if picture.index >= frames[-1]:
                break
    if set(spans) != set(frames):
        missing = min(set(frames) - set(spans))
        raise RequestError("the source lacks a frame of the clip: is it the same video?", got=f"no frame {missing}")
    shown = list(dict.fromkeys(frames))
    ends = [*(spans[frame][0] for frame in shown[1:]), spans[shown[-1]][1]]
    end_of = dict(zip(shown, ends, strict=True))
    tiles = []
    for place in places:
        frame = frames[place]
        begin, repeats = spans[frame][0], frames.count(frame)
        share = (end_of[frame] - begin) / repeats
        begin += share * (place - frames.index(frame))
        tiles.append(Tile(place, small[frame], begin, begin + share))
    return tiles


def _small(frame_HWC: Frame, pixel_aspect: Fraction, *, longer_side_px: int) -> Frame:
    """The frame with square pixels, as large as its longer side may be."""
    height, width = frame_HWC.shape[0], frame_HWC.shape[1] * pixel_aspect
    scale = longer_side_px / max(height, width)
    size_wh = (max(round(width * scale), 1), max(round(height * scale), 1))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame_HWC, size_wh, interpolation=interpolation), np.uint8)
