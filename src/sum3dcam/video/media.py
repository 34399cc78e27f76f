"""Encoded video and images to frames, through PyAV; nothing but the bytes given is ever opened."""

import time
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from sum3dcam.errors import NoVideoFramesError, TooLargeError, UnreadableMediaError
from sum3dcam.video.extent import declared_bytes
from sum3dcam.video.footage import DecodeLimits, Video, check_frame_size, check_limit
from sum3dcam.video.geometry import PREPROCESSING, Geometry

# Demuxers that only parse the bytes given. Left out on purpose: playlists and scripts (hls, dash, concat, image2, sdp),
# which open what they name, devices, and formats whose probe takes text for video.
VIDEO_FORMATS = ("mov", "matroska", "avi", "mpeg", "mpegts", "flv", "ogg", "gif", "apng")
IMAGE_FORMATS = ("png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe")
# Read only far enough to say that there is no picture in them.
AUDIO_FORMATS = ("wav", "mp3", "aac", "flac", "aiff")

DEFAULT_RATE = Fraction(25)

# Filtered over the whole footprint when shrinking; exact, so that every processor gives the same pixels.
SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def decode_media(data: bytes, *, size_px: int, limits: DecodeLimits, preprocessing: str) -> Video:
    """Every frame of the first real video stream; arguments and errors are those of `decode`."""
    began = time.monotonic()
    promised = declared_bytes(data)
    if len(data) < promised:
        raise UnreadableMediaError(
            "the file is cut off: its container declares more bytes than came; send the whole file",
            got=f"{len(data)} bytes",
            allowed=f"{promised} bytes",
        )
    with _open(data, limits=limits) as container:
        stream = _video_stream(container)
        frames_HWC: list[NDArray[np.uint8]] = []
        times: list[float] = []
        resize = VideoReformatter()
        geometry: Geometry | None = None
        end = Fraction(0)
        for frame in _frames(container, stream, limits=limits):
            turns = round(frame.rotation / 90) % 4
            width_px, height_px = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
            if geometry is None:
                geometry = PREPROCESSING[preprocessing](width_px, height_px, size_px=size_px)
                check_frame_size(geometry, limits=limits)
            if (width_px, height_px) != (geometry.source_width_px, geometry.source_height_px):
                raise UnreadableMediaError(
                    f"the picture's size changes at frame {len(frames_HWC)}; send the parts apart",
                    got=f"{width_px}x{height_px}",
                    allowed=f"{geometry.source_width_px}x{geometry.source_height_px}",
                )
            start, end = _clock(frame, stream, due=end)
            check_limit(float(end), allowed=limits.max_duration_seconds, what="seconds of video are")
            check_limit(time.monotonic() - began, allowed=limits.max_decode_seconds, what="seconds of decoding are")
            check_limit(len(frames_HWC) + 1, allowed=limits.max_frames, what="frames are")
            frames_HWC.append(_square(frame, geometry, turns=turns, resize=resize))
            times.append(float(start))
        if geometry is None:
            raise NoVideoFramesError("the file has a video stream without a single frame", got="0 frames")
        has_clock = container.format.name not in IMAGE_FORMATS
        rate = stream.average_rate or stream.guessed_rate
        return Video(
            frames_THWC=np.stack(frames_HWC),
            geometry=geometry,
            time_seconds=tuple(times) if has_clock else None,
            fps=float(rate) if has_clock and rate else None,
            duration_seconds=float(end) if has_clock else None,
        )


def _open(data: bytes, *, limits: DecodeLimits) -> Any:
    try:
        return av.open(
            BytesIO(data),
            mode="r",
            # For the streams' own probing, which may decode a picture.
            options=_codec_options(limits),
            container_options={
                "format_whitelist": ",".join(VIDEO_FORMATS + IMAGE_FORMATS + AUDIO_FORMATS),
                "protocol_whitelist": "none",
            },
        )
    except av.EOFError as error:
        if declared_bytes(data):
            raise NoVideoFramesError("the file's container is empty", got="0 frames") from error
        raise _no_media(data) from error
    except (av.FFmpegError, ValueError) as error:
        raise _no_media(data) from error


