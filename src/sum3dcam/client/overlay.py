"""The prediction drawn on its video: an mp4 at the source's own size and frame rate, and a contact sheet."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from sum3dcam.client.colormaps import DEFAULT_COLORMAP
from sum3dcam.client.prediction import XYXY, Box, Clip, Prediction
from sum3dcam.client.rebuild import rebuild_maps
from sum3dcam.client.shading import Frame, caption, draw_box, draw_caption, palette, shade
from sum3dcam.client.source import Source, SourceFrame, open_source
from sum3dcam.errors import RequestError

CRF = "18"  # x264's "visually lossless"
# The colours that conversion from RGB gives here, said in the file, for players guess by the picture's size.
BT_601 = int(Colorspace.SMPTE170M)
LIMITED = int(ColorRange.MPEG)
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
    with open_source(source) as opened, _encoder(output, prediction=prediction, source=opened) as encode:
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
    with _writing(output):
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
    size_wh = (prediction.video.width_px, prediction.video.height_px)
    ends = [clip.end_frame for clip in prediction.clips]
    boxes = _boxes_by_frame(prediction)

    def draw(picture: SourceFrame, seconds: float) -> None:
        frame_HWC = picture.frame_HWC
        if (frame_HWC.shape[1], frame_HWC.shape[0]) != size_wh:
            raise RequestError(
                "the source's pictures are of another size than those predicted: is it the same video?",
                got=(frame_HWC.shape[1], frame_HWC.shape[0]),
                allowed=size_wh,
            )
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


def pixel_format(width_px: int, height_px: int) -> str:
    """4:2:0 plays everywhere but halves the colour planes, which needs even sides. An odd side keeps full colour
    (4:4:4, played by ffmpeg, VLC, mpv and Chrome) rather than growing a pixel: the overlay has the source's size."""
    return "yuv444p" if width_px % 2 or height_px % 2 else "yuv420p"


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (av.FFmpegError, OSError) as error:
        raise RequestError("the picture could not be written", got=f"{output}: {error}") from error


@contextmanager
def _encoder(output: Path, *, prediction: Prediction, source: Source) -> Iterator[Callable[[SourceFrame], None]]:
    partial = output.with_name(f".{output.name}.part")
    width, height = prediction.video.width_px, prediction.video.height_px
    with _writing(output):
        try:
            with av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as container:
                stream = container.add_stream("libx264", rate=source.fps, options={"crf": CRF, "preset": "veryfast"})
                stream.width, stream.height, stream.pix_fmt = width, height, pixel_format(width, height)
                context = stream.codec_context
                context.time_base, context.sample_aspect_ratio = source.time_base, source.pixel_aspect
                context.colorspace, context.color_range = BT_601, LIMITED

                def encode(picture: SourceFrame) -> None:
                    frame = av.VideoFrame.from_ndarray(picture.frame_HWC, format="rgb24")
                    frame.pts, frame.time_base, frame.duration = picture.pts, source.time_base, picture.duration
                    container.mux(stream.encode(frame))

                yield encode
                container.mux(stream.encode(None))
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)
