"""Where everything of a figure stands, in pixels, and its lettering. Knows nothing of what the panels show."""

import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from sum3dcam.client.shading import Frame

DPI = 100
MARGIN_PX = 20
GAP_PX = 6
HEADING_PX, TITLE_PX, NOTE_PX = 26, 18, 15
LINE = 1.3  # of the letters' size
BLACK, GREY = "#111111", "#555555"
LABELS_WIDTH_PX = 250
LEGEND_WH = (220, 16)
# Wide enough for what stands above a tile of a narrow video.
MIN_COLUMN_PX, MIN_CELL_PX, MIN_WIDTH_PX = 84, 240, 760
GRID_ASPECT = 1.6


@dataclass(frozen=True)
class Caption:
    """A panel's lettering: one line, and below it lines of less weight."""

    title: str
    note: str

    @property
    def height_px(self) -> int:
        return round(LINE * (TITLE_PX + NOTE_PX * len(self.note.splitlines())))


@dataclass(frozen=True)
class Slot:
    """Room for the tile of one panel at one of the places shown; `left_px` and `top_px` are its corner."""

    panel: int
    shown: int
    left_px: int
    top_px: int


@dataclass(frozen=True)
class Text:
    """One line; `align` and `valign` say which of its edges is at (x, y)."""

    x_px: float
    y_px: float
    text: str
    size_px: int
    colour: str = BLACK
    weight: str = "normal"
    align: str = "left"
    valign: str = "top"


@dataclass(frozen=True)
class Page:
    """A figure without its pictures. `legend_xy` is the corner of the legend's strip of LEGEND_WH."""

    width_px: int
    height_px: int
    slots: tuple[Slot, ...]
    texts: tuple[Text, ...]
    legend_xy: tuple[int, int]


def sheet_page(
    captions: Sequence[Caption],
    *,
    heading: Sequence[str],
    legend: str,
    moments: Sequence[str],
    tile_wh: tuple[int, int],
) -> Page:
    """A row for each panel, labelled at its left, and a column for each moment."""
    tile_width, tile_height = tile_wh
    column_px = max(tile_width, MIN_COLUMN_PX) + GAP_PX
    row_px = max(tile_height, max(caption.height_px for caption in captions)) + GAP_PX
    width = max(2 * MARGIN_PX + LABELS_WIDTH_PX + column_px * len(moments), MIN_WIDTH_PX)
    left = MARGIN_PX + LABELS_WIDTH_PX
    texts, top = _heading(heading, width_px=width)
    for column, moment in enumerate(moments):
        texts.append(Text(left + column * column_px + tile_width / 2, top, moment, NOTE_PX, GREY, align="center"))
    top += round(LINE * NOTE_PX) + GAP_PX
    slots = []
    for row, caption in enumerate(captions):
        middle = top + row * row_px + (row_px - GAP_PX) / 2
        caption_top, tile_top = middle - caption.height_px / 2, round(middle - tile_height / 2)
        texts += _caption(caption, left_px=MARGIN_PX, top_px=caption_top, width_px=LABELS_WIDTH_PX - 2 * GAP_PX)
        slots += [Slot(row, column, left + column * column_px, tile_top) for column in range(len(moments))]
    return _with_legend(legend, slots, texts, left_px=MARGIN_PX, top_px=top + len(captions) * row_px, width_px=width)


def grid_page(captions: Sequence[Caption], *, heading: Sequence[str], legend: str, tile_wh: tuple[int, int]) -> Page:
    """All panels at one moment, side by side, each with its caption above."""
    tile_width, tile_height = tile_wh
    heights = [caption.height_px + GAP_PX for caption in captions]
    cell_width, cell_height = max(tile_width, MIN_CELL_PX) + 2 * GAP_PX, max(heights) + tile_height + 3 * GAP_PX
    columns = round(sqrt(GRID_ASPECT * len(captions) * cell_height / cell_width))
    columns = min(max(columns, 1), len(captions))
    width = max(2 * MARGIN_PX + columns * cell_width, MIN_WIDTH_PX)
    texts, top = _heading(heading, width_px=width)
    slots = []
    for first in range(0, len(captions), columns):
        top += max(heights[first : first + columns])
        for column, caption in enumerate(captions[first : first + columns]):
            left = MARGIN_PX + column * cell_width
            caption_top = top - heights[first + column]
            texts += _caption(caption, left_px=left, top_px=caption_top, width_px=cell_width - 2 * GAP_PX)
            slots.append(Slot(first + column, 0, left, top))
        top += tile_height + 3 * GAP_PX
    return _with_legend(legend, slots, texts, left_px=MARGIN_PX, top_px=top, width_px=width)


