"""Counts one video for a table of networks: are its clips, and is the mean of their softmax, of the right class."""

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from sum3dcam.contract import LOGITS, TOP_CLASS
from sum3dcam.evaluation.tables.journal import Counts
from sum3dcam.serving.engines import Engine
from sum3dcam.video.footage import Video
from sum3dcam.video.sample import cut_clips

MOST_FREQUENT = "Most frequent class"


def label_counts(logits_NK: npt.NDArray[np.float64], *, label_index: int) -> Counts:
    """`videos` (1), `clips`, `clips_right`, `video_right`, from the logits of all clips of a video."""
    return {
        "videos": np.asarray(1),
        "clips": np.asarray(len(logits_NK)),
        "clips_right": np.asarray((logits_NK.argmax(axis=1) == label_index).sum()),
        "video_right": np.asarray(softmax(logits_NK, axis=1).mean(axis=0).argmax() == label_index, np.int64),
    }


def count_accuracy(
    engine: Engine, *, decoded: Video, label_index: int, frequent_index: int, batch_clips: int = 4
) -> Counts:
    """The counts of one video; those of the class that is the most frequent in the data set beside them."""
    clips_NTHWC, _ = cut_clips(decoded.frames_THWC, clip_length=engine.card.num_frames)
    logits = []
    for start in range(0, len(clips_NTHWC), batch_clips):
        batch = clips_NTHWC[start : start + batch_clips]
        outputs = engine.run(batch, target_B=np.full(len(batch), TOP_CLASS, np.int64), outputs=(LOGITS,))
        logits.append(np.asarray(outputs[LOGITS], np.float64))
    frequent = int(label_index == frequent_index)
    return {
        **label_counts(np.concatenate(logits), label_index=label_index),
        f"{MOST_FREQUENT}/clips_right": np.asarray(frequent * len(clips_NTHWC)),
        f"{MOST_FREQUENT}/video_right": np.asarray(frequent),
    }
