"""Decoding: good files give the frames that went in, bad ones their own error."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sum3dcam.errors import (
    BadArrayError,
    EmptyBodyError,
    NoVideoFramesError,
    Sum3DCamError,
    TooLargeError,
    UnreadableMediaError,
)
from sum3dcam.video.decode import DecodeLimits, Video, decode

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


def read(data: bytes, *, size_px: int = 32, limits: DecodeLimits = LIMITS, clip_length: int | None = None) -> Video:
    return decode(data, size_px=size_px, limits=limits, clip_length=clip_length)


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


def test_variable_rate_keeps_its_times(video: Make) -> None:
    pts = [0, 1, 2, 10, 20, 21, 22, 50]
    result = read(video(num_frames=8, pts=pts))
    assert result.time_seconds == pytest.approx([tick / 25 for tick in pts], abs=1e-9)


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


def test_array_limits_hold(npy: Make) -> None:
    with pytest.raises(TooLargeError, match="frames"):
        read(npy(np.zeros((4, 32, 32, 3), np.uint8)), limits=DecodeLimits(max_frames=3))
    with pytest.raises(TooLargeError, match="pixels"):
        read(npy(np.zeros((4, 32, 32, 3), np.uint8)), limits=DecodeLimits(max_pixels=1000))
