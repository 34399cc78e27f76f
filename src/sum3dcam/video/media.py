"""Encoded video and images to frames, through PyAV; nothing but the bytes given is ever opened."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from sum3dcam.errors import NoVideoFramesError, TooLargeError, UnreadableMediaError
from sum3dcam.video.extent import declared_bytes
from sum3dcam.video.footage import DecodeLimits, Stopwatch, Video, check_frame_size, check_limit
from sum3dcam.video.geometry import PREPROCESSING, Geometry
from sum3dcam.video.sample import resample

# Demuxers that only parse the bytes given. Left out on purpose: playlists and scripts (hls, dash, concat, image2, sdp),
# which open what they name, devices, and formats whose probe takes text for video.
VIDEO_FORMATS = ("mov", "matroska", "avi", "mpeg", "mpegts", "flv", "ogg", "gif", "apng")
IMAGE_FORMATS = ("png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe")
# Read only far enough to say that there is no picture in them.
AUDIO_FORMATS = ("wav", "mp3", "aac", "flac", "aiff")

DEFAULT_RATE = Fraction(25)

# Filtered over the whole footprint when shrinking; exact, so that every processor gives the same pixels.
SCALING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


@dataclass(frozen=True)
class _Picture:
    """A decoded frame, its place in the source, the quarter turns that set it upright, and where its pixels go."""

    index: int
    frame: Any
    turns: int
    geometry: Geometry
    begins: Fraction
    ends: Fraction


def decode_media(
    data: bytes,
    *,
    size_px: int,
    limits: DecodeLimits,
    preprocessing: str,
    frames_per_second: float | None,
    stopwatch: Stopwatch,
) -> Video:
    """The first real video stream in RGB, resampled unless it is an image; arguments and errors are `decode`'s."""
    _check_whole(data)
    with _open(data, limits=limits) as container:
        stream = _video_stream(container)
        has_clock = container.format.name not in IMAGE_FORMATS
        frames_HWC: list[NDArray[np.uint8]] = []
        source_frames: list[int] = []
        times: list[float] = []
        resize = VideoReformatter()
        pictures = _pictures(
            container, stream, size_px=size_px, limits=limits, preprocessing=preprocessing, stopwatch=stopwatch
        )
        timed = ((picture, picture.begins, picture.ends) for picture in pictures)
        for picture, num_places in resample(timed, fps=frames_per_second if has_clock else None):
            times.append(float(picture.begins))
            check_limit(len(frames_HWC) + num_places, allowed=limits.max_frames, what="frames, resampled, are")
            if num_places:
                square_HWC = _square(
                    picture.frame, picture.geometry, turns=picture.turns, pixels="rgb24", resize=resize
                )
                frames_HWC += [square_HWC] * num_places
                source_frames += [picture.index] * num_places
        if not times:
            raise NoVideoFramesError("the file has a video stream without a single frame", got="0 frames")
        rate = stream.average_rate or stream.guessed_rate
        return Video(
            frames_THWC=np.stack(frames_HWC),
            geometry=picture.geometry,
            source_frames=tuple(source_frames),
            num_source_frames=len(times),
            time_seconds=tuple(times) if has_clock else None,
            fps=float(rate) if has_clock and rate else None,
            duration_seconds=float(picture.ends) if has_clock else None,
        )


def _check_whole(data: bytes) -> None:
    promised = declared_bytes(data)
    if len(data) < promised:
        raise UnreadableMediaError(
            "the file is cut off: its container declares more bytes than came; send the whole file",
            got=f"{len(data)} bytes",
            allowed=f"{promised} bytes",
        )


