"""Miniature data sets in the published formats."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest


def picture(index: int, *, width: int = 32, height: int = 24) -> np.ndarray:
    """uint8 (H,W,3): darker to brighter with the index, the left half red."""
    frame = np.full((height, width, 3), 20 * index, np.uint8)
    frame[:, : width // 2, 0] = 200
    return frame


def write_video(path: Path, *, num_frames: int = 6) -> None:
    """An AVI in MPEG-4, as HMDB51 and UCF101 have them, or an mp4 by its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        for index in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        container.mux(stream.encode(None))


def write_image(path: Path, *, index: int = 1, width: int = 32, height: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture(index, width=width, height=height)[..., ::-1])


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


@pytest.fixture
def write():
    """The writers, by what they write."""
    return {"video": write_video, "image": write_image, "text": write_text}
