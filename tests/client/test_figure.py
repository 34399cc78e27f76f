"""A comparison on paper: which panel is lit where and when, in stills and in moving pictures."""

import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from sum3dcam.client.comparison import Comparison, Panel
from sum3dcam.client.figure import FORMATS, moving_panels, sheet, write_figure
from sum3dcam.client.page import Text, lettering, shortened
from sum3dcam.client.prediction import Box, Clip, Explanation, Label, Video
from sum3dcam.errors import BadOptionError, RequestError

NUM_FRAMES, WIDTH_PX, HEIGHT_PX = 4, 160, 120
PANELS = ("first", "second", "third")


def _level(frame: int) -> int:
    """The grey of a source frame: an evenly grey picture, the brighter the later."""
    return 60 + 40 * frame


def _source(make: Any, tmp_path: Path, *, size_wh: tuple[int, int] = (WIDTH_PX, HEIGHT_PX)) -> Path:
    frames = [np.full((size_wh[1], size_wh[0], 3), _level(frame), np.uint8) for frame in range(NUM_FRAMES)]
    path: Path = make.video(tmp_path / "source.mp4", frames)
    return path


def _spot(place: int) -> Any:
    """A map with a spot at one place of the clip, at a quarter of the picture's width and height."""
    map_THW = np.zeros((NUM_FRAMES, 32, 32), np.float32)
    map_THW[place, 6:10, 6:10] = 1
    return map_THW


def _comparison(*maps_THW: Any, frames: tuple[int, ...] = tuple(range(NUM_FRAMES)), **changes: Any) -> Comparison:
    """Panels named as in PANELS below the plain frames."""
    panels = [Panel("Input", "", None)]
    panels += [Panel(name, "a note", map_THW) for name, map_THW in zip(PANELS, maps_THW, strict=False)]
    labels = (Label(2, "wave", 0.75), Label(0, "jump", 0.25))
    facts: dict[str, Any] = {
        "model": "made-up",
        "video": Video(NUM_FRAMES, WIDTH_PX, HEIGHT_PX, 25.0, NUM_FRAMES / 25, 0, labels, ()),
        "clip": Clip(0, 0, NUM_FRAMES, frames, 0.0, NUM_FRAMES / 25, labels, ()),
        "num_clips": 1,
        "frames": frames,
        "explained": Explanation(2, "wave", 0.75, (), ()),
        "map_region_xyxy_px": (0.0, 0.0, float(WIDTH_PX), float(HEIGHT_PX)),
        "panels": tuple(panels),
    }
    return Comparison(**facts | changes)


def _spots_yx(page_HWC: Any) -> list[tuple[float, float]]:
    """The centres of the coloured areas but the lowest, which is the legend."""
    import cv2

    coloured = (np.ptp(page_HWC.astype(int), axis=2) > 40).astype(np.uint8)
    _, _, _, centroids = cv2.connectedComponentsWithStats(cv2.dilate(coloured, np.ones((5, 5), np.uint8)))
    return sorted((float(y), float(x)) for x, y in centroids[1:])[:-1]


def _around(page_HWC: Any, spot_yx: tuple[float, float]) -> int:
    """The grey of the tile to the right of the spot, at half of its width."""
    y, x = (round(value) for value in spot_yx)
    return int(page_HWC[y, x + 38, 0])


def test_the_sheet_lights_the_panels_row_in_the_frames_column(make: Any, tmp_path: Path) -> None:
    source = _source(make, tmp_path)
    faint = np.full((NUM_FRAMES, 32, 32), 1e-6, np.float32)
    spots: list[tuple[tuple[float, float], int, int]] = []
    for row, place in ((0, 0), (0, 1), (0, 3), (1, 0), (2, 2)):
        page = sheet(_comparison(*(_spot(place) if row == other else faint for other in range(3))), source=source)
        (spot,) = _spots_yx(page)
        spots.append((spot, row, place))
        # The frame under the map is that of the column: its grey, dimmed by 0.7; 3 levels for the codec.
        assert _around(page, spot) == pytest.approx(0.7 * _level(place), abs=3)
    first = spots[0][0]
    for spot, row, place in spots:
        # A tile is 150 px wide and 112 high, the gap 6; a spot's centre is exact to the pixel.
        assert spot == pytest.approx((first[0] + row * (112 + 6), first[1] + place * (150 + 6)), abs=1)
    # The margin, the labels, a quarter of the tile.
    assert first[1] == pytest.approx(20 + 250 + 150 / 4, abs=1)


