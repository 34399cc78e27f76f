"""An .npy file to frames: the header is believed only as far as the bytes bear it out."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam.errors import BadArrayError, NoVideoFramesError, UnreadableMediaError
from sum3dcam.video.footage import DecodeLimits, Video, check_frame_size, check_limit
from sum3dcam.video.geometry import PREPROCESSING
from sum3dcam.video.media import resize_array

MAGIC = b"\x93NUMPY"
_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def decode_array(
    data: bytes, *, size_px: int, limits: DecodeLimits, preprocessing: str, clip_length: int | None
) -> Video:
    """uint8 (T,H,W,3) as a video, (N,T,H,W,3) as N clips in a row; arguments and errors are those of `decode`."""
    shape, dtype, offset = _header(data)
    allowed = f"uint8 (T,H,W,3), or (N,{clip_length or 'T'},H,W,3)"
    if dtype != np.uint8 or len(shape) not in (4, 5) or shape[-1] != 3:
        raise BadArrayError("the array is no uint8 RGB clip", got=f"{dtype} {shape}", allowed=allowed)
    if len(shape) == 5 and clip_length is not None and shape[1] != clip_length:
        raise BadArrayError("the array's clips have another length than the model's", got=str(shape), allowed=allowed)
    num_frames = int(np.prod(shape[:-3], dtype=object))
    height_px, width_px = shape[-3:-1]
    if num_frames == 0 or height_px == 0 or width_px == 0:
        raise NoVideoFramesError("the array holds no frame", got=str(shape))
    promised = num_frames * height_px * width_px * 3
    if len(data) - offset != promised:
        raise UnreadableMediaError(
            "the array's header and its bytes disagree; send the whole file",
            got=f"{len(data) - offset} bytes of data",
            allowed=f"{promised} bytes for {shape}",
        )
    check_limit(num_frames, allowed=limits.max_frames, what="frames are")
    geometry = PREPROCESSING[preprocessing](width_px, height_px, size_px=size_px)
    check_frame_size(geometry, limits=limits)
    frames_THWC: NDArray[np.uint8] = np.load(BytesIO(data), allow_pickle=False).reshape(
        num_frames, height_px, width_px, 3
    )
    return Video(
        frames_THWC=resize_array(frames_THWC, geometry=geometry),
        geometry=geometry,
        time_seconds=None,
        fps=None,
        duration_seconds=None,
    )


def _header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and where the data begins."""
    file = BytesIO(data)
    try:
        shape, _, dtype = _HEADER[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError, TypeError, SyntaxError, EOFError) as error:
        raise UnreadableMediaError("the .npy header cannot be read", got=repr(data[:16])) from error
    return shape, dtype, file.tell()
