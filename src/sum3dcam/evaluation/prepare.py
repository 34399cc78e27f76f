"""A labelled video as the network sees it: clips, and the ground truth in map pixels."""

import math

import numpy as np
import numpy.typing as npt

from sum3dcam.contract import Card
from sum3dcam.evaluation.rendered import LabelledVideo
from sum3dcam.evaluation.study import PreparedVideo
from sum3dcam.video.decode import DecodeLimits, decode
from sum3dcam.video.geometry import Geometry
from sum3dcam.video.sample import cut_clips

# The pointing game's tolerance, in pixels of the source video.
POINTING_TOLERANCE_PX = 15.0

# A server's limits, but with all the time that optical flow takes: nobody waits for a reply.
OFFLINE = DecodeLimits(max_decode_seconds=math.inf)


def truth_in_map(boxes_xyxy_px: npt.ArrayLike, *, geometry: Geometry) -> npt.NDArray[np.float64]:
    """Ground truth (F,4) from source pixels to pixels of the crop, cut at its edges; NaN where nothing is inside."""
    boxes = np.asarray(boxes_xyxy_px, np.float64).reshape(-1, 4)
    in_map = np.array([geometry.from_source((x1, y1, x2, y2)) for x1, y1, x2, y2 in boxes.tolist()]).reshape(-1, 4)
    truth_F4 = in_map.clip(0.0, geometry.size_px)
    inside = (truth_F4[:, 2:] > truth_F4[:, :2]).all(axis=1)
    truth_F4[~inside] = np.nan
    return truth_F4


def prepare(video: LabelledVideo, *, card: Card) -> PreparedVideo:
    """Decodes and cuts a video.

    Raises:
        ValueError: its label is not on the card, or it has another number of frames than annotated boxes.
        RequestError: it cannot be decoded.
    """
    if video.label not in card.labels:
        raise ValueError(f"{video.path.name}: label '{video.label}' is not one of the artefact's {list(card.labels)}")
    decoded = decode(
        video.path.read_bytes(),
        size_px=card.size_px,
        limits=OFFLINE,
        preprocessing=card.preprocessing,
        streams=card.streams,
        frames_per_second=card.frames_per_second,
    )
    if decoded.num_source_frames != len(video.boxes_xyxy_px):
        raise ValueError(
            f"{video.path.name}: {decoded.num_source_frames} frames decoded, {len(video.boxes_xyxy_px)} annotated; "
            "the file and its annotations do not belong together"
        )
    clips_NTHWC, _ = cut_clips(decoded.frames_THWC, clip_length=card.num_frames)
    geometry = decoded.geometry
    return PreparedVideo(
        clips_NTHWC=clips_NTHWC,
        truth_F4=truth_in_map(video.boxes_xyxy_px[list(decoded.source_frames)], geometry=geometry),
        label_index=card.labels.index(video.label),
        tolerance_px=POINTING_TOLERANCE_PX * geometry.resized_height_px / geometry.source_height_px,
    )
