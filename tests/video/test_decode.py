"""Decoding: good files give the frames that went in, bad ones their own error."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest

from sum3dcam.errors import (
    BadArrayError,
    DeadlineExceededError,
    EmptyBodyError,
    NoVideoFramesError,
    Sum3DCamError,
    TooLargeError,
    UnreadableMediaError,
)
from sum3dcam.video import media
from sum3dcam.video.decode import DecodeLimits, Video, decode
from sum3dcam.video.flow import decode_flow, encode_flow, tvl1_flow

Make = Callable[..., bytes]
LIMITS = DecodeLimits()

# Noise: every frame needs many bytes, so that a cut hits a frame and not only the index.
NOISE = [np.random.default_rng(i).integers(0, 255, (64, 96, 3), np.uint8) for i in range(10)]

CONTAINERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "mp4": ("mp4", "libx264", {}),
    "mp4-faststart": ("mp4", "libx264", {"movflags": "faststart"}),
    "mp4-fragmented": ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "mov": ("mov", "mpeg4", {}),
    "mkv": ("matroska", "libx264", {}),
    "webm": ("webm", "libvpx-vp9", {}),
    "avi": ("avi", "mpeg4", {}),
    "mpegts": ("mpegts", "libx264", {}),
    "mpeg": ("mpeg", "mpeg2video", {}),
    "flv": ("flv", "libx264", {}),
    "gif": ("gif", "gif", {}),
    "apng": ("apng", "apng", {}),
}
PIXELS = {"gif": "rgb8", "apng": "rgb24"}


def read(data: bytes, *, size_px: int = 32, limits: DecodeLimits = LIMITS, **options: Any) -> Video:
    return decode(data, size_px=size_px, limits=limits, **options)


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_all_frames_and_their_times(name: str, video: Make) -> None:
    container, codec, options = CONTAINERS[name]
    result = read(video(container, codec, options=options, num_frames=12, pixels=PIXELS.get(name, "yuv420p")))
    assert result.frames_THWC.shape == (12, 32, 32, 3)
    assert result.frames_THWC.dtype == np.uint8
    assert (result.geometry.source_width_px, result.geometry.source_height_px) == (96, 64)
    assert result.fps == 25.0
    assert result.time_seconds == pytest.approx([i / 25 for i in range(12)], abs=1e-3)  # flv counts milliseconds
    assert result.duration_seconds == pytest.approx(12 / 25, abs=1e-3)


@pytest.mark.parametrize("share", [0.9, 0.6])
@pytest.mark.parametrize("name", CONTAINERS)
def test_cut_file_is_an_error_and_not_a_shorter_video(name: str, share: float, video: Make) -> None:
    container, codec, options = CONTAINERS[name]
    data = video(container, codec, options=options, frames=NOISE, pixels=PIXELS.get(name, "yuv420p"))
    with pytest.raises(UnreadableMediaError):
        read(data[: int(len(data) * share)])


def test_mp4_cut_between_two_frames_is_an_error(video: Make) -> None:
    data = video(options={"movflags": "faststart"}, frames=NOISE)
    # Whole frames only: no decoder would notice.
    last_frame = int.from_bytes(data[data.rfind(b"mdat") - 4 :][:4], "big")
    with pytest.raises(UnreadableMediaError, match="cut off"):
        read(data[: len(data) - last_frame // len(NOISE)])


def test_damage_in_the_middle_is_an_error(video: Make) -> None:
    data = bytearray(video(frames=NOISE, codec_options={"g": "1"}))
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    with pytest.raises(UnreadableMediaError, match="damaged"):
        read(bytes(data))


@pytest.mark.parametrize("appendix", [b"\0" * 100, b"camera's own appendix"])
def test_bytes_behind_a_whole_mp4_do_no_harm(appendix: bytes, video: Make) -> None:
    assert read(video() + appendix).num_frames == 12


def test_pixels_survive(video: Make) -> None:
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:, 16:48] = (255, 0, 0)
    frame[:, 48:80] = (0, 0, 255)
    result = read(
        video("matroska", "libx264rgb", frames=[frame], pixels="rgb24", codec_options={"crf": "0"}), size_px=64
    )
    # 64 of 96 columns are kept, from 16 on, and nothing is resized: lossless in, the same out.
    np.testing.assert_array_equal(result.frames_THWC[0], frame[:, 16:80])


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotation_is_undone_and_sizes_are_as_displayed(degrees: int, video: Make) -> None:
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[:32, :48] = 255  # the stored top left
    result = read(video(frames=[stored] * 3, rotation=degrees), size_px=64)
    # Display matrices turn counter-clockwise: the stored top left corner is shown at ...
    corner = {90: (-8, 8), 180: (-8, -8), -90: (8, -8)}[degrees]
    row, column = corner
    assert result.frames_THWC[0, row, column].min() > 200
    assert result.frames_THWC[0, -row - 1, -column - 1].max() < 50
    shown = (96, 64) if degrees == 180 else (64, 96)
    assert (result.geometry.source_width_px, result.geometry.source_height_px) == shown


# One white pixel block in the stored picture's top left; where a viewer sees it, as (right, bottom).
CORNERS = {0: (False, False), 90: (False, True), 180: (True, True), -90: (True, False)}


@pytest.mark.parametrize("degrees", CORNERS)
@pytest.mark.parametrize("preprocessing", ["shorter-side-256-crop-224", "squash"])
def test_every_preprocessing_sees_the_picture_upright(preprocessing: str, degrees: int, video: Make) -> None:
    stored = np.zeros((63, 97, 3), np.uint8)
    stored[:32, :49] = 255
    data = video(frames=[stored] * 2, size=(97, 63), pixels="yuv444p", rotation=degrees or None)
    result = read(data, preprocessing=preprocessing)
    shown = (97, 63) if degrees in (0, 180) else (63, 97)
    assert (result.geometry.source_width_px, result.geometry.source_height_px) == shown
    assert result.frames_THWC.shape == (2, 32, 32, 3)
    right, bottom = CORNERS[degrees]
    quadrants = [[slice(2, 12), slice(20, 30)][side] for side in (bottom, right)]
    assert result.frames_THWC[0][tuple(quadrants)].min() > 200
    assert result.frames_THWC[0].mean() == pytest.approx(255 / 4, abs=20)  # and a quarter of the picture is white


def test_squash_shows_the_whole_picture(video: Make) -> None:
    frame = np.zeros((64, 128, 3), np.uint8)
    frame[:, :16] = 255  # an eighth of the width, which a centre crop would cut off
    seen = read(video(frames=[frame], size=(128, 64)), preprocessing="squash").frames_THWC[0]
    assert seen[:, :3].min() > 200
    assert seen[:, 5:].max() < 50


def test_variable_rate_keeps_its_times(video: Make) -> None:
    pts = [0, 1, 2, 10, 20, 21, 22, 50]
    result = read(video(num_frames=8, pts=pts))
    assert result.time_seconds == pytest.approx([tick / 25 for tick in pts], abs=1e-9)


def test_dropped_frames_leave_what_the_source_says_of_itself(video: Make) -> None:
    data = video(num_frames=12)
    every, some = read(data), read(data, frames_per_second=10.0)
    # Oracle: at k / 10 seconds frame floor(2.5 k) of 25 a second is on screen.
    assert some.source_frames == (0, 2, 5, 7, 10)
    np.testing.assert_array_equal(some.frames_THWC, every.frames_THWC[[0, 2, 5, 7, 10]])
    assert (some.num_frames, some.num_source_frames) == (5, 12)
    assert every.source_frames == tuple(range(12))
    assert (some.time_seconds, some.fps, some.duration_seconds) == (
        every.time_seconds,
        every.fps,
        every.duration_seconds,
    )


def test_a_higher_rate_repeats_frames(video: Make) -> None:
    result = read(video(num_frames=3), frames_per_second=50.0)
    assert result.source_frames == (0, 0, 1, 1, 2, 2)
    np.testing.assert_array_equal(result.frames_THWC[::2], result.frames_THWC[1::2])


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_source_at_the_rate_asked_for_is_not_resampled(name: str, video: Make) -> None:
    container, codec, options = CONTAINERS[name]
    data = video(container, codec, options=options, num_frames=12, pixels=PIXELS.get(name, "yuv420p"))
    assert read(data, frames_per_second=25.0).source_frames == tuple(range(12))


def test_dropped_frames_are_neither_resized_nor_kept(video: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    resized = []
    square = media._square

    def counted(frame: Any, *arguments: Any, **options: Any) -> Any:
        resized.append(frame.pts)
        return square(frame, *arguments, **options)

    monkeypatch.setattr(media, "_square", counted)
    read(video(num_frames=12), frames_per_second=5.0)
    assert len(resized) == 3


def test_frames_are_limited_after_resampling_too(video: Make) -> None:
    data, limits = video(num_frames=3), DecodeLimits(max_frames=6)
    assert read(data, limits=limits, frames_per_second=50.0).num_frames == 6
    with pytest.raises(TooLargeError, match="frames, resampled, are"):
        read(data, limits=limits, frames_per_second=75.0)
    with pytest.raises(TooLargeError, match="resampled"):  # before anything of that size is allocated
        read(data, limits=limits, frames_per_second=1e12)


def test_sources_without_a_clock_are_not_resampled(video: Make, npy: Make) -> None:
    image = video("image2pipe", "png", pixels="rgb24", frames=NOISE[:1])
    assert read(image, frames_per_second=100.0).source_frames == (0,)
    array = np.zeros((5, 32, 32, 3), np.uint8)
    result = read(npy(array), frames_per_second=1.0)
    assert (result.source_frames, result.num_source_frames) == ((0, 1, 2, 3, 4), 5)


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv422p", "gray10le"])
def test_other_pixel_formats_become_rgb(pixels: str, video: Make) -> None:
    frames = read(video("matroska", "libx264", pixels=pixels)).frames_THWC
    assert frames.shape == (12, 32, 32, 3)
    assert frames[-1].std() > 10


def test_odd_sizes_are_read(video: Make) -> None:
    result = read(video(size=(97, 63), pixels="yuv444p"))
    assert (result.geometry.source_width_px, result.geometry.source_height_px) == (97, 63)


@pytest.mark.parametrize(
    ("container", "codec", "pixels"),
    [
        ("image2pipe", "png", "rgb24"),
        ("image2pipe", "mjpeg", "yuvj420p"),
        ("image2pipe", "bmp", "bgr24"),
        ("image2pipe", "tiff", "rgb24"),
        ("webp", "libwebp", "yuv420p"),
    ],
)
def test_image_is_a_video_of_one_frame_without_a_clock(container: str, codec: str, pixels: str, video: Make) -> None:
    data = video(container, codec, pixels=pixels, frames=NOISE[:1])
    result = read(data)
    assert result.frames_THWC.shape == (1, 32, 32, 3)
    assert (result.fps, result.time_seconds, result.duration_seconds) == (None, None, None)
    with pytest.raises(UnreadableMediaError):
        read(data[: len(data) * 2 // 3])


def test_video_with_sound_gives_its_pictures(video: Make) -> None:
    assert read(video(with_audio=True)).num_frames == 12


def test_no_bytes_are_an_empty_body() -> None:
    with pytest.raises(EmptyBodyError):
        read(b"")


@pytest.mark.parametrize(
    "data",
    [
        b"not a video, just a sentence\n" * 20,
        b"x",
        bytes(5000),
        b"<!DOCTYPE html><html></html>",
        b'{"data": "aGVsbG8="}',
        b"PK\x03\x04" + bytes(100),
        b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/segment.ts\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"1\n00:00:01,000 --> 00:00:02,000\nsubtitle\n\n" * 5,
        b"\x1a\x45\xdf\xa3",
        b"RIFF",
        b"\xff\xd8\xff",
    ],
    ids=["text", "byte", "zeros", "html", "json", "zip", "hls", "concat", "srt", "ebml", "riff", "jpeg"],
)
def test_other_bytes_are_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableMediaError):
        read(data)


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("flac", "flac")]
)
def test_sound_alone_has_no_video_frames(container: str, codec: str, audio: Make) -> None:
    with pytest.raises(NoVideoFramesError, match="no video stream"):
        read(audio(container, codec))


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_container_without_a_frame_has_no_video_frames(container: str, video: Make) -> None:
    with pytest.raises(NoVideoFramesError):
        read(video(container, frames=[]))


LIMIT_CASES: dict[str, tuple[DecodeLimits, dict[str, Any]]] = {
    "bytes": (DecodeLimits(max_bytes=100), {}),
    "pixels": (DecodeLimits(max_pixels=96 * 64 - 1), {}),
    "frames": (DecodeLimits(max_frames=11), {}),
    "seconds": (DecodeLimits(max_duration_seconds=0.4), {}),
    "decoding": (DecodeLimits(max_decode_seconds=0.0), {}),
    "shorter side": (DecodeLimits(max_pixels=5000), {"size": (1000, 4), "pixels": "yuv444p"}),
}


@pytest.mark.parametrize("name", LIMIT_CASES)
def test_limits_are_named_with_what_came_and_what_is_allowed(name: str, video: Make) -> None:
    limits, changes = LIMIT_CASES[name]
    with pytest.raises(TooLargeError, match=name) as caught:
        read(video(**changes), limits=limits)
    assert caught.value.got is not None
    assert caught.value.allowed is not None


def test_a_value_at_its_limit_passes(video: Make) -> None:
    data = video()
    limits = DecodeLimits(max_bytes=len(data), max_pixels=96 * 64, max_frames=12, max_duration_seconds=0.48)
    assert read(data, limits=limits).num_frames == 12


def test_huge_image_is_refused_before_its_pixels_are_allocated(video: Make) -> None:
    data = video("image2pipe", "png", frames=[np.zeros((600, 800, 3), np.uint8)], size=(800, 600), pixels="rgb24")
    with pytest.raises(TooLargeError, match="pixels"):
        read(data, limits=DecodeLimits(max_pixels=10_000))


def test_array_frames_pass_unchanged_at_the_graphs_size(npy: Make) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), np.uint8)
    result = read(npy(frames))
    np.testing.assert_array_equal(result.frames_THWC, frames)
    assert (result.fps, result.time_seconds, result.duration_seconds) == (None, None, None)


def test_array_of_another_size_is_resized_and_cropped_like_a_video(npy: Make) -> None:
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:, 48:] = 200
    result = read(npy(np.stack([frame] * 3)))
    assert result.frames_THWC.shape == (3, 32, 32, 3)
    assert result.frames_THWC[0, 16, 4].max() < 5
    assert result.frames_THWC[0, 16, 28].min() > 195


@pytest.mark.parametrize("size_px", [32, 80])
def test_array_of_another_size_is_resized_to_the_same_bits_as_an_image(size_px: int, video: Make, npy: Make) -> None:
    image = video("image2pipe", "png", pixels="rgb24", frames=NOISE[:1])
    expected = read(image, size_px=size_px).frames_THWC
    np.testing.assert_array_equal(read(npy(np.stack(NOISE[:1])), size_px=size_px).frames_THWC, expected)
    with_flow = np.concatenate([np.stack(NOISE[:1]), np.zeros((1, 64, 96, 2), np.uint8)], axis=-1)
    sent = read(npy(with_flow), size_px=size_px, streams=("rgb", "flow")).frames_THWC
    np.testing.assert_array_equal(sent[..., :3], expected)


def test_array_in_fortran_order_keeps_its_pixels(npy: Make) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(read(npy(np.asfortranarray(frames))).frames_THWC, frames)


def test_array_of_clips_is_a_video_of_clips_in_a_row(npy: Make) -> None:
    clips = np.random.default_rng(0).integers(0, 255, (2, 4, 32, 32, 3), np.uint8)
    result = read(npy(clips), clip_length=4)
    np.testing.assert_array_equal(result.frames_THWC, clips.reshape(8, 32, 32, 3))


BAD_ARRAYS: dict[str, tuple[Any, type[Sum3DCamError], str]] = {
    "floats": (np.zeros((4, 32, 32, 3), np.float32), BadArrayError, "float32"),
    "integers": (np.zeros((4, 32, 32, 3), np.int64), BadArrayError, "int64"),
    "objects": (np.array([object()], dtype=object), BadArrayError, "object"),
    "image": (np.zeros((32, 32, 3), np.uint8), BadArrayError, "(32, 32, 3)"),
    "channels first": (np.zeros((4, 3, 32, 32), np.uint8), BadArrayError, "(4, 3, 32, 32)"),
    "alpha": (np.zeros((4, 32, 32, 4), np.uint8), BadArrayError, "(4, 32, 32, 4)"),
    "clip length": (np.zeros((2, 5, 32, 32, 3), np.uint8), BadArrayError, "(2, 5, 32, 32, 3)"),
    "scalar": (np.uint8(1), BadArrayError, "()"),
    "no frame": (np.zeros((0, 32, 32, 3), np.uint8), NoVideoFramesError, "(0, 32, 32, 3)"),
    "no pixel": (np.zeros((4, 0, 32, 3), np.uint8), NoVideoFramesError, "(4, 0, 32, 3)"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_array_is_named(name: str, npy: Make) -> None:
    array, error, named = BAD_ARRAYS[name]
    with pytest.raises(error) as caught:
        read(npy(array), clip_length=4)
    assert named in str(caught.value.got)


def test_array_that_promises_more_than_it_holds_is_refused_before_allocation(npy: Make) -> None:
    data = npy(np.zeros((4, 32, 32, 3), np.uint8))
    with pytest.raises(UnreadableMediaError, match="disagree"):
        read(data[:-1])
    with pytest.raises(UnreadableMediaError, match="disagree"):
        read(data.replace(b"(4, 32, 32, 3)", b"(999999999, 32, 32, 3)"))


@pytest.mark.parametrize("data", [b"\x93NUMPY", b"\x93NUMPY\x09\x00v\x00", b"\x93NUMPY\x01\x00\xff\xff{"])
def test_broken_array_header_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableMediaError):
        read(data)


@pytest.mark.parametrize("header", [b"(" * 9000, b"[" * 200 + b"]" * 100, b"-" * 9000 + b"1", b"9" * 9000, b"{'a'\n"])
def test_header_that_its_parser_chokes_on_is_unreadable(header: bytes) -> None:
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(UnreadableMediaError):
        read(data)


def test_video_of_an_unknown_codec_is_unreadable(video: Make) -> None:
    with pytest.raises(UnreadableMediaError, match="codec"):
        read(video("avi", "mpeg4").replace(b"FMP4", b"ABCD"))


def test_codec_that_finds_no_memory_says_too_large(video: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise av.error.MemoryError(12, "no memory")

    data = video()
    monkeypatch.setattr(media.av, "open", refuse)
    with pytest.raises(TooLargeError, match="memory"):
        read(data)


def test_time_that_is_up_stops_the_decoding(video: Make) -> None:
    with pytest.raises(DeadlineExceededError):
        read(video(), seconds_left=0.0)


def test_array_limits_hold(npy: Make) -> None:
    with pytest.raises(TooLargeError, match="frames"):
        read(npy(np.zeros((4, 32, 32, 3), np.uint8)), limits=DecodeLimits(max_frames=3))
    with pytest.raises(TooLargeError, match="pixels"):
        read(npy(np.zeros((4, 32, 32, 3), np.uint8)), limits=DecodeLimits(max_pixels=1000))


def _moving(num_frames: int, *, step_xy: tuple[int, int], size: tuple[int, int] = (48, 32)) -> Any:
    """Frames of a smooth texture that moves by step_xy a frame: uint8 (T,H,W,3)."""
    width, height = size
    rng = np.random.default_rng(7)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (height + 80, width + 80, 3), np.uint8), (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    corners = [(40 - k * step_xy[0], 40 - k * step_xy[1]) for k in range(num_frames)]
    return np.stack([texture[y : y + height, x : x + width] for x, y in corners])


@pytest.mark.parametrize("name", ["shorter-side-centre-crop", "shorter-side-256-crop-224", "squash"])
def test_flow_is_that_of_the_frames_the_network_sees(name: str, npy: Make) -> None:
    data = npy(_moving(4, step_xy=(2, -1)))
    rgb = read(data, preprocessing=name).frames_THWC
    flow = read(data, preprocessing=name, streams=("flow",)).frames_THWC
    both = read(data, preprocessing=name, streams=("rgb", "flow")).frames_THWC
    assert flow.shape == (4, 32, 32, 2)
    # Oracle: the flow of the resized and cropped frames.
    np.testing.assert_array_equal(flow, tvl1_flow(rgb))
    np.testing.assert_array_equal(both, np.concatenate([rgb, flow], axis=-1))


def test_flow_is_that_of_the_resampled_frames(video: Make) -> None:
    data = video(
        "matroska", "libx264rgb", frames=_moving(6, step_xy=(1, 0), size=(32, 32)), size=(32, 32), pixels="rgb24"
    )
    flow = read(data, streams=("flow",), frames_per_second=12.5).frames_THWC
    assert len(flow) == 3
    # Every second frame of a texture that moves one pixel a frame; TV-L1 is good to tenths in the middle.
    assert np.median(decode_flow(flow[:, 8:24, 8:24, 0])) == pytest.approx(2.0, abs=0.3)


def test_an_image_does_not_move(video: Make) -> None:
    image = video("image2pipe", "png", pixels="rgb24", frames=NOISE[:1])
    flow = read(image, streams=("flow",)).frames_THWC
    np.testing.assert_array_equal(flow, encode_flow(np.zeros((1, 32, 32, 2))))


def test_flow_never_crosses_from_one_clip_of_an_array_to_the_next(npy: Make) -> None:
    right, left = _moving(3, step_xy=(2, 0)), _moving(3, step_xy=(-2, 0))
    flow = read(npy(np.stack([right, left])), streams=("flow",), clip_length=3).frames_THWC
    apart = [read(npy(clip), streams=("flow",)).frames_THWC for clip in (right, left)]
    np.testing.assert_array_equal(flow, np.concatenate(apart))
    in_a_row = read(npy(np.concatenate([right, left])), streams=("flow",)).frames_THWC
    assert (in_a_row[2] != flow[2]).any()


@pytest.mark.parametrize("streams", [("flow",), ("rgb", "flow")])
def test_flow_that_was_sent_is_taken_as_it_is(streams: tuple[str, ...], npy: Make) -> None:
    channels = {1: 2, 2: 5}[len(streams)]
    array = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, channels), np.uint8)
    result = read(npy(array), streams=streams, clip_length=4, limits=DecodeLimits(max_decode_seconds=0.0))
    np.testing.assert_array_equal(result.frames_THWC, array.reshape(8, 32, 32, channels))


def test_an_array_of_the_networks_size_is_taken_as_preprocessed(npy: Make) -> None:
    array = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    result = read(npy(array), preprocessing="shorter-side-256-crop-224")
    np.testing.assert_array_equal(result.frames_THWC, array)
    assert result.geometry.crop_xyxy_px == (0.0, 0.0, 32.0, 32.0)


def test_flow_of_another_size_is_resized_plane_by_plane_without_rescaling_its_displacements(npy: Make) -> None:
    array = np.zeros((2, 64, 96, 5), np.uint8)
    array[..., 3], array[..., 4] = np.arange(96) * 2, 77
    result = read(npy(array), streams=("rgb", "flow")).frames_THWC
    # Halved, columns 16..80 of the source: the centre of column x lies at 16.5 + 2 x of a ramp that rises by two. Bytes
    # round twice.
    np.testing.assert_allclose(result[0, 16, :, 3], 2 * (16.5 + 2 * np.arange(32)), atol=1)
    assert (result[..., 4] == 77).all()


WRONG_CHANNELS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "flow to an rgb model": (("rgb",), 2, "what this model sees, rgb; send RGB frames"),
    "both to an rgb model": (("rgb",), 5, "what this model sees, rgb; send RGB frames"),
    "both to a flow model": (("flow",), 5, "sees, flow; .*or flow as 'sum3dcam flow' writes it"),
    "flow to a two-stream model": (("rgb", "flow"), 2, "rgb and flow; .*'sum3dcam flow --rgb'"),
}


@pytest.mark.parametrize("case", WRONG_CHANNELS)
def test_other_channels_are_refused_by_the_models_streams(case: str, npy: Make) -> None:
    streams, channels, message = WRONG_CHANNELS[case]
    with pytest.raises(BadArrayError, match=message) as caught:
        read(npy(np.zeros((4, 32, 32, channels), np.uint8)), streams=streams)
    assert caught.value.got == f"uint8 (4, 32, 32, {channels})"
    assert "uint8 (T,H,W,3) of rgb" in caught.value.allowed


def test_flow_is_computed_within_the_time_for_decoding_and_no_longer(
    npy: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    seconds = iter(range(100))
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)))  # a second passes between two looks
    monkeypatch.setattr("sum3dcam.video.footage.time", clock)
    with pytest.raises(TooLargeError, match=r"optical flow.*'sum3dcam flow'") as caught:
        read(
            npy(_moving(8, step_xy=(1, 0))),
            streams=("flow",),
            limits=DecodeLimits(max_decode_seconds=3.0),
            progress=lambda frames: (computed.append(frame) or frame for frame in frames),
        )
    assert (caught.value.got, caught.value.allowed) == (4.0, 3.0)
    assert computed == [0, 1, 2, 3]  # looked four times: three pairs were computed, the fourth was not begun
