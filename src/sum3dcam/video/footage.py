"""What decoding is asked for, what it gives, and what it refuses to do."""

import math
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sum3dcam.errors import DeadlineExceededError, TooLargeError
from sum3dcam.video.geometry import Geometry


@dataclass(frozen=True)
class DecodeLimits:
    """Bounds on one input; each is inclusive."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 4096 * 2304  # of one frame
    max_frames: int = 2048  # of the source, and again after resampling
    max_duration_seconds: float = 600.0
    # Of wall time, optical flow included: eight slow files must not outlast TorchServe's responseTimeout.
    max_decode_seconds: float = 20.0
    # Of a decoder process, beyond what it has when it starts: input, codec, frames of every size, flow.
    max_decode_memory_mib: int = 2048


@dataclass(frozen=True)
class FrameSpec:
    """The frames that a network wants; the fields are `decode`'s arguments of the same names."""

    size_px: int
    preprocessing: str
    clip_length: int | None
    streams: tuple[str, ...]
    frames_per_second: float | None


@dataclass(frozen=True)
class Video:
    """Decoded frames, uint8 (T, size, size, C), resized and cropped; C are the streams' channels, side by side.

    `source_frames` holds, for each of the T frames, its index in the source; it never falls, leaves out what
    resampling drops, and repeats what it repeats. All the rest is the source's own: `time_seconds` of each of its
    num_source_frames since its start, None where it has no clock (arrays, single images); `fps`, the container's
    average rate, None where it has none; `duration_seconds`.
    """

    frames_THWC: NDArray[np.uint8]
    geometry: Geometry
    source_frames: tuple[int, ...]
    num_source_frames: int
    time_seconds: tuple[float, ...] | None
    fps: float | None
    duration_seconds: float | None

    @property
    def num_frames(self) -> int:
        return len(self.frames_THWC)

    def begins_seconds(self, frame: int) -> float | None:
        """When the source frame begins; the one behind the last begins when the video ends."""
        if self.time_seconds is None:
            return None
        return self.time_seconds[frame] if frame < self.num_source_frames else self.duration_seconds


def check_limit(value: float, *, allowed: float, what: str, advice: str = "send less") -> None:
    """Raises TooLargeError, which names the limit and what to do, where the value is beyond it."""
    if value > allowed:
        raise TooLargeError(f"{what} beyond the server's limit; {advice}", got=value, allowed=allowed)


def too_late() -> DeadlineExceededError:
    return DeadlineExceededError("the request's time was up before its video was decoded")


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


@dataclass(frozen=True)
class Stopwatch:
    """Wall time from its making, held against `max_decode_seconds` and the seconds that the request has left."""

    limits: DecodeLimits
    seconds_left: float = math.inf
    began: float = field(default_factory=lambda: time.monotonic())

    def check(self, *, what: str, advice: str = "send less") -> None:
        """Raises TooLargeError or DeadlineExceededError where the time is used up."""
        seconds = time.monotonic() - self.began
        if seconds > self.seconds_left:
            raise too_late()
        check_limit(seconds, allowed=self.limits.max_decode_seconds, what=what, advice=advice)
