"""Reads the rendered data set (`sum3dcam.synthetic`) as labelled videos with ground-truth boxes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sum3dcam.synthetic.dataset import read_annotations


@dataclass(frozen=True)
class LabelledVideo:
    """One file and its truth: `boxes_xyxy_px` float32 (T,4), half-open, source pixels, one box per frame."""

    path: Path
    label: str
    boxes_xyxy_px: npt.NDArray[np.float32]


@dataclass(frozen=True)
class LabelledVideos:
    """A data set; `provenance` is what tells it apart in a report (seed, difficulty, ...)."""

    videos: tuple[LabelledVideo, ...]
    labels: tuple[str, ...]
    provenance: Mapping[str, Any]


def read_rendered(directory: Path, *, limit: int | None = None) -> LabelledVideos:
    """The data set in that directory, or its first `limit` videos (the actions come in turn, so these are balanced).

    Raises:
        FileNotFoundError: no annotations.json there.
        ValueError: annotations of another format or version.
    """
    annotations = read_annotations(directory)
    videos = tuple(
        LabelledVideo(path=Path(directory) / video.file, label=video.action, boxes_xyxy_px=video.boxes_xyxy_px)
        for video in annotations.videos[:limit]
    )
    provenance = {
        "kind": "rendered",
        "seed": annotations.seed,
        "difficulty": annotations.difficulty,
        "videos_in_set": len(annotations.videos),
    }
    return LabelledVideos(videos=videos, labels=annotations.labels, provenance=provenance)
