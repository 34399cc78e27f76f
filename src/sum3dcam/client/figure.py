"""A comparison as a picture: a sheet of rows and frames, or its panels side by side playing through the clip."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from io import BytesIO
from itertools import chain, pairwise
from math import inf
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from sum3dcam.client.colormaps import DEFAULT_COLORMAP
from sum3dcam.client.comparison import Comparison, Panel
from sum3dcam.client.encoder import mp4_encoder, writing
from sum3dcam.client.page import LEGEND_WH, TITLE_PX, Caption, Page, Text, grid_page, lettering, sheet_page
from sum3dcam.client.prediction import XYXY
from sum3dcam.client.shading import LUMA, Frame, draw_box, palette, shade
from sum3dcam.client.source import SourceFrame
from sum3dcam.client.tiles import Tile, read_tiles
from sum3dcam.errors import BadOptionError

SHEET_FRAMES = 8
# The longer side of a tile.
SHEET_TILE_PX, GRID_TILE_PX = 150, 264
LEGEND = "each panel's own maximum over the clip"
EMPTY = "empty"
PAPER = np.uint8(255)
DIMMED = np.float32(0.7)
GREY = 90
FADED = 0.75  # how far an empty panel's frames are from the paper's white
JPEG_QUALITY, WEBP_QUALITY = 80, 85
TICKS_PER_SECOND = 90_000  # MPEG's clock: no frame rate in use is off by more than a tick


def write_figure(
    comparison: Comparison,
    *,
    source: Path,
    output: Path,
    colormap: str = DEFAULT_COLORMAP,
    speed: float = 1.0,
) -> None:
    """Writes the comparison in the form that the output's suffix names, a key of `FORMATS`.

    A still has a row for each panel and a column for each of SHEET_FRAMES evenly spaced frames; where the clip has but
    one frame, and in a moving picture, the panels stand side by side. Reads the source up to the clip's end and keeps
    small copies of the clip's frames alone.

    Args:
        source: the video that the comparison is of.
        output: appears only when it is whole.
        colormap: a key of `colormaps.COLORMAPS`.
        speed: of a moving picture; 0.25 shows each frame four times as long.

    Raises:
        BadOptionError: unknown suffix or colormap, or a speed that is none.
        RequestError: the source is not the video that was compared, or the output cannot be written.
        UnreadableMediaError: the source cannot be decoded.
    """
    write = find_format(output)
    palette(colormap)
    if not 0 < speed < inf:
        raise BadOptionError("a moving picture has a speed", got=speed, allowed="above 0")
    write(comparison, source, output, colormap, Fraction(speed))


def sheet(comparison: Comparison, *, source: Path, colormap: str = DEFAULT_COLORMAP) -> Frame:
    """The still: uint8 RGB (H,W,3)."""
    count = len(comparison.frames)
    places = sorted(set(np.linspace(0, count - 1, SHEET_FRAMES).round().astype(int).tolist()))
    if len(places) == 1:
        return next(moving_panels(comparison, source=source, colormap=colormap))[0]
    tiles = read_tiles(comparison, source=source, places=places, longer_side_px=SHEET_TILE_PX)
    page = sheet_page(
        _captions(comparison),
        heading=_heading(comparison, source=source),
        legend=LEGEND,
        moments=[_moment(comparison, tile) for tile in tiles],
        tile_wh=_size_wh(tiles),
    )
    return _draw(page, comparison, tiles, _lettering(page, comparison, tiles), colormap=colormap)


def moving_panels(
    comparison: Comparison, *, source: Path, colormap: str = DEFAULT_COLORMAP
) -> Iterator[tuple[Frame, Tile]]:
    """The panels at each place of the clip, in order: uint8 RGB (H,W,3), of even sides, and what they show."""
    places = range(len(comparison.frames))
    tiles = read_tiles(comparison, source=source, places=places, longer_side_px=GRID_TILE_PX)
    page = grid_page(
        _captions(comparison),
        heading=_heading(comparison, source=source),
        legend=LEGEND,
        tile_wh=_size_wh(tiles),
    )
    letters = _lettering(page, comparison, tiles)
    for tile in tiles:
        yield _draw(page, comparison, [tile], letters, colormap=colormap), tile


def _captions(comparison: Comparison) -> list[Caption]:
    return [Caption(panel.title, panel.note) for panel in comparison.panels]


def _heading(comparison: Comparison, *, source: Path) -> list[str]:
    """What is explained; in what; where in it."""
    clip, explained, best = comparison.clip, comparison.explained, comparison.clip.labels[0]
    title = f"{explained.label} {explained.score:.1%}"
    if best.index != explained.index:
        title += f" (the clip's best class is {best.label}, {best.score:.1%})"
    where = f"clip {clip.index} (of {comparison.num_clips})"
    last = clip.end_frame - 1
    where += f", frame {last}" if last == clip.start_frame else f", frames {clip.start_frame} to {last}"
    if clip.start_seconds is not None and clip.end_seconds is not None:
        where += f", {clip.start_seconds:.2f} to {clip.end_seconds:.2f} s"
    filled = len(clip.frames) - len(comparison.frames)
    if filled:
        where += f", repeated to fill {len(clip.frames)}"
    return [title, f"{source.name}, model {comparison.model}", where]


def _moment(comparison: Comparison, tile: Tile) -> str:
    """What stands above the frame: its time, or, where the source has no clock, its number."""
    has_clock = comparison.clip.start_seconds is not None
    return f"{float(tile.begin_seconds):.2f} s" if has_clock else f"frame {comparison.frames[tile.place]}"


def _size_wh(tiles: Sequence[Tile]) -> tuple[int, int]:
    height, width = tiles[0].frame_HWC.shape[:2]
    return width, height


def _lettering(page: Page, comparison: Comparison, tiles: Sequence[Tile]) -> Frame:
    """The page's words, and EMPTY on every tile of an empty panel."""
    width, height = _size_wh(tiles)
    empty = [
        Text(slot.left_px + width / 2, slot.top_px + height / 2, EMPTY, TITLE_PX, align="center", valign="center")
        for slot in page.slots
        if comparison.panels[slot.panel].is_empty
    ]
    return lettering([*page.texts, *empty], width_px=page.width_px, height_px=page.height_px)