def _heading(lines: Sequence[str], *, width_px: int) -> tuple[list[Text], int]:
    """The lines, the first one larger, and where the rest of the page begins."""
    texts, top = [], float(MARGIN_PX)
    for number, line in enumerate(lines):
        size, colour, weight = (HEADING_PX, BLACK, "bold") if number == 0 else (NOTE_PX, GREY, "normal")
        fitting = shortened(line, size_px=size, weight=weight, width_px=width_px - 2 * MARGIN_PX)
        texts.append(Text(MARGIN_PX, top, fitting, size, colour, weight))
        top += LINE * size
    return texts, round(top) + 2 * GAP_PX


def _caption(caption: Caption, *, left_px: float, top_px: float, width_px: int) -> list[Text]:
    title = shortened(caption.title, size_px=TITLE_PX, weight="bold", width_px=width_px)
    texts = [Text(left_px, top_px, title, TITLE_PX, weight="bold")]
    for number, line in enumerate(caption.note.splitlines()):
        line_top = top_px + LINE * (TITLE_PX + number * NOTE_PX)
        texts.append(Text(left_px, line_top, shortened(line, size_px=NOTE_PX, width_px=width_px), NOTE_PX, GREY))
    return texts


def _with_legend(
    legend: str, slots: Sequence[Slot], texts: Sequence[Text], *, left_px: int, top_px: int, width_px: int
) -> Page:
    """The page with the legend's strip below everything, 0 to its left and its words to its right."""
    strip_width, strip_height = LEGEND_WH
    top = top_px + 2 * GAP_PX
    middle, strip_left = top + strip_height / 2, left_px + NOTE_PX
    words_left = strip_left + strip_width + GAP_PX
    words = shortened(legend, size_px=NOTE_PX, width_px=width_px - MARGIN_PX - words_left)
    return Page(
        width_px=width_px + width_px % 2,  # even sides: what every player takes
        height_px=(height := top + strip_height + MARGIN_PX) + height % 2,
        slots=tuple(slots),
        texts=(
            *texts,
            Text(left_px, middle, "0", NOTE_PX, GREY, valign="center"),
            Text(words_left, middle, words, NOTE_PX, GREY, valign="center"),
        ),
        legend_xy=(strip_left, top),
    )


def shortened(text: str, *, size_px: int, width_px: float, weight: str = "normal") -> str:
    """The text on one line, its end cut off where it is too long."""
    text = " ".join(text.split())
    # No letter worth reading is narrower than a pixel.
    if len(text) <= width_px and _width(text, size_px=size_px, weight=weight) <= width_px:
        return text
    lengths = range(min(len(text), int(width_px)))
    too_long = bisect_right(lengths, width_px, key=lambda end: _width(f"{text[:end]}…", size_px=size_px, weight=weight))
    return f"{text[: max(too_long - 1, 0)].rstrip()}…"


@lru_cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, DPI)


def _width(text: str, *, size_px: int, weight: str) -> float:
    font = FontProperties(weight=weight, size=size_px * 72 / DPI)
    with _missing_glyphs_as_boxes():
        width: float = _renderer().get_text_width_height_descent(text, font, ismath=False)[0]
    return width


@contextmanager
def _missing_glyphs_as_boxes() -> Iterator[None]:
    """Letters that the font lacks are seen as boxes on the page; a warning for each of them would say no more."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def lettering(texts: Iterable[Text], *, width_px: int, height_px: int) -> Frame:
    """The texts on nothing: uint8 RGBA (height,width,4)."""
    figure = Figure(figsize=(width_px / DPI, height_px / DPI), dpi=DPI, facecolor="none")
    canvas = FigureCanvasAgg(figure)
    for text in texts:
        figure.text(
            text.x_px / width_px,
            1 - text.y_px / height_px,
            text.text,
            size=text.size_px * 72 / DPI,
            color=text.colour,
            weight=text.weight,
            ha=text.align,
            va=text.valign,
            parse_math=False,  # a class may be called $5
        )
    with _missing_glyphs_as_boxes():
        canvas.draw()
    return np.array(canvas.buffer_rgba(), np.uint8)
