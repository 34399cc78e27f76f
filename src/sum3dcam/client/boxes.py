"""A prediction's boxes as a numpy table, and as CSV."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sum3dcam.client.prediction import Prediction
from sum3dcam.errors import BadOptionError

# Corners are half-open, in pixels of the source; the class is the one explained, with its score in the clip; `score` is
# the box's own.
FIELDS: Mapping[str, type] = {
    "clip": int,
    "frame": int,
    "time_seconds": float,
    "class_index": int,
    "label": str,
    "class_score": float,
    "x1_px": float,
    "y1_px": float,
    "x2_px": float,
    "y2_px": float,
    "score": float,
}


def box_table(prediction: Prediction) -> npt.NDArray[Any]:
    """The boxes as a structured array of FIELDS, in the order of clips, classes and frames; NaN for an unknown time."""
    rows = _rows(prediction)
    label_characters = max((len(row[list(FIELDS).index("label")]) for row in rows), default=1)
    return np.array(rows, [(name, f"U{label_characters}" if kind is str else kind) for name, kind in FIELDS.items()])


def write_boxes(path: Path, predictions: Iterable[tuple[str, Prediction]]) -> None:
    """Writes the boxes of videos as CSV: `video`, then FIELDS; an unknown time is empty.

    A path that is not UTF-8 has each such byte, 0xe9 for one, as the text \\udce9, as in the JSON.

    Raises:
        BadOptionError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(["video", *FIELDS])
            for video, prediction in predictions:
                writer.writerows([video, *row] for row in _rows(prediction))
    except OSError as error:
        raise BadOptionError(f"{path} cannot be written", got=error.strerror) from error


def _rows(prediction: Prediction) -> list[tuple[Any, ...]]:
    return [
        (
            clip.index,
            box.frame,
            box.time_seconds,
            explanation.index,
            explanation.label,
            explanation.score,
            *box.box_xyxy_px,
            box.score,
        )
        for clip in prediction.clips
        for explanation in clip.explanations
        for box in explanation.boxes
    ]
