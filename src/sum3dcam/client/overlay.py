"""The prediction drawn on its video: an mp4 at the source's own size and frame rate, and a contact sheet."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

from sum3dcam.client.colormaps import DEFAULT_COLORMAP
from sum3dcam.client.encoder import mp4_encoder, writing
from sum3dcam.client.prediction import XYXY, Box, Clip, Prediction, Video
from sum3dcam.client.rebuild import rebuild_maps
from sum3dcam.client.shading import Frame, caption, draw_box, draw_caption, palette, shade
from sum3dcam.client.source import SourceFrame, open_source
from sum3dcam.errors import RequestError

SHEET_FRAMES = 8
SHEET_COLUMNS = 4
TILE_WIDTH_PX = 384
GAP_PX = 4

Draw: TypeAlias = Callable[[SourceFrame, float], None]


def write_overlay(prediction: Prediction, *, source: Path, output: Path, colormap: str = DEFAULT_COLORMAP) -> None:
    """Writes the video again with heat map, boxes or tubes, and caption, as H.264 in mp4.

    Of several classes explained the first is drawn (but all tubes). Memory does not grow with the length of the video.

    Args:
        prediction: a reply to explain="maps" or "grids".
        source: the video that was predicted.
        output: where the mp4 goes; it appears only when it is whole.
        colormap: a key of `colormaps.COLORMAPS`.

    Raises:
        RequestError: no maps in the reply, or the source is not the video that was predicted.
        UnreadableMediaError: the source cannot be decoded.
        BadOptionError: unknown colormap.
    """
    draw = drawer(prediction, colormap=colormap)
    size_wh = (prediction.video.width_px, prediction.video.height_px)
    with open_source(source) as opened:
        clock = {"fps": opened.fps, "time_base": opened.time_base, "pixel_aspect": opened.pixel_aspect}
        with mp4_encoder(output, size_wh=size_wh, **clock) as encode:
            for picture in opened.frames:
                draw(picture, float(picture.pts * opened.time_base))
                encode(picture)


def contact_sheet(
    prediction: Prediction,
    *,
    source: Path,
    output: Path,
    colormap: str = DEFAULT_COLORMAP,
    num_frames: int = SHEET_FRAMES,
) -> None:
    """Writes one PNG with evenly spaced frames of the overlay, first and last among them, row by row.

    Raises:
        As `write_overlay`.
    """
    draw = drawer(prediction, colormap=colormap)
    wanted = set(np.linspace(0, prediction.video.num_frames - 1, num_frames).round().astype(int).tolist())
    tiles: list[Frame] = []
    with open_source(source) as opened:
        for picture in islice(opened.frames, prediction.video.num_frames):
            if picture.index in wanted:
                draw(picture, float(picture.pts * opened.time_base))
                tiles.append(_tile(picture.frame_HWC))
    if not tiles:
        raise RequestError("the source gave none of the frames that were predicted", got=source.name)
    columns = min(SHEET_COLUMNS, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    _, png = cv2.imencode(".png", np.vstack(rows)[..., ::-1])
    with writing(output):
        output.write_bytes(png.tobytes())


def drawer(prediction: Prediction, *, colormap: str = DEFAULT_COLORMAP) -> Draw:
    """A function that draws the prediction on a picture, in place, given the picture's time in seconds.

    Raises:
        RequestError: no maps in the reply; from the function, a picture of another size than was predicted.
        BadOptionError: unknown colormap.
    """
    palette(colormap)
    maps_NETHW = rebuild_maps(prediction)
    region = prediction.map_region_xyxy_px
    if region is None:
        raise RequestError("the reply does not say where its maps lie; ask with explain='maps'")
    ends = [clip.end_frame for clip in prediction.clips]
    boxes = _boxes_by_frame(prediction)

    def draw(picture: SourceFrame, seconds: float) -> None:
        frame_HWC = picture.frame_HWC
        check_same_size(frame_HWC, video=prediction.video)
        clip = _clip_at(prediction.clips, ends, picture.index)
        if clip is not None:
            map_hw = maps_NETHW[clip.index, 0, _place_at(clip, picture.index)]
            shade(frame_HWC, map_hw, region_xyxy_px=region, colormap=colormap)
        for number, box_xyxy_px in boxes.get(picture.index, ()):
            draw_box(frame_HWC, box_xyxy_px, tube=number)
        labels = prediction.video.labels if clip is None else clip.labels
        explained = clip.explanations[0].label if clip is not None and clip.explanations else None
        draw_caption(frame_HWC, caption(labels, seconds=seconds, explained=explained))

    return draw


def check_same_size(frame_HWC: Frame, *, video: Video) -> None:
    """Refuses a picture that cannot be of the video that was predicted.

    Raises:
        RequestError: it is of another size.
    """
    size_wh = (frame_HWC.shape[1], frame_HWC.shape[0])
    if size_wh != (video.width_px, video.height_px):
        raise RequestError(
            "the source's pictures are of another size than those predicted: is it the same video?",
            got=size_wh,
            allowed=(video.width_px, video.height_px),
        )


def _boxes_by_frame(prediction: Prediction) -> Mapping[int, Sequence[tuple[int | None, XYXY]]]:
    """What each source frame shows: the tubes' boxes with the tubes' numbers from 1, the best drawn last and so on top;
    where there are no tubes, the boxes of the clips' first explanations."""
    of_clips: list[tuple[int | None, Box]] = [
        (None, box) for clip in prediction.clips for explanation in clip.explanations[:1] for box in explanation.boxes
    ]
    of_tubes: list[tuple[int | None, Box]] = [
        (number, box) for number, tube in enumerate(prediction.video.tubes, start=1) for box in tube.boxes
    ]
    boxes: dict[int, list[tuple[int | None, XYXY]]] = {}
    for number, box in of_tubes[::-1] or of_clips:
        boxes.setdefault(box.frame, []).append((number, box.box_xyxy_px))
    return boxes


def _clip_at(clips: tuple[Clip, ...], ends: list[int], frame: int) -> Clip | None:
    """The first clip that stands for the source frame: the one whose boxes it has."""
    found = bisect_right(ends, frame)
    return clips[found] if found < len(clips) and clips[found].start_frame <= frame else None


def _place_at(clip: Clip, frame: int) -> int:
    """The clip's first place that shows the source frame, or, where that one was dropped, the last shown before it."""
    return clip.frames.index(max(shown for shown in clip.frames if shown <= frame))


def _tile(frame_HWC: Frame) -> Frame:
    """The frame TILE_WIDTH_PX wide, with a white gap to its right and below."""
    height, width = frame_HWC.shape[:2]
    size = (TILE_WIDTH_PX, max(round(height * TILE_WIDTH_PX / width), 1))
    interpolation = cv2.INTER_AREA if width > TILE_WIDTH_PX else cv2.INTER_LINEAR
    tile_HWC = np.asarray(cv2.resize(frame_HWC, size, interpolation=interpolation), np.uint8)
    return np.pad(tile_HWC, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255)
