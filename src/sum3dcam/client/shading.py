"""What is drawn on one frame: the heat map, the boxes, the caption. Frames are uint8 RGB (H,W,3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from sum3dcam.client.colormaps import COLORMAPS
from sum3dcam.client.prediction import XYXY, Array, Label
from sum3dcam.errors import BadOptionError

Frame: TypeAlias = npt.NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]

# Opacity where the map is 1; the picture must still show through its hottest spot.
STRENGTH = 0.65

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
LIGHT = (255, 255, 255)
DARK = (0, 0, 0)
# Tubes in turn. The colours of Okabe and Ito, which are told apart without red-green vision, too.
TUBE_COLOURS: tuple[Colour, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
)
FONT = cv2.FONT_HERSHEY_SIMPLEX


@lru_cache
def palette(colormap: str) -> Frame:
    """The RGB colours of a map's values 0, 1/255 .. 1: uint8 (256,3).

    Raises:
        BadOptionError: a name outside `COLORMAPS`.
    """
    if colormap not in COLORMAPS:
        raise BadOptionError("unknown colormap", got=colormap, allowed=list(COLORMAPS))
    ramp = np.arange(256, dtype=np.uint8).reshape(256, 1)
    bgr: Frame = np.asarray(cv2.applyColorMap(ramp, getattr(cv2, COLORMAPS[colormap])), np.uint8)
    return np.ascontiguousarray(bgr[:, 0, ::-1])


@dataclass(frozen=True)
class Placement:
    """Where a (map_h,map_w) map lies on the source: pixel rows and columns, and the map coordinates to read there.

    `rows` and `columns` hold the source pixels whose centres are inside the region, so that a pixel is either shaded
    or untouched; u, v are in map pixels with the first centre at 0, as cv2.remap wants them.
    """

    rows: slice
    columns: slice
    u_hw: Array
    v_hw: Array


@lru_cache(maxsize=4)
def place(region_xyxy_px: XYXY, *, map_hw: tuple[int, int], source_hw: tuple[int, int]) -> Placement:
    """The placement of a map that covers `region_xyxy_px` (source pixels, half-open, may be fractional)."""
    x1, y1, x2, y2 = region_xyxy_px
    columns, u_w = _axis(x1, x2, map_size=map_hw[1], source_size=source_hw[1])
    rows, v_h = _axis(y1, y2, map_size=map_hw[0], source_size=source_hw[0])
    u_hw, v_hw = np.meshgrid(u_w, v_h)
    return Placement(rows=rows, columns=columns, u_hw=u_hw, v_hw=v_hw)


def _axis(start: float, stop: float, *, map_size: int, source_size: int) -> tuple[slice, Array]:
    # Pixel i has its centre at i + 0.5; the map's first cell is centred half a cell into the region.
    first = max(math.ceil(start - 0.5), 0)
    last = min(math.ceil(stop - 0.5), source_size)
    centres = np.arange(first, max(last, first)) + 0.5
    position = (centres - start) * (map_size / (stop - start)) - 0.5
    # Half a cell at each border has only one neighbour: hold its value there, as the server's upsampling does.
    return slice(first, max(last, first)), np.clip(position, 0, map_size - 1).astype(np.float32)


def shade(frame_HWC: Frame, map_hw: Array, *, region_xyxy_px: XYXY, colormap: str, strength: float = STRENGTH) -> None:
    """Blends the map's colour into the frame, in place, as opaquely as the map is high.

    Args:
        map_hw: float32 in [0,1], any size; read bilinearly.
        region_xyxy_px: the rectangle of the frame that the map covers; nothing outside it changes.
        strength: opacity at a map value of 1.
    """
    height, width = frame_HWC.shape[:2]
    at = place(region_xyxy_px, map_hw=(map_hw.shape[0], map_hw.shape[1]), source_hw=(height, width))
    if at.u_hw.size == 0:
        return
    heat: Any = cv2.remap(map_hw, at.u_hw, at.v_hw, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    colour = palette(colormap)[np.rint(heat * 255).astype(np.uint8)].astype(np.float32)
    under = frame_HWC[at.rows, at.columns].astype(np.float32)
    # The picture's own hues would be taken for heat: where the map speaks it turns grey first.
    grey = under @ LUMA
    under += (grey[..., None] - under) * np.minimum(heat * 2, 1)[..., None]
    under += (colour - under) * (heat * np.float32(strength))[..., None]
    frame_HWC[at.rows, at.columns] = np.rint(under).astype(np.uint8)


def draw_box(frame_HWC: Frame, box_xyxy_px: XYXY, *, tube: int | None = None) -> None:
    """Draws the box in place as a bright line, its outer edge the box's, between two dark ones: some of it shows on any
    background. That of a tube has the tube's colour, and a tag with the number, counted from 1, hangs from it."""
    line_px = max(round(min(frame_HWC.shape[:2]) / 240), 1)
    edge_px = (line_px + 1) // 2
    x1, y1, x2, y2 = box_xyxy_px
    box = (round(x1), round(y1), round(x2), round(y2))
    colour = LIGHT if tube is None else TUBE_COLOURS[(tube - 1) % len(TUBE_COLOURS)]
    _ring(frame_HWC, box, outside_px=edge_px, inside_px=line_px + edge_px, colour=DARK)
    _ring(frame_HWC, box, outside_px=0, inside_px=line_px, colour=colour)
    if tube is not None:
        _tag(frame_HWC, str(tube), left_px=box[0], top_px=box[3], colour=colour)


