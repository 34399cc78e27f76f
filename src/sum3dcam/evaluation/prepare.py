"""A labelled video as the network sees it: clips, and the ground truth in map pixels."""

import numpy as np
import numpy.typing as npt

from sum3dcam.contract import Card
from sum3dcam.evaluation.datasets.frames import read_frames
from sum3dcam.evaluation.datasets.labelled import Float32s, LabelledVideo, boxes_by_frame
from sum3dcam.evaluation.study import PreparedVideo
from sum3dcam.serving.request import frame_spec
from sum3dcam.video.footage import Video
from sum3dcam.video.geometry import Geometry
from sum3dcam.video.sample import cut_clips

# The pointing game's tolerance, in pixels of the source video.
POINTING_TOLERANCE_PX = 15.0

# Decoders disagree by a frame or two about where an old file ends; beyond that, it is another file.
FRAMES_APART = 2


def truth_in_map(boxes_xyxy_px: npt.ArrayLike, *, geometry: Geometry) -> npt.NDArray[np.float64]:
    """Boxes (N,4) from source pixels to pixels of the crop, cut at its edges, without those that lie outside it."""
    boxes = np.asarray(boxes_xyxy_px, np.float64).reshape(-1, 4)
    in_map = np.array([geometry.from_source((x1, y1, x2, y2)) for x1, y1, x2, y2 in boxes.tolist()]).reshape(-1, 4)
    truth_N4 = in_map.clip(0.0, geometry.size_px)
    return truth_N4[(truth_N4[:, 2:] > truth_N4[:, :2]).all(axis=1)]


def prepare(video: LabelledVideo, *, card: Card) -> PreparedVideo:
    """Decodes and cuts a video. Its truth is that of the actors, or objects, of the video's own label.

    Raises:
        ValueError: its label is not on the card, or it has another number of frames than its annotations say.
        RequestError: it cannot be decoded.
        OSError: it, or its annotation file, is not there.
    """
    if video.label not in card.labels:
        raise ValueError(f"{video.key}: label '{video.label}' is not one of the artefact's {list(card.labels)}")
    decoded = read_annotated(video, card=card)
    boxes = true_boxes(video, num_frames=decoded.num_source_frames)
    clips_NTHWC, _ = cut_clips(decoded.frames_THWC, clip_length=card.num_frames)
    geometry = decoded.geometry
    return PreparedVideo(
        clips_NTHWC=clips_NTHWC,
        truth=tuple(truth_in_map(boxes[frame], geometry=geometry) for frame in decoded.source_frames),
        label_index=card.labels.index(video.label),
        tolerance_px=POINTING_TOLERANCE_PX * geometry.resized_height_px / geometry.source_height_px,
    )


def read_annotated(video: LabelledVideo, *, card: Card) -> Video:
    """The video's frames as the network sees them.

    Raises:
        ValueError: it has another number of frames than its annotations say.
        RequestError, OSError: as `read_frames`.
    """
    decoded = read_frames(video, spec=frame_spec(card))
    if video.num_frames is not None and abs(decoded.num_source_frames - video.num_frames) > FRAMES_APART:
        raise ValueError(
            f"{video.key}: {decoded.num_source_frames} frames decoded, {video.num_frames} annotated; "
            "the file and its annotations do not belong together"
        )
    return decoded


def true_boxes(video: LabelledVideo, *, num_frames: int) -> tuple[Float32s, ...]:
    """For each frame of the source, the boxes (N,4) of the actors, or objects, of the video's own label."""
    tubes = tuple(tube for tube in video.read_tubes() if tube.label == video.label)
    return boxes_by_frame(tubes, num_frames=num_frames)
