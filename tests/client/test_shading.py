"""What is drawn on a frame lies where it should, and nothing else changes."""

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from sum3dcam.client.colormaps import COLORMAPS
from sum3dcam.client.prediction import Label
from sum3dcam.client.shading import TUBE_COLOURS, caption, draw_box, draw_caption, palette, shade
from sum3dcam.errors import BadOptionError

# A crop of a 90x60 source by shorter side: its left border falls inside a pixel.
REGION = (15.3, 0.0, 75.3, 60.0)


def _grey(height: int = 60, width: int = 90) -> Any:
    return np.full((height, width, 3), 120, np.uint8)


def test_a_map_is_read_bilinearly_with_cell_centres_half_a_cell_in() -> None:
    map_hw = np.random.default_rng(0).random((7, 9)).astype(np.float32)
    frame = _grey()
    shade(frame, map_hw, region_xyxy_px=REGION, colormap="turbo", strength=1.0)
    # Oracle: scipy's linear interpolation at each pixel centre's place in the map, then the blend on a grey picture.
    x1, y1, x2, y2 = REGION
    rows, columns = np.arange(60) + 0.5, np.arange(90) + 0.5
    inside = (columns >= x1) & (columns < x2)
    at_rows = (rows - y1) / (y2 - y1) * 7 - 0.5
    at_columns = (columns[inside] - x1) / (x2 - x1) * 9 - 0.5
    grid = np.meshgrid(at_rows, at_columns, indexing="ij")
    heat = map_coordinates(map_hw.astype(np.float64), grid, order=1, mode="nearest")[..., None]
    colour = palette("turbo")[np.rint(heat[..., 0] * 255).astype(int)]
    expected = 120 * (1 - heat) + colour * heat
    # cv2.remap rounds positions to 1/32 of a cell: at most 1/32 of the map's range each way, times a palette that
    # moves by up to 5 levels per 1/255, blended; the mean error must be far below that.
    difference = np.abs(frame[:, inside].astype(float) - expected)
    assert difference.mean() < 2.0
    assert difference.max() < 40.0


def test_a_shift_of_one_pixel_would_be_noticed() -> None:
    map_hw = np.zeros((10, 10), np.float32)
    map_hw[4, 2] = 1.0
    frame = _grey(100, 140)
    shade(frame, map_hw, region_xyxy_px=(20.0, 0.0, 120.0, 100.0), colormap="turbo")
    changed = np.abs(frame.astype(int) - 120).sum(axis=2).astype(float)
    rows, columns = np.nonzero(changed > 0.2 * changed.max())
    # Cell (4, 2) of 10x10 pixels lies at y 40..50, x 20+20..20+30; the spot is symmetric about its centre.
    assert rows.mean() + 0.5 == pytest.approx(45.0, abs=0.01)
    assert columns.mean() + 0.5 == pytest.approx(45.0, abs=0.01)


@pytest.mark.parametrize(("start", "first"), [(15.0, 15), (15.3, 15), (15.7, 16)])
def test_pixels_outside_the_region_stay_as_they_are(start: float, first: int) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    before = frame.copy()
    region = (start, 0.0, start + 60, 60.0)
    shade(frame, np.ones((7, 7), np.float32), region_xyxy_px=region, colormap="turbo")
    # A pixel is covered when its centre is, half a pixel from its edge.
    outside = np.r_[:first, first + 60 : 90]
    np.testing.assert_array_equal(frame[:, outside], before[:, outside])
    changed = (frame != before).any(axis=2)
    assert changed[:, first].mean() > 0.9
    assert changed[:, first + 59].mean() > 0.9


def test_a_map_of_zeros_changes_nothing() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    before = frame.copy()
    shade(frame, np.zeros((7, 7), np.float32), region_xyxy_px=REGION, colormap="turbo")
    np.testing.assert_array_equal(frame, before)


def test_the_picture_shows_through_the_hottest_spot() -> None:
    frame = _grey()
    frame[:, ::2] = 220
    shade(frame, np.ones((7, 7), np.float32), region_xyxy_px=(0.0, 0.0, 90.0, 60.0), colormap="turbo")
    assert np.abs(frame[:, ::2].astype(int) - frame[:, 1::2]).min() >= 30


