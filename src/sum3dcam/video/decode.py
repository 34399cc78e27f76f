"""Bytes of a video, an image or an .npy array to frames of the graph's size, in the graph's streams."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from sum3dcam.errors import EmptyBodyError
from sum3dcam.video.array import MAGIC, decode_array
from sum3dcam.video.flow import Progress, stream_frames
from sum3dcam.video.footage import DecodeLimits, Stopwatch, Video, check_limit
from sum3dcam.video.media import decode_media

__all__ = ["DecodeLimits", "Video", "decode"]

DEFAULT_PREPROCESSING = "shorter-side-centre-crop"


def decode(
    data: bytes,
    *,
    size_px: int,
    limits: DecodeLimits,
    preprocessing: str = DEFAULT_PREPROCESSING,
    clip_length: int | None = None,
    streams: Sequence[str] = ("rgb",),
    frames_per_second: float | None = None,
    progress: Progress = iter,
    seconds_left: float = math.inf,
) -> Video:
    """The video's frames, upright, resampled, resized and cropped to (size_px, size_px), in the streams asked for.

    Flow is computed on the frames that come out of all this, in pixels of size_px, from each to the next.

    Args:
        data: an encoded video or image (a one-frame video), or an .npy file: uint8 (T,H,W,C), or (N,T,H,W,C) with
            T = clip_length, which flow does not cross. C is 3 for RGB, or what the streams have together; flow that
            comes so is taken as it is, its displacements in pixels of the size the network sees.
        preprocessing: a key of `geometry.PREPROCESSING`. An array of size_px already is taken as preprocessed.
        streams: keys of `contract.STREAM_CHANNELS`, whose channels the frames hold side by side.
        frames_per_second: the rate to resample to; None keeps every frame, as always with images and arrays.
        progress: goes through the pairs of frames whose flow is computed.
        seconds_left: until the answer is of no use any more; looked at between two frames.

    Raises:
        EmptyBodyError: no bytes.
        UnreadableMediaError: neither of these, or damaged or cut off anywhere.
        NoVideoFramesError: readable, but without a picture.
        BadArrayError: an .npy array of another dtype, rank, clip length or number of channels.
        TooLargeError: beyond one of the limits, computing the flow included.
        DeadlineExceededError: not done in seconds_left.
    """
    if not data:
        raise EmptyBodyError(
            "the request carries no bytes: send a video, image or .npy file as the HTTP body (content-type "
            "application/octet-stream or video/*; form-encoded bodies are lost) or as gRPC input 'data'"
        )
    check_limit(len(data), allowed=limits.max_bytes, what="bytes are")
    stopwatch = Stopwatch(limits, seconds_left=seconds_left)
    see = partial(stream_frames, streams=streams, progress=_timed(progress, stopwatch=stopwatch))
    if data.startswith(MAGIC):
        return decode_array(
            data,
            size_px=size_px,
            limits=limits,
            preprocessing=preprocessing,
            clip_length=clip_length,
            streams=streams,
            see=see,
        )
    video = decode_media(
        data,
        size_px=size_px,
        limits=limits,
        preprocessing=preprocessing,
        frames_per_second=frames_per_second,
        stopwatch=stopwatch,
    )
    return replace(video, frames_THWC=see(video.frames_THWC))


def _timed(progress: Progress, *, stopwatch: Stopwatch) -> Progress:
    """The progress, stopped between two pairs of frames when the time is used up."""

    def through(frames: Sequence[int]) -> Iterator[int]:
        for frame in progress(frames):
            stopwatch.check(
                what="seconds of decoding and computing optical flow are",
                advice="send a shorter video, or compute the flow beforehand with 'sum3dcam flow' and send its .npy",
            )
            yield frame

    return through