def _no_media(data: bytes) -> UnreadableMediaError:
    return UnreadableMediaError(
        "the bytes are no video or image that can be read, or their index is cut off",
        got=f"{len(data)} bytes starting with {data[:12]!r}",
        allowed=[*VIDEO_FORMATS, *IMAGE_FORMATS, "npy"],
    )


def _codec_options(limits: DecodeLimits) -> dict[str, str]:
    """Keeps a codec from allocating a huge picture before we see its size; it counts padded rows, so a bit more."""
    return {"max_pixels": str(4 * limits.max_pixels)}


def _video_stream(container: Any) -> Any:
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:  # a cover, not a video
            return stream
    kinds = sorted({stream.type for stream in container.streams}) or ["none"]
    raise NoVideoFramesError("the file has no video stream", got=f"streams: {', '.join(kinds)}")


def _frames(container: Any, stream: Any, *, limits: DecodeLimits) -> Iterator[Any]:
    """The stream's frames; an error, never an early end, where the data breaks."""
    context = stream.codec_context
    check_limit(context.width * context.height, allowed=limits.max_pixels, what="pixels per frame are")
    context.options = _codec_options(limits)
    num_frames = 0
    try:
        for packet in container.demux(stream):
            for frame in packet.decode():
                if packet.is_corrupt or frame.is_corrupt:
                    raise _broken(num_frames)
                yield frame
                num_frames += 1
    except av.ArgumentError as error:
        if context.width:
            raise _broken(num_frames) from error
        # The codec refused the picture's header: images tell their size there and nowhere else.
        raise TooLargeError(
            "pixels per frame are beyond the server's limit; send less", allowed=limits.max_pixels
        ) from error
    except (av.FFmpegError, ValueError) as error:
        raise _broken(num_frames) from error


def _broken(num_frames: int) -> UnreadableMediaError:
    return UnreadableMediaError(
        "the video's data is damaged or cut off; send the whole file", got=f"broken after {num_frames} frames"
    )


def _clock(frame: Any, stream: Any, *, due: Fraction) -> tuple[Fraction, Fraction]:
    """When the frame begins and ends, in seconds since the stream's start; `due` where it does not say."""
    rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
    time_base = frame.time_base or stream.time_base
    lasts = frame.duration * time_base if frame.duration else 1 / Fraction(rate)
    begins = due if frame.pts is None else (frame.pts - (stream.start_time or 0)) * time_base
    return begins, begins + lasts


def _square(frame: Any, geometry: Geometry, *, turns: int, resize: VideoReformatter) -> NDArray[np.uint8]:
    """The frame upright, resized and cropped: uint8 (size, size, 3). Turning the small picture is cheaper."""
    width_px, height_px = geometry.resized_width_px, geometry.resized_height_px
    if turns % 2:
        width_px, height_px = height_px, width_px
    small = resize.reformat(frame, width=width_px, height=height_px, format="rgb24", interpolation=SCALING, threads=1)
    upright_HWC = np.rot90(small.to_ndarray(), turns)
    top, left, size = geometry.crop_top_px, geometry.crop_left_px, geometry.size_px
    return np.ascontiguousarray(upright_HWC[top : top + size, left : left + size])


def resize_array(frames_THWC: NDArray[np.uint8], *, geometry: Geometry) -> NDArray[np.uint8]:
    """Raw frames through the same scaler and crop: uint8 (T,H,W,3) -> (T,size,size,3)."""
    resize = VideoReformatter()
    return np.stack(
        [
            _square(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), "rgb24"), geometry, turns=0, resize=resize
            )
            for frame_HWC in frames_THWC
        ]
    )
