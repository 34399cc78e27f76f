"""The overlay is the source with the map on it: same size, frames and clock, and the spot where it belongs."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from sum3dcam.client.overlay import contact_sheet, drawer, write_overlay
from sum3dcam.client.reply import read_reply
from sum3dcam.client.shading import TUBE_COLOURS
from sum3dcam.client.source import SourceFrame
from sum3dcam.errors import BadArrayError, BadOptionError, NoVideoFramesError, RequestError, UnreadableMediaError

NTSC = Fraction(24000, 1001)


def _decode(path: Path) -> tuple[Any, Any]:
    """(stream's facts, frames uint8 (T,H,W,3))."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        facts = {
            "codec": stream.codec_context.name,
            "pixels": stream.codec_context.pix_fmt,
            "fps": stream.average_rate,
            "size": (stream.width, stream.height),
            "aspect": stream.sample_aspect_ratio,
        }
        return facts, np.stack(frames)


def _times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def test_size_rate_and_number_of_frames_are_the_sources(make: Any, tmp_path: Path) -> None:
    source = make.video(tmp_path / "source.mp4", make.grey_frames(10), fps=NTSC)
    prediction = read_reply(make.reply(make.envelope(num_frames=10), {"maps": make.blob_maps(3)}))
    write_overlay(prediction, source=source, output=tmp_path / "new" / "out.mp4")
    facts, frames = _decode(tmp_path / "new" / "out.mp4")
    assert facts == {"codec": "h264", "pixels": "yuv420p", "fps": NTSC, "size": (160, 120), "aspect": 1}
    assert len(frames) == 10
    assert _times(tmp_path / "new" / "out.mp4") == _times(source)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.mp4"]


def test_the_spot_is_warm_and_what_lies_outside_the_region_is_unchanged(make: Any, tmp_path: Path) -> None:
    source = make.video(tmp_path / "source.mp4", make.grey_frames(6))
    envelope = make.envelope()
    envelope["clips"][0]["explanations"][0]["boxes"] = []
    prediction = read_reply(make.reply(envelope, {"maps": make.blob_maps(2, centre_xy=(0.25, 0.5))}))
    write_overlay(prediction, source=source, output=tmp_path / "out.mp4")
    _, before = _decode(source)
    _, after = _decode(tmp_path / "out.mp4")
    # The spot is at a quarter of the region's width: x = 20 + 0.25 * 120 = 50, y = 60.
    red, _, blue = after[:, 60, 50].astype(int).T
    assert (red - blue > 60).all()
    away = after[:, 60, 130].astype(int)
    assert (np.ptp(away, axis=1) <= 6).all(), "a quarter of the way from the spot nothing is shaded"
    # Below the caption, left and right of x = 20 and 140; 4:2:0 smears colour over one pixel beyond. Codec loss at
    # CRF 18 on smooth grey is within a few levels.
    for columns in (slice(0, 18), slice(142, 160)):
        difference = np.abs(after[:, 20:, columns].astype(int) - before[:, 20:, columns])
        assert difference.max() <= 6


