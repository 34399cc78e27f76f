"""Small encoded files, made on the spot."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
import pytest


def encode(
    container: str = "mp4",
    codec: str = "libx264",
    *,
    frames: Any = None,
    num_frames: int = 12,
    size: tuple[int, int] = (96, 64),
    rate: int = 25,
    pixels: str = "yuv420p",
    rotation: float | None = None,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
    pts: list[int] | None = None,
    with_audio: bool = False,
) -> bytes:
    """A video whose frame i is a grey ramp, brighter with i, unless frames are given."""
    width, height = size
    if frames is None:
        frames = [np.full((height, width, 3), 20 + 10 * (i % 20), np.uint8) for i in range(num_frames)]
        for i, frame in enumerate(frames):
            frame[:, : 4 * (i % 20) + 4] = 250
    with TemporaryDirectory() as folder:
        # A real file: faststart must read back what it wrote.
        path = Path(folder) / "video"
        with av.open(str(path), "w", format=container, options=options or {}) as file:
            stream = file.add_stream(codec, rate=rate, options=codec_options or {})
            stream.width, stream.height, stream.pix_fmt = width, height, pixels
            if rotation is not None:
                stream.set_display_rotation(rotation)
            audio = file.add_stream("aac", rate=16000, layout="mono") if with_audio else None
            file.start_encoding()
            for i, pixels_HWC in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels_HWC), "rgb24")
                if pts is not None:
                    frame.pts = pts[i]
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
            if audio is not None:
                _tone(file, audio)
        return path.read_bytes()


def _tone(file: Any, stream: Any) -> None:
    samples = (np.sin(np.arange(16000) / 20) * 8000).astype(np.int16)[None]
    frame = av.AudioFrame.from_ndarray(samples, "s16", layout="mono")
    frame.sample_rate = 16000
    file.mux(stream.encode(frame))
    file.mux(stream.encode())


def encode_audio(container: str, codec: str) -> bytes:
    """One second of a tone."""
    buffer = BytesIO()
    with av.open(buffer, "w", format=container) as file:
        _tone(file, file.add_stream(codec, rate=16000, layout="mono"))
    return buffer.getvalue()


@pytest.fixture
def video() -> Callable[..., bytes]:
    return encode


@pytest.fixture
def audio() -> Callable[..., bytes]:
    return encode_audio


@pytest.fixture
def npy() -> Callable[[Any], bytes]:
    def save(array: Any) -> bytes:
        buffer = BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()

    return save
