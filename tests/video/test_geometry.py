"""Oracle: arithmetic by hand."""

import pytest

from sum3dcam.video.geometry import PREPROCESSING, shorter_side_256_crop_224, shorter_side_centre_crop, squash

SOURCES = [(320, 240), (241, 317), (97, 63), (1280, 720), (17, 1000)]


@pytest.mark.parametrize(
    ("source", "size", "resized", "crop"),
    [
        ((320, 240), 112, (149, 112), (18, 0)),  # 112 * 320 / 240 = 149.33
        ((240, 320), 112, (112, 149), (0, 18)),
        ((112, 112), 112, (112, 112), (0, 0)),
        ((100, 50), 100, (200, 100), (50, 0)),  # enlarged
        ((1920, 1080), 224, (398, 224), (87, 0)),  # 398.22
    ],
)
def test_shorter_side_is_resized_and_the_centre_kept(
    source: tuple[int, int], size: int, resized: tuple[int, int], crop: tuple[int, int]
) -> None:
    geometry = shorter_side_centre_crop(*source, size_px=size)
    assert (geometry.resized_width_px, geometry.resized_height_px) == resized
    assert (geometry.crop_left_px, geometry.crop_top_px) == crop


def test_box_in_the_square_lands_on_its_source_pixels() -> None:
    # 100x50 doubles to 200x100, of which columns 50..150 are kept: square x = 2 * source x - 50.
    geometry = shorter_side_centre_crop(100, 50, size_px=100)
    assert geometry.to_source((0.0, 0.0, 100.0, 100.0)) == (25.0, 0.0, 75.0, 50.0)
    assert geometry.to_source((10.0, 20.0, 30.0, 60.0)) == (30.0, 10.0, 40.0, 30.0)


def test_width_and_height_are_not_swapped() -> None:
    geometry = shorter_side_centre_crop(50, 100, size_px=100)
    assert geometry.to_source((10.0, 20.0, 30.0, 60.0)) == (5.0, 35.0, 15.0, 55.0)


def test_crop_region_is_the_source_of_the_whole_square() -> None:
    assert shorter_side_centre_crop(100, 50, size_px=100).crop_xyxy_px == (25.0, 0.0, 75.0, 50.0)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", PREPROCESSING)
def test_crop_stays_inside_the_source(name: str, source: tuple[int, int]) -> None:
    x1, y1, x2, y2 = PREPROCESSING[name](*source, size_px=112).crop_xyxy_px
    width, height = source
    # 1e-9: a few roundings of float64 at values below 2000.
    assert -1e-9 <= x1 < x2 <= width + 1e-9
    assert -1e-9 <= y1 < y2 <= height + 1e-9


@pytest.mark.parametrize("source", SOURCES)
def test_shorter_side_is_kept_from_end_to_end(source: tuple[int, int]) -> None:
    x1, y1, x2, y2 = shorter_side_centre_crop(*source, size_px=112).crop_xyxy_px
    width, height = source
    assert min(width, height) == pytest.approx(y2 - y1 if width > height else x2 - x1, abs=1e-9)


@pytest.mark.parametrize(
    ("source", "size", "resized", "crop"),
    [
        ((320, 240), 224, (341, 256), (58, 16)),  # 256 * 320 / 240 = 341.33
        ((240, 320), 224, (256, 341), (16, 58)),
        ((224, 224), 224, (256, 256), (16, 16)),  # a source of the network's size is cropped too
        ((1920, 1080), 224, (455, 256), (115, 16)),  # 455.11
        ((97, 63), 112, (197, 128), (42, 8)),  # 197.08, and half of 197 - 112 = 85
        ((100, 50), 7, (16, 8), (4, 0)),  # 8 - 7 leaves one column, which is cut off at the right
    ],
)
def test_i3d_resizes_the_shorter_side_to_eight_sevenths_and_keeps_the_centre(
    source: tuple[int, int], size: int, resized: tuple[int, int], crop: tuple[int, int]
) -> None:
    geometry = shorter_side_256_crop_224(*source, size_px=size)
    assert (geometry.resized_width_px, geometry.resized_height_px) == resized
    assert (geometry.crop_left_px, geometry.crop_top_px) == crop


def test_box_in_i3ds_square_lands_on_its_source_pixels() -> None:
    # 128x64 quadruples to 512x256: source x = (square x + 144) / 4, source y = (square y + 16) / 4.
    geometry = shorter_side_256_crop_224(128, 64, size_px=224)
    assert geometry.to_source((0.0, 0.0, 224.0, 224.0)) == (36.0, 4.0, 92.0, 60.0)
    assert geometry.to_source((16.0, 4.0, 56.0, 24.0)) == (40.0, 5.0, 50.0, 10.0)


def test_squashed_square_is_the_whole_source_and_each_axis_has_its_own_scale() -> None:
    # 300x50 becomes 100x100: source x = 3 * square x, source y = square y / 2.
    geometry = squash(300, 50, size_px=100)
    assert geometry.crop_xyxy_px == (0.0, 0.0, 300.0, 50.0)
    assert geometry.to_source((10.0, 20.0, 30.0, 60.0)) == (30.0, 10.0, 90.0, 30.0)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", PREPROCESSING)
def test_from_source_is_the_inverse_of_to_source(name: str, source: tuple[int, int]) -> None:
    geometry = PREPROCESSING[name](*source, size_px=225)
    box = (3.0, 50.5, 120.25, 224.0)
    # 1e-9: a few roundings of float64 at values below 20,000.
    assert geometry.from_source(geometry.to_source(box)) == pytest.approx(box, abs=1e-9)