def _pictures(
    container: Any, stream: Any, *, size_px: int, limits: DecodeLimits, preprocessing: str, stopwatch: Stopwatch
) -> Iterator[_Picture]:
    """Every frame of the source with its clock and geometry, each checked against the limits as it comes."""
    geometry: Geometry | None = None
    end = Fraction(0)
    for index, frame in enumerate(_frames(container, stream, limits=limits)):
        turns = round(frame.rotation / 90) % 4
        width_px, height_px = (frame.height, frame.width) if turns % 2 else (frame.width, frame.height)
        if geometry is None:
            geometry = PREPROCESSING[preprocessing](width_px, height_px, size_px=size_px)
            check_frame_size(geometry, limits=limits)
        if (width_px, height_px) != (geometry.source_width_px, geometry.source_height_px):
            raise UnreadableMediaError(
                f"the picture's size changes at frame {index}; send the parts apart",
                got=f"{width_px}x{height_px}",
                allowed=f"{geometry.source_width_px}x{geometry.source_height_px}",
            )
        begin, end = _clock(frame, stream, due=end)
        check_limit(float(end), allowed=limits.max_duration_seconds, what="seconds of video are")
        stopwatch.check(what="seconds of decoding are")
        check_limit(index + 1, allowed=limits.max_frames, what="frames are")
        yield _Picture(index=index, frame=frame, turns=turns, geometry=geometry, begins=begin, ends=end)


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
    except MemoryError as error:
        raise _too_much_memory() from error
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
    if context is None:
        raise UnreadableMediaError("the video's codec is unknown; encode it as H.264, for one")
    check_limit(context.width * context.height, allowed=limits.max_pixels, what="pixels per frame are")
    context.options = _codec_options(limits)
    # Files are decoded side by side, where more threads for one gain nothing (benchmarks/decode.py).
    context.thread_count = 1
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
    except MemoryError as error:
        raise _too_much_memory() from error
    except (av.FFmpegError, ValueError) as error:
        raise _broken(num_frames) from error


def _broken(num_frames: int) -> UnreadableMediaError:
    return UnreadableMediaError(
        "the video's data is damaged or cut off; send the whole file", got=f"broken after {num_frames} frames"
    )


def _too_much_memory() -> TooLargeError:
    return TooLargeError(
        "the file asks for more memory than its decoder may have: it is damaged, or its frames too big"
    )


def _clock(frame: Any, stream: Any, *, due: Fraction) -> tuple[Fraction, Fraction]:
    """When the frame begins and ends, in seconds since the stream's start; `due` where it does not say."""
    rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
    time_base = frame.time_base or stream.time_base
    lasts = frame.duration * time_base if frame.duration else 1 / Fraction(rate)
    begins = due if frame.pts is None else (frame.pts - (stream.start_time or 0)) * time_base
    return begins, begins + lasts


def _square(frame: Any, geometry: Geometry, *, turns: int, pixels: str, resize: VideoReformatter) -> NDArray[np.uint8]:
    """The frame upright, resized and cropped, uint8: (size, size, 3) as "rgb24", (size, size) as "gray"."""
    width_px, height_px = geometry.resized_width_px, geometry.resized_height_px
    if turns % 2:
        width_px, height_px = height_px, width_px
    small = resize.reformat(frame, width=width_px, height=height_px, format=pixels, interpolation=SCALING, threads=1)
    upright = np.rot90(small.to_ndarray(), turns)  # turning the small picture is cheaper
    top, left, size = geometry.crop_top_px, geometry.crop_left_px, geometry.size_px
    return np.ascontiguousarray(upright[top : top + size, left : left + size])


def resize_array(frames: NDArray[np.uint8], *, geometry: Geometry) -> NDArray[np.uint8]:
    """Raw frames through the same scaler and crop: uint8 RGB (T,H,W,3) -> (T,size,size,3), or one plane (T,H,W)."""
    resize = VideoReformatter()
    pixels = "rgb24" if frames.ndim == 4 else "gray"
    return np.stack(
        [
            _square(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), pixels),
                geometry,
                turns=0,
                pixels=pixels,
                resize=resize,
            )
            for frame in frames
        ]
    )
