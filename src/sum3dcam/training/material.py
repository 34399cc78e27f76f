"""What a training learns from and is measured on: the rendered actions, or a data set's own split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sum3dcam.evaluation.datasets import READERS, SPLITS
from sum3dcam.evaluation.datasets.frames import read_frames
from sum3dcam.evaluation.datasets.labelled import LabelledVideo, LabelledVideos
from sum3dcam.models import NETWORKS
from sum3dcam.models.checkpoints import WeightsCard
from sum3dcam.training.clips import ClipSet, cached_clips
from sum3dcam.training.examples import Clips, Source
from sum3dcam.training.machine import Machine
from sum3dcam.training.stages import HELD_OUT_DIFFICULTY, Stage
from sum3dcam.training.videos import VideoSet
from sum3dcam.video.footage import FrameSpec

HELD_OUT_SEED_OFFSET = 1_000_003


@dataclass(frozen=True)
class Material:
    """`clips(stage)` to learn from, `held_out` to measure on, and what a report says of them."""

    clips: Callable[[Stage], Source]
    held_out: Source
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Split:
    """The two parts of a data set."""

    training: LabelledVideos
    held_out: LabelledVideos


def rendered(cache: Path, *, preset: str, num_held_out: int, seed: int, machine: Machine) -> Material:
    """Rendered actions; the held-out ones have one difficulty for the preset, each stage has its own."""

    def clips(difficulty: str, num_videos: int, seed: int) -> ClipSet:
        with machine.first_alone():
            return cached_clips(cache, difficulty=difficulty, num_videos=num_videos, seed=seed, workers=machine.workers)

    difficulty, held_out_seed = HELD_OUT_DIFFICULTY[preset], seed + HELD_OUT_SEED_OFFSET
    return Material(
        clips=lambda stage: clips(stage.difficulty, stage.num_videos, seed),
        held_out=clips(difficulty, num_held_out, held_out_seed),
        provenance={"preset": preset, "held_out_seed": held_out_seed, "held_out_difficulty": difficulty},
    )


def read_split(dataset: str, directory: Path, *, split: int, held_out: Path | None, num_held_out: int) -> Split:
    """A data set's split of that number, and evenly spread `num_held_out` of its test part's videos at most.

    For a data set without training parts, `held_out` is a second folder of its format.

    Raises:
        FileNotFoundError, ValueError: as the reader; or labels that differ between the parts.
    """
    read = READERS[dataset]
    if held_out is None:
        if f"train{split}" not in SPLITS[dataset]:
            raise ValueError(
                f"{dataset} has no part to learn from of its own; give --held-out-data, a second folder: got "
                f"train{split}, wanted one of {', '.join(SPLITS[dataset])}"
            )
        parts = Split(
            read(directory, split=f"train{split}", limit=None),
            read(directory, split=f"test{split}", limit=num_held_out),
        )
    else:
        parts = Split(read(directory, limit=None), read(held_out, limit=num_held_out))
    if parts.training.labels != parts.held_out.labels:
        raise ValueError(
            f"{dataset}: the parts to learn from and to measure on have other labels: got "
            f"{parts.held_out.labels}, wanted {parts.training.labels}"
        )
    return parts


def videos(split: Split, *, card: WeightsCard) -> Material:
    """The videos as the network of that card sees them."""
    read = partial(_read_square, preprocessing=NETWORKS[card.model].preprocessing)
    return Material(
        clips=lambda stage: VideoSet(split.training.videos, card.labels, read),
        held_out=VideoSet(split.held_out.videos, card.labels, read),
        provenance={
            "data": dict(split.training.provenance),
            "held_out_data": dict(split.held_out.provenance),
        },
    )


def _read_square(video: LabelledVideo, size_px: int, *, preprocessing: str) -> Clips:
    spec = FrameSpec(size_px, preprocessing, clip_length=None, streams=("rgb",), frames_per_second=None)
    return read_frames(video, spec=spec).frames_THWC