def test_a_long_clip_is_shown_by_eight_frames_from_its_first_to_its_last(make: Any, tmp_path: Path) -> None:
    frames = [np.full((HEIGHT_PX, WIDTH_PX, 3), 20 + 10 * frame, np.uint8) for frame in range(16)]
    source = make.video(tmp_path / "source.mp4", frames)
    everywhere = np.zeros((16, 32, 32), np.float32)
    everywhere[:, 6:10, 6:10] = 1
    page = sheet(_comparison(everywhere, frames=tuple(range(16))), source=source)
    levels = [_around(page, spot) for spot in _spots_yx(page)]
    # Oracle: linspace(0, 15, 8) rounded by hand.
    assert levels == pytest.approx([0.7 * (20 + 10 * frame) for frame in (0, 2, 4, 6, 9, 11, 13, 15)], abs=3)


def test_an_empty_panel_says_so_and_its_neighbour_does_not(make: Any, tmp_path: Path) -> None:
    source, empty = _source(make, tmp_path), np.zeros((NUM_FRAMES, 32, 32), np.float32)
    page = sheet(_comparison(_spot(0), empty), source=source)
    ((y, x),) = _spots_yx(page)
    tile_of_empty = page[round(y) - 28 + 118 : round(y) + 84 + 118, round(x) - 37 : round(x) + 113].astype(int)
    # Grey 60 is brought three quarters of the way to white, 206, and the word is nearly black on it.
    assert np.median(tile_of_empty) == pytest.approx(206, abs=3)
    assert tile_of_empty[46:66, 50:100].min() < 60
    word = lettering([Text(0, 0, "empty", 18)], width_px=60, height_px=30)[..., 3]
    dark = tile_of_empty[..., 0] < 120
    assert dark.sum() == pytest.approx((word > 128).sum(), rel=0.3)


def test_boxes_are_drawn_on_their_frame_of_their_panel(make: Any, tmp_path: Path) -> None:
    source = _source(make, tmp_path)
    plain = _comparison(_spot(0), _spot(0))
    box = Box(frame=2, time_seconds=None, box_xyxy_px=(80.0, 60.0, 120.0, 100.0), score=1.0)
    panels = (*plain.panels[:2], replace(plain.panels[2], boxes=(box,)))
    before, after = (sheet(comparison, source=source) for comparison in (plain, replace(plain, panels=panels)))
    changed_y, changed_x = np.nonzero((before != after).any(axis=2))
    (y, x), _ = _spots_yx(before)
    # The second panel is one row down, frame 2 two columns on; the tile is 15/16 of the source, the spot at (40, 30).
    left, top = x + 2 * 156 + (80 - 40) * 15 / 16, y + 118 + (60 - 30) * 15 / 16
    assert (changed_x.min(), changed_y.min()) == pytest.approx((left, top), abs=2.5)
    assert (changed_x.max(), changed_y.max()) == pytest.approx((left + 37.5, top + 37.5), abs=2.5)


def _webp(path: Path) -> tuple[list[int], list[Any]]:
    """Milliseconds and RGB of each frame."""
    with Image.open(path) as image:
        times, frames = [], []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            frames.append(np.array(image.convert("RGB")))
            times.append(image.info.get("duration", 0))
    return times, frames


