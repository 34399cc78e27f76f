"""Localisation of one frame against its ground truth: MaxBoxAcc (Choe et al. 2020), pointing game, trivial boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from sum3dcam.attribution.boxes import box_iou

Floats: TypeAlias = npt.NDArray[np.floating]
Float64s: TypeAlias = npt.NDArray[np.float64]
U8s: TypeAlias = npt.NDArray[np.uint8]

# Half-open [x1,y1,x2,y2) minus this is the box of first and last pixels, both inside, that `inclusive_iou` takes.
INCLUSIVE = np.array([0.0, 0.0, 1.0, 1.0])


def inclusive_iou(boxes_N4: npt.ArrayLike, others_M4: npt.ArrayLike) -> Float64s:
    """IoU (N,M) of boxes [first x, first y, last x, last y], whose last pixel counts (Choe et al.'s "+1")."""
    return box_iou(np.asarray(boxes_N4, np.float64) + INCLUSIVE, np.asarray(others_M4, np.float64) + INCLUSIVE)


def scoremap_u8(map_HW: Floats) -> U8s:
    """The map stretched from its min..max to 0..255 and truncated to uint8; a constant map becomes zero."""
    low, high = float(map_HW.min()), float(map_HW.max())
    if not high > low:
        return np.zeros(map_HW.shape, np.uint8)
    shifted = map_HW.astype(np.float64) - low
    # Divided by the shifted map's own max, so that the top is exactly 255.
    scoremap_HW: U8s = (shifted / shifted.max() * 255).astype(np.uint8)
    return scoremap_HW


def contour_boxes(scoremap_HW: U8s, *, threshold: float) -> tuple[npt.NDArray[np.int64], int]:
    """Bounding boxes (n,4) of the contours of pixels strictly above int(threshold * max), and the largest's index.

    As the released code of Choe et al. does it, odd corners included: boxes are [x, y, x + w, y + h] held to the last
    pixel (one pixel more than the contour, in the inclusive reading), the outlines of holes count as contours, the
    largest is that of the greatest polygon area, and no contour at all is the one-pixel box [0, 0, 0, 0].
    """
    height, width = scoremap_HW.shape
    level = int(threshold * int(scoremap_HW.max()))
    _, mask_HW = cv2.threshold(scoremap_HW, level, 255, cv2.THRESH_BINARY)
    contours, _ = cv2.findContours(mask_HW, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return np.zeros((1, 4), np.int64), 0
    boxes_n4 = np.array([cv2.boundingRect(contour) for contour in contours], np.int64)
    boxes_n4[:, 2:] += boxes_n4[:, :2]
    np.minimum(boxes_n4[:, 2:], [width - 1, height - 1], out=boxes_n4[:, 2:])
    largest = max(range(len(contours)), key=lambda index: cv2.contourArea(contours[index]))
    return boxes_n4, largest


@dataclass(frozen=True)
class FrameIous:
    """Per threshold (P,): the largest contour's IoU (V1) and the best contour's (V2), each with the best truth."""

    v1_P: Float64s
    v2_P: Float64s


def map_ious(map_HW: Floats, *, truth_N4: npt.ArrayLike, thresholds: Sequence[float]) -> FrameIous:
    """IoU of a map's boxes with the ground truth at each threshold.

    Args:
        map_HW: any scale; it is stretched over its own range first.
        truth_N4: half-open boxes in map pixels, at least one.
        thresholds: shares of the map's max, 0 <= t < 1.
    """
    scoremap_HW = scoremap_u8(map_HW)
    found = [contour_boxes(scoremap_HW, threshold=threshold) for threshold in thresholds]
    starts = np.cumsum([0] + [len(boxes) for boxes, _ in found[:-1]])
    truth = np.asarray(truth_N4, np.float64).reshape(-1, 4) - INCLUSIVE
    iou_n = inclusive_iou(np.concatenate([boxes for boxes, _ in found]), truth).max(axis=1)
    return FrameIous(
        v1_P=iou_n[starts + np.array([largest for _, largest in found])], v2_P=np.maximum.reduceat(iou_n, starts)
    )


def centred_boxes(shares: Sequence[float], *, width_px: int, height_px: int) -> Float64s:
    """Half-open boxes (P,4) about the centre of the frame, of these shares of its width and height (1: all of it)."""
    share_P1 = np.asarray(shares, np.float64).reshape(-1, 1)
    low = (1 - share_P1) / 2 * [width_px, height_px]
    return np.concatenate([low, low + share_P1 * [width_px, height_px]], axis=1)


def fixed_box_ious(boxes_P4: npt.ArrayLike, *, truth_N4: npt.ArrayLike) -> FrameIous:
    """IoU of given half-open boxes, each taken as what one threshold found."""
    iou_P = box_iou(boxes_P4, truth_N4).max(axis=1)
    return FrameIous(v1_P=iou_P, v2_P=iou_P)


def peak_xy(map_HW: Floats) -> tuple[float, float]:
    """The centre of the highest pixel, the first in reading order of equal ones."""
    row, column = np.unravel_index(int(np.argmax(map_HW)), map_HW.shape)
    return float(column) + 0.5, float(row) + 0.5


def distance_px(point_xy: tuple[float, float], *, truth_N4: npt.ArrayLike) -> float:
    """Distance of a point to the nearest box, 0 inside: the pointing game asks for at most its tolerance."""
    truth = np.asarray(truth_N4, np.float64).reshape(-1, 4)
    point = np.asarray(point_xy, np.float64)
    gap = np.maximum(np.maximum(truth[:, :2] - point, point - truth[:, 2:]), 0.0)
    return float(np.hypot(gap[:, 0], gap[:, 1]).min())