def _draw(page: Page, comparison: Comparison, tiles: Sequence[Tile], letters_HWA: Frame, *, colormap: str) -> Frame:
    """The whole page: paper, tiles, the legend's strip, and the letters over them."""
    canvas_HWC = np.full((page.height_px, page.width_px, 3), PAPER)
    width, height = _size_wh(tiles)
    for slot in page.slots:
        drawn_HWC = _panel(comparison, comparison.panels[slot.panel], tiles[slot.shown], colormap=colormap)
        canvas_HWC[slot.top_px : slot.top_px + height, slot.left_px : slot.left_px + width] = drawn_HWC
    left, top = page.legend_xy
    strip_width, strip_height = LEGEND_WH
    canvas_HWC[top : top + strip_height, left : left + strip_width] = _legend(colormap)
    opacity_HW1 = letters_HWA[..., 3:].astype(np.float32) / 255
    over_HWC = canvas_HWC * (1 - opacity_HW1) + letters_HWA[..., :3] * opacity_HW1
    return np.rint(over_HWC).astype(np.uint8)


def _panel(comparison: Comparison, panel: Panel, tile: Tile, *, colormap: str) -> Frame:
    """The tile with the panel's map and boxes."""
    frame_HWC = tile.frame_HWC.copy()
    if panel.map_THW is None:
        return frame_HWC
    if panel.is_empty:
        return np.rint(frame_HWC + (PAPER - frame_HWC) * FADED).astype(np.uint8)
    # Small peaks must be seen on any picture: all colour is the map's, and it is brighter than what lies under it.
    frame_HWC[:] = np.rint(frame_HWC @ LUMA * DIMMED)[..., None]
    height, width = frame_HWC.shape[:2]
    scale_xy = (width / comparison.video.width_px, height / comparison.video.height_px)
    region = _scaled(comparison.map_region_xyxy_px, scale_xy)
    shade(frame_HWC, panel.map_THW[tile.place], region_xyxy_px=region, colormap=colormap)
    for box in panel.boxes:
        if box.frame == comparison.frames[tile.place]:
            draw_box(frame_HWC, _scaled(box.box_xyxy_px, scale_xy))
    return frame_HWC


