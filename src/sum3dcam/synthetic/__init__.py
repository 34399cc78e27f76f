"""Rendered human actions with ground truth: what moves where is known to the pixel.

Three pairs of actions are each other's time reversal, frame for frame, so that only motion tells them apart.
"""

from sum3dcam.synthetic.dataset import (
    Annotations,
    VideoAnnotation,
    read_annotations,
    video_seed,
    write_dataset,
    write_mp4,
)
from sum3dcam.synthetic.difficulty import DIFFICULTIES, Difficulty
from sum3dcam.synthetic.figure import ACTIONS, REVERSED
from sum3dcam.synthetic.render import ActionTube, RenderedVideo, render
from sum3dcam.synthetic.sheet import contact_sheet

__all__ = [
    "ACTIONS",
    "DIFFICULTIES",
    "REVERSED",
    "ActionTube",
    "Annotations",
    "Difficulty",
    "RenderedVideo",
    "VideoAnnotation",
    "contact_sheet",
    "read_annotations",
    "render",
    "video_seed",
    "write_dataset",
    "write_mp4",
]
