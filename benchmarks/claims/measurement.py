"""What a network's artefact gets right on the test set, counted video by video into journals, so that it resumes.

The class explained is the video's own, and the truth are the boxes of those who do it: where two people act, a map
must show the right one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sum3dcam.contract import Card
from sum3dcam.evaluation.datasets.rendered import read_rendered
from sum3dcam.evaluation.kinds import GRAD_CAM, THREE_D_CAM, MapKind
from sum3dcam.evaluation.tables.journal import Counts, read_counts
from sum3dcam.evaluation.tables.localisation import Protocol
from sum3dcam.evaluation.tables.run import accuracy_counter, map_counter, run_head, run_videos
from sum3dcam.evaluation.tables.specs import AccuracyTable, LocalisationTable
from sum3dcam.serving.engines import Engine
from sum3dcam.synthetic import VideoAnnotation, read_annotations, write_dataset

TEST_SEED = 4_000_037
# A hit is an overlap of any size: box accuracy at an IoU of next to nothing.
TOUCH = 1e-9
IOUS = (TOUCH, 0.3, 0.5)
PROTOCOL = Protocol()
FULL_SUM = "Sum3DCAM all taps"
PAPERS_SUM = "Sum3DCAM conv+layer1"
ELEMENTWISE = "Sum3DCAM-elementwise all taps"


def study_kinds(taps: Sequence[str]) -> tuple[MapKind, ...]:
    """Sum3DCAM as the paper has it, each of its taps alone, the comparators, and the element-wise product."""
    every = tuple(taps)
    return (
        MapKind(FULL_SUM, THREE_D_CAM, "sum3dcam", every),
        MapKind(PAPERS_SUM, THREE_D_CAM, "sum3dcam", every[:2]),
        *(MapKind(f"3DCAM {tap}", THREE_D_CAM, "sum3dcam", (tap,)) for tap in every),
        MapKind(ELEMENTWISE, THREE_D_CAM, "sum3dcam-elementwise", every),
        MapKind(f"Grad-CAM {every[-1]}", GRAD_CAM, "gradcam", every[-1:]),
        MapKind("Sum Grad-CAM all taps", GRAD_CAM, "sum-gradcam", every),
    )


@dataclass(frozen=True)
class Counted:
    """Of one network: the counts of every test video's labels, and of the first ones' maps."""

    labels: tuple[Counts, ...]
    maps: tuple[Counts, ...]


def render_test_set(directory: Path, *, num_videos: int, num_frames: int, workers: int) -> None:
    """Renders the hard test set unless it is there; its annotations are written last."""
    if not (directory / "annotations.json").exists():
        write_dataset(
            directory, num_videos=num_videos, seed=TEST_SEED, difficulty="hard", num_frames=num_frames, workers=workers
        )


def measure(engine: Engine, directory: Path, *, map_videos: int, folder: Path) -> Counted:
    """Counts what the journals in `folder` do not have yet.

    Raises:
        ValueError: a journal there is of another artefact or test set.
    """
    data = read_rendered(directory)
    networks = AccuracyTable("labels", ("rendered",), engine.card.model, rows=())
    head = run_head(0, networks, data, engine=engine, protocol=None)
    run_videos(data, accuracy_counter(engine, data), head=head, path=folder / "labels.jsonl", desc="labels")
    first, table = replace(data, videos=data.videos[:map_videos]), maps_table(engine.card)
    head = run_head(0, table, first, engine=engine, protocol=PROTOCOL)
    count = map_counter(engine, first, table=table, protocol=PROTOCOL)
    run_videos(first, count, head=head, path=folder / "maps.jsonl", desc="maps")
    return Counted(tuple(read_counts(folder / "labels.jsonl")), tuple(read_counts(folder / "maps.jsonl")))


def maps_table(card: Card) -> LocalisationTable:
    return LocalisationTable("maps", "rendered", card.model, rows=study_kinds(card.tap_names), thetas=IOUS, columns=())


@dataclass(frozen=True)
class Facts:
    """By what the test videos are put into groups; `height_share` is that of the median box of the video's action."""

    cut: bool
    second_action: bool
    height_share: float


def read_facts(directory: Path) -> tuple[Facts, ...]:
    """In the order of the counts."""
    return tuple(_facts(video) for video in read_annotations(directory).videos)


def _facts(video: VideoAnnotation) -> Facts:
    boxes_T4 = video.boxes_xyxy_px
    own = [tube for tube in video.tubes if tube.action == video.action]
    return Facts(
        cut=len(own) > 1,
        second_action=len(own) < len(video.tubes),
        height_share=float(np.median(boxes_T4[:, 3] - boxes_T4[:, 1])) / video.height,
    )
