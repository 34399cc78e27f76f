"""What decoding gives, and what it refuses to do."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sum3dcam.errors import TooLargeError
from sum3dcam.video.geometry import Geometry


@dataclass(frozen=True)
class DecodeLimits:
    """Bounds on one input; each is inclusive."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 4096 * 2304  # of one frame
    max_frames: int = 2048
    max_duration_seconds: float = 600.0
    max_decode_seconds: float = 20.0  # of wall time: eight slow files must not outlast TorchServe's responseTimeout


@dataclass(frozen=True)
class Video:
    """Decoded frames, uint8 (T, size, size, 3) RGB, resized and cropped.

    `time_seconds` holds each frame's time since the video's start; None where the source has no clock (arrays,
    single images). `fps` is the container's average rate, None where it has none.
    """

    frames_THWC: NDArray[np.uint8]
    geometry: Geometry
    time_seconds: tuple[float, ...] | None
    fps: float | None
    duration_seconds: float | None

    @property
    def num_frames(self) -> int:
        return len(self.frames_THWC)


def check_limit(value: float, *, allowed: float, what: str) -> None:
    """Raises TooLargeError, which names the limit, where the value is beyond it."""
    if value > allowed:
        raise TooLargeError(f"{what} beyond the server's limit; send less", got=value, allowed=allowed)


def check_frame_size(geometry: Geometry, *, limits: DecodeLimits) -> None:
    """Raises TooLargeError for a frame too big to decode, or so narrow that resizing its short side blows it up."""
    check_limit(
        geometry.source_width_px * geometry.source_height_px, allowed=limits.max_pixels, what="pixels per frame are"
    )
    check_limit(
        geometry.resized_width_px * geometry.resized_height_px,
        allowed=limits.max_pixels,
        what="pixels per frame, after its shorter side is resized, are",
    )