def _ring(frame_HWC: Frame, box: tuple[int, int, int, int], *, outside_px: int, inside_px: int, colour: Colour) -> None:
    # Four bars by slicing: cv2's thick lines have round corners and come out wider than asked.
    left, top = max(box[0] - outside_px, 0), max(box[1] - outside_px, 0)
    right, bottom = max(box[2] + outside_px, left), max(box[3] + outside_px, top)
    width_px = outside_px + inside_px
    for rows in (slice(top, top + width_px), slice(max(bottom - width_px, top), bottom)):
        frame_HWC[rows, left:right] = colour
    for columns in (slice(left, left + width_px), slice(max(right - width_px, left), right)):
        frame_HWC[top:bottom, columns] = colour


def _tag(frame_HWC: Frame, text: str, *, left_px: int, top_px: int, colour: Colour) -> None:
    """Writes the text on a patch of the colour, which is moved into the frame where it would leave it."""
    height, width = frame_HWC.shape[:2]
    tag_px = max(round(min(height, width) / 20), 10)
    margin_px = tag_px // 6
    (text_width, text_height), _ = cv2.getTextSize(text, FONT, 1.0, 1)
    scale = (tag_px - 2 * margin_px) / text_height
    tag_width_px = round(scale * text_width) + 2 * margin_px
    left, top = max(min(left_px, width - tag_width_px), 0), max(min(top_px, height - tag_px), 0)
    frame_HWC[top : top + tag_px, left : left + tag_width_px] = colour
    origin = (left + margin_px, top + tag_px - margin_px)
    cv2.putText(frame_HWC, text, origin, FONT, scale, DARK, max(round(scale * 1.5), 1), cv2.LINE_AA)


def caption(labels: Sequence[Label], *, seconds: float, explained: str | None) -> str:
    """The caption's text; names the explained class only where it is not the top label."""
    time = f"{seconds:.2f} s"
    if not labels:
        return time
    top = labels[0]
    other = f" | map: {explained}" if explained is not None and explained != top.label else ""
    return f"{top.label} {top.score:.0%}{other} | {time}"


def draw_caption(frame_HWC: Frame, text: str) -> None:
    """Writes the text in place on a darkened bar along the top, small enough to fit the width."""
    height, width = frame_HWC.shape[:2]
    bar_px = min(max(round(height / 14), 14), height)
    margin_px = bar_px / 4
    (text_width, text_height), baseline = cv2.getTextSize(text, FONT, 1.0, 1)
    scale = min((bar_px - margin_px) / (text_height + baseline), (width - 2 * margin_px) / max(text_width, 1))
    bar = frame_HWC[:bar_px]
    np.multiply(bar, 0.3, out=bar, casting="unsafe")
    origin = (round(margin_px), round((bar_px + scale * text_height) / 2))
    cv2.putText(frame_HWC, text, origin, FONT, scale, LIGHT, max(round(scale * 1.5), 1), cv2.LINE_AA)
