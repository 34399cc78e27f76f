"""What is sent: videos and .npy clips, no two requests with the same bytes."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

VIDEO, NPY = "video", "npy"
# Options of the wire by what the reply holds.
PAYLOADS: Mapping[str, Mapping[str, str]] = {
    "labels": {},
    "boxes": {"explain": "boxes"},
    "maps": {"explain": "maps", "map_dtype": "u8"},
    "grids": {"explain": "grids"},
}
POOL = 24  # different scenes; each request is one of them with its own serial number in it
VIDEO_WIDTH_PX, VIDEO_HEIGHT_PX, VIDEO_FPS = 320, 240, 25
SERIAL_BYTES = 8


@dataclass(frozen=True)
class Inputs:
    """Request bytes by serial number; the same number gives the same bytes, another number others.

    An .npy clip carries its serial in its last eight pixel values. A video carries it in a `free` box behind its
    last, which players and demuxers skip: its pictures are those of one of POOL scenes.
    """

    kind: str
    pool: tuple[bytes, ...]

    def data(self, serial: int) -> bytes:
        base, stamp = self.pool[serial % len(self.pool)], serial.to_bytes(SERIAL_BYTES, "big")
        if self.kind == VIDEO:
            return base + (8 + SERIAL_BYTES).to_bytes(4, "big") + b"free" + stamp
        end = len(base) - SERIAL_BYTES
        return b"".join((memoryview(base)[:end], stamp))


def make_inputs(kind: str, *, num_frames: int, size_px: int) -> Inputs:
    """A pool of scenes of one clip's length: H.264 at 320x240, or uint8 (T,H,W,3) of the network's size."""
    make = {VIDEO: _video, NPY: _npy}[kind]
    return Inputs(kind, tuple(make(seed, num_frames=num_frames, size_px=size_px) for seed in range(POOL)))


def scene(seed: int, *, num_frames: int, width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Frames (T,H,W,3) of a bright square that crosses a textured ground; texture, colour, place and speed vary."""
    rng = np.random.default_rng(seed)
    cell_px = max(height_px // 12, 1)
    coarse = rng.integers(0, 120, (height_px // cell_px + 1, width_px // cell_px + 1, 3), np.uint8)
    ground = coarse.repeat(cell_px, axis=0).repeat(cell_px, axis=1)[:height_px, :width_px]
    side, colour = height_px // 3, rng.integers(150, 255, 3)
    top, left, speed = rng.integers(0, height_px - side), rng.integers(0, width_px // 4), rng.integers(1, 5)
    frames_THWC = np.repeat(ground[None], num_frames, axis=0)
    for index, frame in enumerate(frames_THWC):
        frame[top : top + side, left + speed * index : left + speed * index + side] = colour
    return frames_THWC


def _video(seed: int, *, num_frames: int, size_px: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=VIDEO_FPS)
        stream.width, stream.height, stream.pix_fmt = VIDEO_WIDTH_PX, VIDEO_HEIGHT_PX, "yuv420p"
        for frame in scene(seed, num_frames=num_frames, width_px=VIDEO_WIDTH_PX, height_px=VIDEO_HEIGHT_PX):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()


def _npy(seed: int, *, num_frames: int, size_px: int) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, scene(seed, num_frames=num_frames, width_px=size_px, height_px=size_px))
    return buffer.getvalue()