def test_each_frame_wears_its_own_map(make: Any, tmp_path: Path) -> None:
    source = make.video(tmp_path / "source.mp4", make.grey_frames(10))
    maps = np.zeros((3, 1, make.clip_length, 60, 60), np.uint8)
    for frame in range(10):  # one bright row of cells per frame, each 6 cells (12 source pixels) lower
        maps[frame // make.clip_length, 0, frame % make.clip_length, 6 * frame : 6 * frame + 6] = 255
    envelope = make.envelope(num_frames=10)
    envelope["clips"][0]["explanations"][0]["boxes"] = []
    prediction = read_reply(make.reply(envelope, {"maps": maps}))
    write_overlay(prediction, source=source, output=tmp_path / "out.mp4")
    _, frames = _decode(tmp_path / "out.mp4")
    for index in range(1, 10):  # the caption hides frame 0's row
        red, _, blue = frames[index, :, 80].astype(int).T
        rows = np.flatnonzero(red - blue > 40)
        assert rows.mean() == pytest.approx(12 * index + 5.5, abs=1.0)


def _rows_of_heat(frames: Any) -> list[float]:
    """The mean row of what is warm in each frame, in map cells of two source pixels."""
    rows = []
    for frame_HWC in frames:
        red, _, blue = frame_HWC[:, 80].astype(int).T
        rows.append(float(np.flatnonzero(red - blue > 40).mean() / 2))
    return rows


def _striped(num_clips: int, length: int) -> Any:
    """Maps (N,T,60,60): place p of the video has a warm stripe of four cells whose mean row is 10 + 6 p."""
    maps = np.zeros((num_clips, 1, length, 60, 60), np.uint8)
    for place in range(num_clips * length):
        maps[place // length, 0, place % length, 8 + 6 * place : 12 + 6 * place] = 255
    return maps


RESAMPLED: dict[str, tuple[list[dict[str, Any]], list[int]]] = {
    # Clips as the server describes them, and the place whose map each of eight source frames wears.
    "every other frame": (
        [
            {"frames": [0, 2, 4, 6], "start_frame": 0, "end_frame": 8},
        ],
        [0, 0, 1, 1, 2, 2, 3, 3],
    ),
    "a padded tail": (
        [
            {"frames": [0, 1, 2, 3], "start_frame": 0, "end_frame": 5},
            {"frames": [5, 7, 5, 7], "start_frame": 5, "end_frame": 8},
        ],
        [0, 1, 2, 3, 3, 4, 4, 5],
    ),
    "repeated frames": (
        [
            {"frames": [0, 1, 2, 3], "start_frame": 0, "end_frame": 4},
            {"frames": [3, 4, 4, 7], "start_frame": 3, "end_frame": 8},
        ],
        [0, 1, 2, 3, 5, 5, 5, 7],
    ),
}


@pytest.mark.parametrize("case", RESAMPLED)
def test_each_source_frame_wears_the_map_of_the_place_that_shows_it(make: Any, tmp_path: Path, case: str) -> None:
    clips, places = RESAMPLED[case]
    source = make.video(tmp_path / "source.mp4", make.grey_frames(8))
    envelope = make.envelope(num_frames=8)
    envelope["clips"] = [{**envelope["clips"][0], "index": i, "boxes": [], **clip} for i, clip in enumerate(clips)]
    prediction = read_reply(make.reply(envelope, {"maps": _striped(len(clips), 4)}))
    write_overlay(prediction, source=source, output=tmp_path / "out.mp4")
    _, frames = _decode(tmp_path / "out.mp4")
    # The stripe's mean row, cells 8 + 6 p to 12 + 6 p; interpolation and 4:2:0 blur it evenly.
    assert _rows_of_heat(frames) == pytest.approx([10 + 6 * place for place in places], abs=0.6)


def test_boxes_are_on_their_frame_alone(make: Any, tmp_path: Path) -> None:
    source = make.video(tmp_path / "source.mp4", [np.full((120, 160, 3), 128, np.uint8)] * 6)
    maps = np.zeros((2, 1, make.clip_length, 56, 56), np.uint8)
    prediction = read_reply(make.reply(make.envelope(), {"maps": maps}))
    write_overlay(prediction, source=source, output=tmp_path / "out.mp4")
    _, frames = _decode(tmp_path / "out.mp4")
    # The envelope's box is (30, 20)-(70, 60.5) on frame 1.
    left_line = frames[:, 25:55, 30].astype(int).mean(axis=(1, 2))
    assert left_line[1] > 200
    assert np.abs(left_line[[0, 2, 3, 4, 5]] - 128).max() < 6


def test_tubes_take_the_place_of_the_clips_boxes_each_in_its_colour(make: Any) -> None:
    envelope = make.envelope()
    envelope["video"]["tubes"] = [make.tube(1, 2, x=100.0, y=40.0), make.tube(2, 3, x=100.0, y=60.0)]
    maps = np.zeros((2, 1, make.clip_length, 56, 56), np.uint8)
    draw = drawer(read_reply(make.reply(envelope, {"maps": maps})))
    frames = []
    for index in range(6):
        picture = SourceFrame(index=index, frame_HWC=np.full((120, 160, 3), 128, np.uint8), pts=index, duration=1)
        draw(picture, 0.0)
        frames.append(picture.frame_HWC)
    # The envelope's own box of frame 1, x from 30, is not drawn.
    assert (frames[1][20:, :90] == 128).all()
    lines = [[tuple(frame_HWC[row, 100].tolist()) for row in (50, 70, 95)] for frame_HWC in frames]
    grey, one, two = (128, 128, 128), *TUBE_COLOURS[:2]
    # The first tube reaches from row 40 to 80, the second from 60 to 100; where both lie the better one is on top.
    assert lines[:4] == [[grey, grey, grey], [one, one, grey], [one, one, two], [grey, two, two]]
    assert lines[4:] == [[grey, grey, grey]] * 2


@pytest.mark.parametrize(("width", "height"), [(81, 60), (80, 61), (81, 61)])
def test_odd_sizes_stay_odd(make: Any, tmp_path: Path, width: int, height: int) -> None:
    source = make.video(tmp_path / "source.mp4", make.grey_frames(4, width_px=width, height_px=height))
    region = [10.0, 0.0, 70.0, 60.0]
    envelope = make.envelope(num_frames=4, width_px=width, height_px=height, map_region_xyxy_px=region)
    write_overlay(
        read_reply(make.reply(envelope, {"maps": make.blob_maps(1)})), source=source, output=tmp_path / "out.mp4"
    )
    facts, _ = _decode(tmp_path / "out.mp4")
    assert (facts["size"], facts["pixels"]) == ((width, height), "yuv444p")


def test_uneven_frame_times_and_pixel_shape_are_kept(make: Any, tmp_path: Path) -> None:
    source = tmp_path / "uneven.mp4"
    ticks = [0, 10, 40, 45, 100, 130]
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 100)
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        for tick, pixels in zip(ticks, make.grey_frames(6), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    prediction = read_reply(make.reply(make.envelope(), {"maps": make.blob_maps(2)}))
    write_overlay(prediction, source=source, output=tmp_path / "out.mp4")
    assert _times(tmp_path / "out.mp4") == [Fraction(tick, 100) for tick in ticks]
    assert _decode(tmp_path / "out.mp4")[0]["aspect"] == Fraction(16, 11)


def _turn(path: Path) -> None:
    """Writes the matrix of a quarter turn clockwise into the mp4's track header, as phones do."""
    data = bytearray(path.read_bytes())
    # 'tkhd', version 0: the 3x3 matrix (16.16 fixed point; last column 2.30) starts 40 bytes after the version.
    at = data.index(b"tkhd") + 4 + 40
    one, minus_one = (1 << 16).to_bytes(4, "big"), (-(1 << 16)).to_bytes(4, "big", signed=True)
    zero = bytes(4)
    data[at : at + 36] = b"".join([zero, one, zero, minus_one, zero, zero, zero, zero, (1 << 30).to_bytes(4, "big")])
    path.write_bytes(data)


def test_a_sideways_recording_is_drawn_upright(make: Any, tmp_path: Path) -> None:
    stored = np.full((120, 160, 3), 128, np.uint8)
    stored[:, :40] = 250  # x' = -y, y' = x: the stored left edge is the shown top
    source = make.video(tmp_path / "source.mp4", [stored] * 4)
    _turn(source)
    envelope = make.envelope(num_frames=4, width_px=120, height_px=160, map_region_xyxy_px=[0.0, 20.0, 120.0, 140.0])
    maps = np.zeros((1, 1, make.clip_length, 56, 56), np.uint8)
    write_overlay(read_reply(make.reply(envelope, {"maps": maps})), source=source, output=tmp_path / "out.mp4")
    facts, frames = _decode(tmp_path / "out.mp4")
    assert facts["size"] == (120, 160)
    assert frames[0, 30, 100].mean() > 240
    assert abs(frames[0, 150, 100].mean() - 128) < 6


@pytest.mark.parametrize("name", ["clip.npy", "clip.bin"])
def test_an_array_of_frames_is_a_source_too(make: Any, tmp_path: Path, name: str) -> None:
    frames = np.stack(make.grey_frames(8)).reshape(2, 4, 120, 160, 3)
    with (tmp_path / name).open("wb") as file:
        np.save(file, frames)
    prediction = read_reply(make.reply(make.envelope(num_frames=8), {"maps": make.blob_maps(2)}))
    write_overlay(prediction, source=tmp_path / name, output=tmp_path / "out.mp4")
    assert len(_decode(tmp_path / "out.mp4")[1]) == 8


def test_a_single_image_is_a_source_too(make: Any, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), make.grey_frames(1)[0])
    envelope = make.envelope(num_frames=1)
    envelope["clips"][0].update(boxes=[], start_seconds=None, end_seconds=None)
    prediction = read_reply(make.reply(envelope, {"maps": make.blob_maps(1)}))
    write_overlay(prediction, source=tmp_path / "one.png", output=tmp_path / "out.mp4")
    assert len(_decode(tmp_path / "out.mp4")[1]) == 1


def test_a_longer_source_is_copied_to_its_end(make: Any, tmp_path: Path) -> None:
    source = make.video(tmp_path / "source.mp4", make.grey_frames(9))
    prediction = read_reply(make.reply(make.envelope(num_frames=6), {"maps": make.blob_maps(2)}))
    write_overlay(prediction, source=source, output=tmp_path / "out.mp4")
    _, frames = _decode(tmp_path / "out.mp4")
    assert len(frames) == 9
    assert np.ptp(frames[8, 60, 50].astype(int)) <= 6, "no clip covers this frame: unshaded"


def test_the_contact_sheet_shows_evenly_spaced_frames_of_the_overlay(make: Any, tmp_path: Path) -> None:
    source = make.video(tmp_path / "source.mp4", make.grey_frames(15))
    prediction = read_reply(make.reply(make.envelope(num_frames=15), {"maps": make.blob_maps(4)}))
    contact_sheet(prediction, source=source, output=tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1].astype(int)
    # 4x2 tiles of 384x288 (160x120 scaled by 2.4), each with a gap of 4.
    assert sheet.shape == (2 * 292, 4 * 388, 3)
    spots = [sheet[row * 292 + 144, column * 388 + 120] for row in range(2) for column in range(4)]
    assert all(spot[0] - spot[2] > 60 for spot in spots)
    # Frames 0, 2 .. 14 of a source that brightens by one a frame, read where nothing is drawn.
    greys = [sheet[row * 292 + 250, column * 388 + 370].mean() for row in range(2) for column in range(4)]
    assert np.diff(greys) == pytest.approx([2.0] * 7, abs=1.5)


def test_a_short_video_gives_a_sheet_of_its_frames(make: Any, tmp_path: Path) -> None:
    source = make.video(tmp_path / "source.mp4", make.grey_frames(3))
    prediction = read_reply(make.reply(make.envelope(num_frames=3), {"maps": make.blob_maps(1)}))
    contact_sheet(prediction, source=source, output=tmp_path / "sheet.png")
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (292, 3 * 388, 3)


def test_another_video_is_refused_and_nothing_is_left_behind(make: Any, tmp_path: Path) -> None:
    source = make.video(tmp_path / "source.mp4", make.grey_frames(6, width_px=64, height_px=64))
    prediction = read_reply(make.reply(make.envelope(), {"maps": make.blob_maps(2)}))
    with pytest.raises(RequestError, match="same video"):
        write_overlay(prediction, source=source, output=tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["source.mp4"]


def test_a_source_that_changes_its_size_leaves_nothing_behind(make: Any, tmp_path: Path) -> None:
    first = make.video(tmp_path / "a.ts", make.grey_frames(40))
    second = make.video(tmp_path / "b.ts", make.grey_frames(4, width_px=80, height_px=64))
    source = tmp_path / "source.ts"
    source.write_bytes(first.read_bytes() + second.read_bytes())
    prediction = read_reply(make.reply(make.envelope(num_frames=40), {"maps": make.blob_maps(10)}))
    with pytest.raises(RequestError, match="same video"):
        write_overlay(prediction, source=source, output=tmp_path / "new" / "out.mp4")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_reply_without_maps_is_refused(make: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="explain='maps'"):
        write_overlay(read_reply(make.reply(make.envelope())), source=tmp_path / "x", output=tmp_path / "out.mp4")


def test_an_unknown_colormap_is_refused_before_anything_is_read(make: Any, tmp_path: Path) -> None:
    prediction = read_reply(make.reply(make.envelope(), {"maps": make.blob_maps(2)}))
    with pytest.raises(BadOptionError, match="colormap"):
        write_overlay(prediction, source=tmp_path / "none", output=tmp_path / "out.mp4", colormap="nope")


def test_an_output_that_cannot_be_written_is_not_blamed_on_the_source(make: Any, tmp_path: Path) -> None:
    source = make.video(tmp_path / "source.mp4", make.grey_frames(6))
    prediction = read_reply(make.reply(make.envelope(), {"maps": make.blob_maps(2)}))
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(RequestError, match="could not be written"):
        write_overlay(prediction, source=source, output=tmp_path / "taken" / "out.mp4")


def _audio(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


BAD_SOURCES = {
    "text": (lambda path: path.write_text("hello, this is no video " * 40), UnreadableMediaError),
    "missing": (lambda path: None, UnreadableMediaError),
    "audio": (_audio, NoVideoFramesError),
    "floats": (lambda path: path.write_bytes(_npy(np.zeros((4, 8, 8, 3)))), BadArrayError),
    "cut array": (lambda path: path.write_bytes(_npy(np.zeros((4, 8, 8, 3), np.uint8))[:200]), UnreadableMediaError),
}


def _npy(array: Any) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("bad", BAD_SOURCES)
def test_a_source_that_is_no_video_is_refused_by_name(make: Any, tmp_path: Path, bad: str) -> None:
    write, kind = BAD_SOURCES[bad]
    write(tmp_path / "bad.mp4")
    prediction = read_reply(make.reply(make.envelope(), {"maps": make.blob_maps(2)}))
    with pytest.raises(kind, match=r"bad\.mp4|uint8"):
        write_overlay(prediction, source=tmp_path / "bad.mp4", output=tmp_path / "out.mp4")
