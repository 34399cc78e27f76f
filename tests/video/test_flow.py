"""Oracle: textures moved by a known step; arithmetic by hand."""

from typing import Any

import cv2
import numpy as np
import pytest

from sum3dcam.contract import FLOW_BOUND_PX
from sum3dcam.video.flow import decode_flow, encode_flow, stream_frames, tvl1_flow

STEP_PX = 2 * FLOW_BOUND_PX / 255


def _texture(size_px: int, *, seed: int = 0) -> Any:
    noise = np.random.default_rng(seed).integers(0, 256, (size_px, size_px, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)


def _frames(positions_xy: list[tuple[int, int]], *, size_px: int = 64) -> Any:
    """Frames in which the texture lies at these places."""
    texture = _texture(size_px + 40)
    return np.stack([texture[20 - y : 20 - y + size_px, 20 - x : 20 - x + size_px] for x, y in positions_xy])


def test_a_moved_texture_gives_its_step_to_the_right_and_up() -> None:
    flow = decode_flow(tvl1_flow(_frames([(0, 0), (3, -2)])))
    assert flow.shape == (2, 64, 64, 2)
    # 0.2: half a step of the coding is 0.08, TV-L1 itself is good to a tenth where the texture is smooth.
    assert np.median(flow[0], axis=(0, 1)) == pytest.approx((3.0, -2.0), abs=0.2)


def test_flow_goes_from_each_frame_to_the_next_and_the_last_repeats_its_predecessor() -> None:
    flow = tvl1_flow(_frames([(0, 0), (3, -2), (2, 2)]))
    medians = np.median(decode_flow(flow), axis=(1, 2))
    np.testing.assert_allclose(medians[:2], [(3, -2), (-1, 4)], atol=0.2)
    np.testing.assert_array_equal(flow[2], flow[1])


def test_what_does_not_move_is_coded_as_no_motion() -> None:
    still = encode_flow(np.zeros(1))[0]
    assert still == 128
    assert (tvl1_flow(_frames([(0, 0)])) == still).all()
    assert (tvl1_flow(_frames([(0, 0), (0, 0)])) == still).all()


def test_frames_that_are_equal_are_given_what_the_algorithm_says_of_them() -> None:
    grey = cv2.cvtColor(_texture(64), cv2.COLOR_RGB2GRAY)
    assert not cv2.optflow.DualTVL1OpticalFlow.create().calc(grey, grey.copy(), None).any()


@pytest.mark.parametrize("size_px", [1, 2, 5, 17])
def test_small_frames_are_no_trouble(size_px: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, size_px, size_px, 3), np.uint8)
    assert tvl1_flow(frames).shape == (3, size_px, size_px, 2)


def test_coding_and_back_is_within_half_a_step() -> None:
    flow_px = np.linspace(-FLOW_BOUND_PX, FLOW_BOUND_PX, 1001, dtype=np.float32)
    # Half a step, and float32's rounding of values up to 40.
    np.testing.assert_allclose(decode_flow(encode_flow(flow_px)), flow_px, atol=STEP_PX / 2 + 1e-5)
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(encode_flow(decode_flow(every)), every)


def test_coding_clips_at_twenty_pixels() -> None:
    assert encode_flow(np.array([-1000.0, -20.1, 20.1, 1000.0])).tolist() == [0, 0, 255, 255]
    # round((f + 20) * 255 / 40): 5 is 159.375, -5 is 95.625.
    assert encode_flow(np.array([5.0, -5.0])).tolist() == [159, 96]


def test_progress_goes_through_the_pairs_and_can_end_the_work() -> None:
    seen = []

    def stop_at_one(frames: Any) -> Any:
        for frame in frames:
            if frame == 1:
                raise KeyboardInterrupt
            seen.append(frame)
            yield frame

    with pytest.raises(KeyboardInterrupt):
        tvl1_flow(_frames([(0, 0), (1, 0), (2, 0)]), progress=stop_at_one)
    assert seen == [0]


def test_streams_lie_side_by_side_in_their_order() -> None:
    rgb = _frames([(0, 0), (1, 0)])
    both = stream_frames(rgb, streams=("rgb", "flow"))
    assert both.shape == (2, 64, 64, 5)
    np.testing.assert_array_equal(both[..., :3], rgb)
    np.testing.assert_array_equal(both[..., 3:], tvl1_flow(rgb))
    np.testing.assert_array_equal(stream_frames(rgb, streams=("rgb",)), rgb)
