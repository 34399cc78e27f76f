"""An .npy file to frames: the header is believed only as far as the bytes bear it out."""

from collections.abc import Callable, Sequence
from io import BytesIO
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam.contract import STREAM_CHANNELS
from sum3dcam.errors import BadArrayError, NoVideoFramesError, UnreadableMediaError
from sum3dcam.video.footage import DecodeLimits, Video, check_frame_size, check_limit
from sum3dcam.video.geometry import PREPROCESSING, Geometry, squash
from sum3dcam.video.media import resize_array

MAGIC = b"\x93NUMPY"
_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# What numpy lets through: it parses the header as Python.
_BAD_HEADER = (ValueError, KeyError, TypeError, SyntaxError, TokenError, EOFError, MemoryError, RecursionError)
_RGB = ("rgb",)
_FLOW_ADVICE = {
    ("flow",): ", whose flow is then computed, or flow as 'sum3dcam flow' writes it",
    ("rgb", "flow"): ", whose flow is then computed, or both as 'sum3dcam flow --rgb' writes them",
}


def decode_array(
    data: bytes,
    *,
    size_px: int,
    limits: DecodeLimits,
    preprocessing: str,
    clip_length: int | None,
    streams: Sequence[str],
    see: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> Video:
    """uint8 (T,H,W,C) as a video, (N,T,H,W,C) as N clips in a row; other arguments and errors are those of `decode`.

    Args:
        see: makes the streams of one clip that came in RGB.
    """
    shape, dtype, offset = _header(data)
    sent = _streams_sent(shape, dtype, streams=streams, clip_length=clip_length)
    *clip_shape, height_px, width_px, channels = shape
    num_frames = int(np.prod(clip_shape, dtype=object))
    if num_frames == 0 or height_px == 0 or width_px == 0:
        raise NoVideoFramesError("the array holds no frame", got=str(shape))
    promised = num_frames * height_px * width_px * channels
    if len(data) - offset != promised:
        raise UnreadableMediaError(
            "the array's header and its bytes disagree; send the whole file",
            got=f"{len(data) - offset} bytes of data",
            allowed=f"{promised} bytes for {shape}",
        )
    check_limit(num_frames, allowed=limits.max_frames, what="frames are")
    geometry = _geometry(width_px, height_px, size_px=size_px, preprocessing=preprocessing)
    check_frame_size(geometry, limits=limits)
    array: NDArray[np.uint8] = np.ascontiguousarray(np.load(BytesIO(data), allow_pickle=False))
    frames_THWC = _resize(array.reshape(num_frames, height_px, width_px, channels), streams=sent, geometry=geometry)
    if tuple(sent) != tuple(streams):
        clips = frames_THWC.reshape(-1, clip_shape[-1], *frames_THWC.shape[1:])
        frames_THWC = np.concatenate([see(clip_THWC) for clip_THWC in clips])
    return Video(
        frames_THWC=frames_THWC,
        geometry=geometry,
        source_frames=tuple(range(num_frames)),
        num_source_frames=num_frames,
        time_seconds=None,
        fps=None,
        duration_seconds=None,
    )


def _streams_sent(
    shape: tuple[int, ...], dtype: np.dtype[Any], *, streams: Sequence[str], clip_length: int | None
) -> Sequence[str]:
    """The streams that the array holds: the network's own, or RGB from which they are made."""
    by_channels = {_channels(sent): sent for sent in (_RGB, streams)}
    allowed = " or ".join(
        f"uint8 (T,H,W,{channels}) of {' and '.join(sent)}" for channels, sent in sorted(by_channels.items())
    )
    allowed += f"; or N such clips, (N,{clip_length or 'T'},H,W,C)"
    if dtype != np.uint8 or len(shape) not in (4, 5) or shape[-1] not in by_channels:
        raise BadArrayError(
            f"the array is no uint8 clip of what this model sees, {' and '.join(streams)}; send RGB frames"
            + _FLOW_ADVICE.get(tuple(streams), ""),
            got=f"{dtype} {shape}",
            allowed=allowed,
        )
    if len(shape) == 5 and clip_length is not None and shape[1] != clip_length:
        raise BadArrayError("the array's clips have another length than the model's", got=str(shape), allowed=allowed)
    return by_channels[shape[-1]]


def _channels(streams: Sequence[str]) -> int:
    return sum(STREAM_CHANNELS[stream] for stream in streams)


def _geometry(width_px: int, height_px: int, *, size_px: int, preprocessing: str) -> Geometry:
    """Frames of the network's size have been preprocessed: they are neither resized nor cropped again."""
    if (width_px, height_px) == (size_px, size_px):
        return squash(width_px, height_px, size_px=size_px)
    return PREPROCESSING[preprocessing](width_px, height_px, size_px=size_px)


def _resize(frames_THWC: NDArray[np.uint8], *, streams: Sequence[str], geometry: Geometry) -> NDArray[np.uint8]:
    """RGB as pictures, which the scaler does not treat as three planes; flow plane by plane, its displacements kept."""
    if frames_THWC.shape[1:3] == (geometry.size_px, geometry.size_px):
        return frames_THWC
    parts, first = [], 0
    for stream in streams:
        channels = range(first, first + STREAM_CHANNELS[stream])
        if stream in _RGB:
            parts.append(resize_array(frames_THWC[..., channels.start : channels.stop], geometry=geometry))
        else:
            planes = [resize_array(frames_THWC[..., channel], geometry=geometry) for channel in channels]
            parts.append(np.stack(planes, axis=-1))
        first = channels.stop
    return np.concatenate(parts, axis=-1)


def _header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and where the data begins."""
    file = BytesIO(data)
    try:
        shape, _, dtype = _HEADER[np.lib.format.read_magic(file)](file)
    except _BAD_HEADER as error:
        raise UnreadableMediaError("the .npy header cannot be read", got=repr(data[:16])) from error
    return shape, dtype, file.tell()
