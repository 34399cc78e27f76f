"""The source's pictures again, one at a time as they are shown, so that memory does not grow with the video."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.stream import Disposition
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray

from sum3dcam.client.shading import Frame
from sum3dcam.errors import BadArrayError, NoVideoFramesError, UnreadableMediaError
from sum3dcam.video.flow import decode_flow

# An .npy clip has no clock of its own.
ARRAY_FPS = Fraction(25)
# Motion of this many pixels a frame, or more, is drawn in full colour.
FULL_COLOUR_PX = 5.0


def _flow_picture(flow_u8_HW2: NDArray[np.uint8]) -> Frame:
    """Optical flow as colour: the hue is the direction, the saturation the speed, and white does not move."""
    x_px, y_px = np.moveaxis(decode_flow(flow_u8_HW2), -1, 0)
    speed_px, degrees = cv2.cartToPolar(x_px, y_px, angleInDegrees=True)
    share = np.minimum(speed_px / FULL_COLOUR_PX, 1)
    hsv_HWC = np.stack([degrees, share, np.ones_like(share)], axis=-1)
    return np.rint(cv2.cvtColor(hsv_HWC, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)


# A picture of an array's frame, by its channels: RGB, flow, or both, of which RGB is shown.
_PICTURES: Mapping[int, Callable[[NDArray[np.uint8]], Frame]] = {
    3: np.array,
    2: _flow_picture,
    5: lambda frame_HWC: np.array(frame_HWC[..., :3]),
}


@dataclass(frozen=True)
class SourceFrame:
    """One picture: uint8 RGB (H,W,3), writable. It is shown from `pts` to `pts + duration`, in ticks of the source's
    time base, counted from the video's start."""

    index: int
    frame_HWC: Frame
    pts: int
    duration: int


@dataclass(frozen=True)
class Source:
    """An open video: its clock, the width of a pixel in its heights, and its pictures, to be gone through once."""

    time_base: Fraction
    fps: Fraction
    pixel_aspect: Fraction
    frames: Iterator[SourceFrame]


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Opens an encoded video or image, or an .npy array of frames.

    Raises:
        UnreadableMediaError: neither of them. Also later, while the frames are read.
        NoVideoFramesError: a file without a picture stream.
        BadArrayError: an array that is not uint8 frames of RGB, flow or both.
    """
    if _begins(path).startswith(MAGIC_PREFIX):
        yield _open_array(path)
        return
    with ExitStack() as stack:
        with _readable(path):
            container = stack.enter_context(av.open(str(path)))
        yield _open_media(container, path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise UnreadableMediaError("the source cannot be read as a video", got=f"{path.name}: {error}") from error


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC_PREFIX))
    except OSError as error:
        raise UnreadableMediaError("the source cannot be read", got=f"{path.name}: {error.strerror}") from error


def _open_media(container: av.container.InputContainer, path: Path) -> Source:
    pictures = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not pictures:
        raise NoVideoFramesError("the source holds no pictures", got=path.name)
    stream = pictures[0]
    stream.thread_type = "AUTO"
    fps = stream.average_rate or stream.guessed_rate or ARRAY_FPS
    time_base = stream.time_base or 1 / fps

    def frames() -> Iterator[SourceFrame]:
        usual_duration = max(round(1 / (fps * time_base)), 1)
        with _readable(path):
            yield from _timed(container.decode(stream), start=stream.start_time, usual_duration=usual_duration)

    pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
    return Source(time_base=time_base, fps=fps, pixel_aspect=pixel_aspect, frames=frames())


def _timed(frames: Iterable[av.VideoFrame], *, start: int | None, usual_duration: int) -> Iterator[SourceFrame]:
    previous, due = -1, 0
    for index, frame in enumerate(frames):
        pts = due if frame.pts is None else frame.pts - (start or 0)
        # A stamp that does not come after its predecessor's is replaced by the one that was due.
        if pts <= previous:
            pts = max(due, previous + 1)
        duration = frame.duration or usual_duration
        yield SourceFrame(index=index, frame_HWC=_upright(frame), pts=pts, duration=duration)
        previous, due = pts, pts + duration


def _upright(frame: av.VideoFrame) -> Frame:
    """The picture as players show it: phones store it sideways and note the turn, counter-clockwise degrees."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, k=round(frame.rotation / 90)), np.uint8)


def _open_array(path: Path) -> Source:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UnreadableMediaError("the source cannot be read as an .npy array", got=path.name) from error
    if array.dtype != np.uint8 or array.ndim not in (4, 5) or array.shape[-1] not in _PICTURES:
        raise BadArrayError(
            "the array's frames are no pictures",
            got=f"{array.dtype} {array.shape}",
            allowed=f"uint8 (T,H,W,C) or (N,T,H,W,C), C one of {sorted(_PICTURES)}",
        )
    picture = _PICTURES[array.shape[-1]]
    frames_THWC = array.reshape(-1, *array.shape[-3:])
    return Source(
        time_base=1 / ARRAY_FPS,
        fps=ARRAY_FPS,
        pixel_aspect=Fraction(1),
        frames=(
            SourceFrame(index=index, frame_HWC=picture(frame), pts=index, duration=1)
            for index, frame in enumerate(frames_THWC)
        ),
    )
