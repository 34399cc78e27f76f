"""Optical flow (TV-L1) between the frames that a network sees, and its 8-bit coding."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from sum3dcam.contract import FLOW_BOUND_PX

Frames: TypeAlias = NDArray[np.uint8]
# Passes the numbers of a loop through, as tqdm and rich's track do: to show them, or to stop between two.
Progress: TypeAlias = Callable[[Sequence[int]], Iterable[int]]

U8_MAX = 255


def encode_flow(flow_px: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Pixels per frame to bytes: clipped to +-FLOW_BOUND_PX, round((f + 20) * 255 / 40); no motion is 128.

    >>> encode_flow(np.array([-99.0, -20.0, 0.0, 20.0])).tolist()
    [0, 0, 128, 255]
    """
    clipped = np.clip(flow_px, -FLOW_BOUND_PX, FLOW_BOUND_PX)
    steps: NDArray[Any] = np.rint((clipped + FLOW_BOUND_PX) * (U8_MAX / (2 * FLOW_BOUND_PX)))
    return steps.astype(np.uint8)


def decode_flow(flow_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes to pixels per frame, float32 in [-20, 20]; off by at most half a step, 20 / 255 of a pixel.

    >>> decode_flow(np.array([0, 255], np.uint8)).tolist()
    [-20.0, 20.0]
    """
    return flow_u8.astype(np.float32) * np.float32(2 * FLOW_BOUND_PX / U8_MAX) - np.float32(FLOW_BOUND_PX)


def tvl1_flow(frames_THWC: Frames, *, progress: Progress = iter) -> Frames:
    """The flow (x to the right, y down) from each frame to the next, coded by `encode_flow`: uint8 (T,H,W,2).

    OpenCV's DualTVL1OpticalFlow with its own parameters, on the grey frames. Displacements are in pixels of these
    frames, so they must have the size that the network sees: resized and cropped already. The last frame, which has no
    next, repeats its predecessor's flow; a single frame has none.

    Args:
        frames_THWC: uint8 RGB, T >= 1.
        progress: goes through the pairs of frames; what it raises ends the computation.
    """
    num_frames, height_px, width_px, _ = frames_THWC.shape
    flow_THW2 = np.empty((num_frames, height_px, width_px, 2), np.uint8)
    algorithm = cv2.optflow.DualTVL1OpticalFlow.create()
    grey_HW = _grey(frames_THWC[0])
    for frame in progress(range(num_frames - 1)):
        next_HW = _grey(frames_THWC[frame + 1])
        flow_THW2[frame] = encode_flow(_flow_px(algorithm, grey_HW, next_HW))
        grey_HW = next_HW
    flow_THW2[-1] = flow_THW2[-2] if num_frames > 1 else encode_flow(np.zeros((height_px, width_px, 2)))
    return flow_THW2


def _grey(frame_HWC: Frames) -> Frames:
    return np.asarray(cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY), np.uint8)


def _flow_px(algorithm: Any, grey_HW: Frames, next_HW: Frames) -> NDArray[np.float32]:
    if np.array_equal(grey_HW, next_HW):
        # What the algorithm would say, in no time: resampling to a higher rate repeats frames.
        return np.zeros((*grey_HW.shape, 2), np.float32)
    return np.asarray(algorithm.calc(grey_HW, next_HW, None), np.float32)


def _rgb(rgb_THWC: Frames, *, progress: Progress) -> Frames:
    return rgb_THWC


# What each stream of contract.STREAM_CHANNELS makes of RGB frames.
_STREAMS: Mapping[str, Callable[..., Frames]] = {"rgb": _rgb, "flow": tvl1_flow}


def stream_frames(rgb_THWC: Frames, *, streams: Sequence[str], progress: Progress = iter) -> Frames:
    """What a network of these streams sees of RGB frames: uint8 (T,H,W,C), the streams' channels side by side."""
    return np.concatenate([_STREAMS[stream](rgb_THWC, progress=progress) for stream in streams], axis=-1)
