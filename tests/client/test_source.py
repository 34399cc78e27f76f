"""The pictures of a source that are not simply decoded: arrays of flow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sum3dcam.client.source import open_source
from sum3dcam.video.flow import encode_flow


def _frames(path: Path, array: Any) -> list[Any]:
    np.save(path, array)
    with open_source(path) as source:
        return [picture.frame_HWC for picture in source.frames]


@pytest.mark.parametrize("extra_axes", [(), (1,)])
def test_of_rgb_and_flow_the_rgb_is_shown(tmp_path: Path, extra_axes: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 5), np.uint8)
    frames = _frames(tmp_path / "a.npy", array.reshape(*extra_axes, *array.shape))
    np.testing.assert_array_equal(frames, array[..., :3])
    assert all(frame.flags.writeable and frame.flags.c_contiguous for frame in frames)


def test_flow_is_shown_as_colour_white_at_rest(tmp_path: Path) -> None:
    motions_px = {"rest": (0, 0), "right": (8, 0), "left": (-8, 0), "slowly right": (2.5, 0), "down": (0, 8)}
    flow_px = np.array(list(motions_px.values()), np.float32).reshape(1, 1, -1, 2)
    (frame,) = _frames(tmp_path / "a.npy", encode_flow(flow_px))
    seen = dict(zip(motions_px, frame[0].tolist(), strict=True))
    # The colour wheel by hand: 0 degrees is red, 180 cyan, 90 between yellow and green. Flow in bytes is off by up to
    # 0.08 pixels, that is 0.08 / 5 of full colour, and by 2 degrees at 2.5 pixels.
    expected = {
        "rest": (255, 255, 255),
        "right": (255, 0, 0),
        "left": (0, 255, 255),
        "slowly right": (255, 128, 128),
        "down": (128, 255, 0),
    }
    for motion, colour in expected.items():
        assert seen[motion] == pytest.approx(colour, abs=8), motion