def _scaled(xyxy_px: XYXY, scale_xy: tuple[float, float]) -> XYXY:
    x1, y1, x2, y2 = xyxy_px
    return x1 * scale_xy[0], y1 * scale_xy[1], x2 * scale_xy[0], y2 * scale_xy[1]


def _legend(colormap: str) -> Frame:
    """What map values from 0 to 1 make of grey."""
    width, height = LEGEND_WH
    strip_HWC = np.full((height, width, 3), GREY, np.uint8)
    ramp_hw = np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1))
    shade(strip_HWC, ramp_hw, region_xyxy_px=(0, 0, width, height), colormap=colormap)
    return strip_HWC


Write = Callable[[Comparison, Path, Path, str, Fraction], None]


def _still(format: str, **settings: int) -> Write:
    def write(comparison: Comparison, source: Path, output: Path, colormap: str, speed: Fraction) -> None:
        picture = Image.fromarray(sheet(comparison, source=source, colormap=colormap))
        _save([picture], output, format=format, **settings)

    return write


def _write_webp(comparison: Comparison, source: Path, output: Path, colormap: str, speed: Fraction) -> None:
    pictures, begins_ms = [], []
    for frame_HWC, tile in moving_panels(comparison, source=source, colormap=colormap):
        pictures.append(Image.fromarray(frame_HWC))
        begins_ms.append(round(1000 * tile.begin_seconds / speed))
        end_ms = round(1000 * tile.end_seconds / speed)
    # Differences of what was rounded: rounded durations would add up to another length.
    durations_ms = [end - begin for begin, end in pairwise([*begins_ms, end_ms])]
    _save(pictures, output, format="WEBP", duration=durations_ms, loop=0, quality=WEBP_QUALITY)


def _write_mp4(comparison: Comparison, source: Path, output: Path, colormap: str, speed: Fraction) -> None:
    pictures = moving_panels(comparison, source=source, colormap=colormap)
    first_HWC, first = next(pictures)
    ticks = TICKS_PER_SECOND / speed
    rate = (1 / (first.end_seconds - first.begin_seconds) * speed).limit_denominator(1001)
    size_wh = (first_HWC.shape[1], first_HWC.shape[0])
    with mp4_encoder(output, size_wh=size_wh, fps=rate, time_base=Fraction(1, TICKS_PER_SECOND)) as encode:
        for index, (frame_HWC, tile) in enumerate(chain([(first_HWC, first)], pictures)):
            begin = round((tile.begin_seconds - first.begin_seconds) * ticks)
            end = round((tile.end_seconds - first.begin_seconds) * ticks)
            encode(SourceFrame(index=index, frame_HWC=frame_HWC, pts=begin, duration=end - begin))


def _save(pictures: Sequence[Image.Image], output: Path, **settings: Any) -> None:
    first, *others = pictures
    file = BytesIO()
    first.save(file, **settings, save_all=bool(others), append_images=others)
    with writing(output):
        output.write_bytes(file.getvalue())


FORMATS: Mapping[str, Write] = MappingProxyType(
    {
        ".png": _still("PNG"),
        ".jpg": _still("JPEG", quality=JPEG_QUALITY, optimize=True),
        ".webp": _write_webp,
        ".mp4": _write_mp4,
    }
)


def find_format(output: Path) -> Write:
    """What writes a file of that suffix.

    Raises:
        BadOptionError: nothing does.
    """
    suffix = output.suffix.lower()
    if suffix not in FORMATS:
        raise BadOptionError("the output's suffix names no form of figure", got=output.name, allowed=list(FORMATS))
    return FORMATS[suffix]