def _mp4(path: Path) -> tuple[list[float], list[Any]]:
    """Milliseconds at which each frame begins and the last one ends; RGB of each."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoded = list(container.decode(stream))
        assert stream.duration is not None
        assert stream.time_base is not None
        times = [1000 * float(frame.pts * stream.time_base) for frame in decoded if frame.pts is not None]
        return [*times, 1000 * float(stream.duration * stream.time_base)], [
            frame.to_ndarray(format="rgb24") for frame in decoded
        ]


@pytest.mark.parametrize(("speed", "each_ms"), [(0.5, 80), (1.0, 40), (2.0, 20)])
def test_both_moving_pictures_play_the_clip_with_its_maps_and_timing(
    make: Any, tmp_path: Path, speed: float, each_ms: int
) -> None:
    source = _source(make, tmp_path)
    sweep = np.zeros((NUM_FRAMES, 32, 32), np.float32)
    for place in range(NUM_FRAMES):
        sweep[place, 14:18, 2 + 8 * place : 6 + 8 * place] = 1
    for suffix in (".webp", ".mp4"):
        write_figure(_comparison(sweep), source=source, output=tmp_path / f"new/out{suffix}", speed=speed)
    durations, webp = _webp(tmp_path / "new/out.webp")
    times, mp4 = _mp4(tmp_path / "new/out.mp4")
    # 25 frames a second.
    assert durations == [each_ms] * 4
    assert times == pytest.approx([each_ms * frame for frame in range(5)], abs=0.1)
    for frames in (webp, mp4):
        assert len(frames) == NUM_FRAMES
        assert not {side % 2 for side in frames[0].shape[:2]} - {0}
        spots = [_spots_yx(page) for page in frames]
        assert all(len(found) == 1 for found in spots)
        # The tile is 264 px wide: the spot goes a quarter of it, 66 px, at each frame. Lossy: within 3 px.
        assert np.diff([found[0][1] for found in spots]) == pytest.approx([66] * 3, abs=3)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["out.mp4", "out.webp"]


@pytest.mark.parametrize(
    ("frames", "milliseconds"),
    [((0, 0, 1, 1), [20, 20, 20, 20]), ((0, 2, 3), [80, 40, 40]), ((0, 1, 1), [40, 20, 20])],
)
def test_a_resampled_clip_plays_as_long_as_its_frames_last(
    make: Any, tmp_path: Path, frames: tuple[int, ...], milliseconds: list[int]
) -> None:
    comparison, source = _comparison(_spot(0), frames=frames), _source(make, tmp_path)
    write_figure(comparison, source=source, output=tmp_path / "out.mp4", speed=2)
    assert np.diff(_mp4(tmp_path / "out.mp4")[0]) == pytest.approx([each / 2 for each in milliseconds], abs=0.1)
    shown = list(moving_panels(comparison, source=source))
    assert [round(1000 * (tile.end_seconds - tile.begin_seconds)) for _, tile in shown] == milliseconds
    assert shown[0][1].begin_seconds == Fraction(frames[0], 25)


@pytest.mark.parametrize("suffix", [*FORMATS, ".PNG"])
def test_a_clip_of_one_frame_shows_its_panels_side_by_side(make: Any, tmp_path: Path, suffix: str) -> None:
    source, output = _source(make, tmp_path), tmp_path / f"out{suffix}"
    write_figure(_comparison(_spot(0), _spot(0), frames=(0,)), source=source, output=output)
    frame = _mp4(output)[1][0] if suffix == ".mp4" else _webp(output)[1][0]
    # Three panels in two columns: the plain frame and the first map, then the second map below.
    (first_y, first_x), (second_y, second_x) = _spots_yx(frame)
    assert first_x - second_x == pytest.approx(264 + 12, abs=3)
    assert second_y - first_y > 198


@pytest.mark.parametrize("size_wh", [(90, 160), (97, 63), (400, 20)])
def test_pictures_of_any_shape_keep_it(make: Any, tmp_path: Path, size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    comparison = _comparison(_spot(1), _spot(1))
    video = replace(comparison.video, width_px=width, height_px=height)
    comparison = replace(comparison, video=video, map_region_xyxy_px=(0.0, 0.0, float(width), float(height)))
    page = sheet(comparison, source=_source(make, tmp_path, size_wh=size_wh))
    first, second = _spots_yx(page)
    assert _around(page, first) == pytest.approx(0.7 * _level(1), abs=3)
    # The longer side is 150 px; beneath a flat one there is still room for the words.
    assert second[0] - first[0] == pytest.approx(max(round(height * 150 / max(size_wh)), 43) + 6, abs=1)


def test_pixels_that_are_not_square_are_made_so(make: Any, tmp_path: Path) -> None:
    source = _source(make, tmp_path)
    wide = tmp_path / "wide.mp4"
    with av.open(str(source)) as given, av.open(str(wide), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv444p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for frame in given.decode(video=0):
            container.mux(stream.encode(frame.reformat(format="yuv444p")))
        container.mux(stream.encode(None))
    tiles = [next(moving_panels(_comparison(_spot(0)), source=path))[1] for path in (source, wide)]
    assert [tile.frame_HWC.shape[:2] for tile in tiles] == [(198, 264), (99, 264)]


def test_a_long_or_strange_label_stays_in_its_place() -> None:
    assert shortened("wave", size_px=18, width_px=200) == "wave"
    assert shortened("two\nlines", size_px=18, width_px=200) == "two lines"
    cut = shortened("w" * 500, size_px=18, width_px=200)
    assert cut.endswith("…")
    ink_x = np.flatnonzero(lettering([Text(0, 0, cut, 18)], width_px=400, height_px=30)[..., 3].any(axis=0))
    assert 180 < ink_x.max() <= 201
    began = time.monotonic()
    shortened("w" * 10**6, size_px=18, width_px=200)
    assert time.monotonic() - began < 1
    # The font has none of these: boxes, and no warning (which would be an error here).
    boxes = lettering([Text(0, 0, shortened("动作", size_px=18, width_px=200), 18)], width_px=100, height_px=30)
    assert boxes[..., 3].any()
    # Not a formula: as many letters as were given.
    money = lettering([Text(0, 0, "$x^2$", 18)], width_px=100, height_px=30)[..., 3].any(axis=0)
    assert np.flatnonzero(money).max() > 40


def test_another_video_is_refused_and_nothing_is_written(make: Any, tmp_path: Path) -> None:
    small = _source(make, tmp_path, size_wh=(64, 64))
    for suffix in FORMATS:
        with pytest.raises(RequestError, match="same video"):
            write_figure(_comparison(_spot(0)), source=small, output=tmp_path / f"out{suffix}")
    source = _source(make, tmp_path)
    with pytest.raises(RequestError, match=r"lacks a frame.*no frame 9"):
        write_figure(_comparison(_spot(0), frames=(0, 9)), source=source, output=tmp_path / "out.png")
    assert [path.name for path in tmp_path.iterdir()] == ["source.mp4"]


def test_what_cannot_be_drawn_is_refused_before_the_source_is_read(tmp_path: Path) -> None:
    for output, colormap, reason in (("out.gif", "turbo", "suffix"), ("out", "turbo", "suffix"), ("o.png", "x", "map")):
        with pytest.raises(BadOptionError, match=reason):
            write_figure(_comparison(), source=tmp_path / "none", output=tmp_path / output, colormap=colormap)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(tmp_path: Path, speed: float) -> None:
    with pytest.raises(BadOptionError, match="speed"):
        write_figure(_comparison(), source=tmp_path / "none", output=tmp_path / "out.webp", speed=speed)


def test_an_output_that_cannot_be_written_is_not_blamed_on_the_source(make: Any, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    for suffix in FORMATS:
        with pytest.raises(RequestError, match="could not be written"):
            write_figure(
                _comparison(_spot(0)), source=_source(make, tmp_path), output=tmp_path / "taken" / f"out{suffix}"
            )
