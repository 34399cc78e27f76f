"""Bytes of a video, an image or an .npy array to frames of the graph's size."""

from sum3dcam.errors import EmptyBodyError
from sum3dcam.video.array import MAGIC, decode_array
from sum3dcam.video.footage import DecodeLimits, Video, check_limit
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
) -> Video:
    """The video's frames, upright, resized and cropped to (size_px, size_px).

    Args:
        data: an encoded video or image (a one-frame video), or an .npy file: uint8 (T,H,W,3), or (N,T,H,W,3) with
            T = clip_length.
        preprocessing: a key of `geometry.PREPROCESSING`.

    Raises:
        EmptyBodyError: no bytes.
        UnreadableMediaError: neither of these, or damaged or cut off anywhere.
        NoVideoFramesError: readable, but without a picture.
        BadArrayError: an .npy array of another dtype, rank or clip length.
        TooLargeError: beyond one of the limits.
    """
    if not data:
        raise EmptyBodyError(
            "the request carries no bytes: send a video, image or .npy file as the HTTP body (content-type "
            "application/octet-stream or video/*; form-encoded bodies are lost) or as gRPC input 'data'"
        )
    check_limit(len(data), allowed=limits.max_bytes, what="bytes are")
    if data.startswith(MAGIC):
        return decode_array(data, size_px=size_px, limits=limits, preprocessing=preprocessing, clip_length=clip_length)
    return decode_media(data, size_px=size_px, limits=limits, preprocessing=preprocessing)
