"""A contact sheet: rendered videos side by side, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sum3dcam.synthetic.render import RenderedVideo

COLUMNS = 8
LABEL_HEIGHT_PX = 14
BOX_COLOUR = (255, 255, 0)
OTHER_COLOUR = (0, 255, 255)
"""Of an action that is not the video's."""


def contact_sheet(videos: Sequence[RenderedVideo], *, frame_step: int = 2) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB: a labelled row per video of 8 frames, frame_step apart, each with its boxes.

    All videos must have the same size; a video with fewer frames repeats its last one.
    """
    return np.concatenate([_row(video, frame_step=frame_step) for video in videos])


def _row(video: RenderedVideo, *, frame_step: int) -> npt.NDArray[np.uint8]:
    cells = []
    for index in np.minimum(np.arange(COLUMNS) * frame_step, len(video.frames_THWC) - 1):
        cell = video.frames_THWC[index].copy()
        for tube in video.tubes:
            if 0 <= index - tube.first_frame < len(tube.boxes_xyxy_px):
                x1, y1, x2, y2 = (int(edge) for edge in tube.boxes_xyxy_px[index - tube.first_frame])
                colour = BOX_COLOUR if tube.action == video.action else OTHER_COLOUR
                cv2.rectangle(cell, (x1, y1), (x2 - 1, y2 - 1), colour, 1)
        cells.append(cell)
    row = np.concatenate(cells, axis=1)
    label = np.zeros((LABEL_HEIGHT_PX, row.shape[1], 3), np.uint8)
    others = sorted({tube.action for tube in video.tubes} - {video.action})
    text = f"{' + '.join([video.action, *others])}  seed {video.seed}  every {frame_step} frames"
    cv2.putText(label, text, (3, LABEL_HEIGHT_PX - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([label, row])