def test_a_region_larger_than_the_frame_is_cut_at_its_borders() -> None:
    frame = _grey()
    shade(frame, np.ones((7, 7), np.float32), region_xyxy_px=(-10.0, -20.0, 200.0, 90.0), colormap="turbo")
    assert (frame != 120).any(axis=2).all()


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_every_colormap_gives_256_colours(colormap: str) -> None:
    assert palette(colormap).shape == (256, 3)
    assert len(np.unique(palette(colormap), axis=0)) > 200


def test_turbo_runs_from_cold_to_warm_in_rgb() -> None:
    red, _, blue = palette("turbo")[[60, 220]].T.astype(int)
    assert blue[0] > red[0]
    assert red[1] > blue[1]


def test_an_unknown_colormap_is_refused() -> None:
    with pytest.raises(BadOptionError, match="cividis"):
        palette("jet2000")


@pytest.mark.parametrize("background", [0, 128, 255])
def test_a_box_shows_on_any_background_and_ends_before_its_last_edge(background: int) -> None:
    frame = np.full((60, 90, 3), background, np.uint8)
    draw_box(frame, (20.0, 10.0, 50.0, 40.0))
    for line, first, last in ((frame[25, :, 0], 20, 49), (frame[:, 35, 0], 10, 39)):  # half-open: 50 and 40 are outside
        assert (line[first], line[last]) == (255, 255)
        assert (line[first - 1], line[first + 1], line[last - 1], line[last + 1]) == (0, 0, 0, 0)
        assert (line[first + 2 : last - 1] == background).all()
        assert (line[: first - 1] == background).all()
        assert (line[last + 2 :] == background).all()


def test_a_box_at_the_frames_border_is_clipped() -> None:
    frame = np.full((60, 90, 3), 128, np.uint8)
    for box in ((-5.0, -5.0, 200.0, 200.0), (100.0, 100.0, 120.0, 120.0), (-30.0, 5.0, -10.0, 20.0)):
        draw_box(frame, box)
    assert (frame[20:40, 20:70] == 128).all()


def test_a_tubes_box_has_the_tubes_colour_and_hangs_its_number() -> None:
    frames = [_grey(), _grey(), _grey()]
    for tube, frame in zip((1, 2, 1 + len(TUBE_COLOURS)), frames, strict=True):
        draw_box(frame, (20.0, 10.0, 60.0, 40.0), tube=tube)
    first, second, eighth = frames
    assert [tuple(frame[10, 40].tolist()) for frame in frames] == [TUBE_COLOURS[0], TUBE_COLOURS[1], TUBE_COLOURS[0]]
    # The tag, ten rows high, hangs from the last edge: the colour with dark strokes, other ones for 1 and for 8.
    tag = first[40:50, 20:60]
    coloured = (tag == TUBE_COLOURS[0]).all(axis=2)
    assert coloured[:, 0].all()
    assert (tag.max(axis=2) < 60).any()
    assert (first[40:50] != eighth[40:50]).any()
    assert (second[40:50, 20] == TUBE_COLOURS[1]).all()
    assert (first[50:] == 120).all()


@pytest.mark.parametrize("box", [(60.0, 30.0, 90.0, 60.0), (-10.0, -10.0, 100.0, 100.0), (86.0, 56.0, 90.0, 60.0)])
def test_a_tag_stays_in_the_frame(box: tuple[float, float, float, float]) -> None:
    frame = _grey()
    draw_box(frame, box, tube=123)
    # All ten rows of it are there: its left margin has the tube's colour, and 122 = 17 * 7 + 3.
    coloured = (frame == TUBE_COLOURS[3]).all(axis=2)
    assert coloured[50:60].all(axis=0).any()


def test_the_caption_names_the_explained_class_only_where_it_is_another() -> None:
    labels = (Label(2, "wave", 0.753), Label(0, "jump", 0.2))
    assert caption(labels, seconds=1.5, explained="wave") == "wave 75% | 1.50 s"
    assert caption(labels, seconds=1.5, explained="jump") == "wave 75% | map: jump | 1.50 s"
    assert caption((), seconds=0, explained=None) == "0.00 s"


@pytest.mark.parametrize(("width", "height"), [(32, 32), (90, 60), (1920, 1080), (61, 8)])
def test_the_caption_stays_in_its_bar(width: int, height: int) -> None:
    frame = np.full((height, width, 3), 200, np.uint8)
    draw_caption(frame, "a class with a rather long name 100% | map: another one | 12.34 s")
    bar = min(max(round(height / 14), 14), height)
    assert (frame[bar:] == 200).all()
    # Nothing is cut off at the right: the last columns hold no letter.
    assert (frame[:bar, -2:] < 100).all()
