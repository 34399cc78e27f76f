"""Runs a table over a data set: video by video into a journal, then from the journal to the pooled counts.

Memory does not grow with the data set: a video's counts are written and forgotten, and pooled in blocks.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sum3dcam.contract import Card
from sum3dcam.evaluation.datasets.labelled import LabelledVideo, LabelledVideos
from sum3dcam.evaluation.prepare import read_annotated
from sum3dcam.evaluation.statistics import pool
from sum3dcam.evaluation.tables.accuracy import count_accuracy
from sum3dcam.evaluation.tables.journal import Counts, Journal, keys_digest, read_counts
from sum3dcam.evaluation.tables.localisation import Protocol, count_localisation, possible_rows
from sum3dcam.evaluation.tables.specs import AccuracyTable, LocalisationTable
from sum3dcam.serving.engines import Engine

Pooled = Mapping[str, npt.NDArray[np.float64]]
CountOne = Callable[[LabelledVideo], Counts]


def class_indices(data: LabelledVideos, *, card: Card, by_place: bool) -> Mapping[str, int]:
    """The logit of each label that a video has.

    Args:
        by_place: class k of the data set is logit k where the two lists are as long and have no name in common.

    Raises:
        ValueError: the network lacks a class.
    """
    by_place = by_place and len(data.labels) == len(card.labels) and set(data.labels).isdisjoint(card.labels)
    labels = data.labels if by_place else card.labels
    wanted = sorted({video.label for video in data.videos})
    if missing := [label for label in wanted if label not in labels]:
        raise ValueError(
            f"{len(missing)} of the data set's classes ({', '.join(missing[:3])}, ...) are none of the artefact's "
            f"{len(card.labels)} ({', '.join(card.labels[:3])}, ...); export it with the labels of the data set that "
            "it was trained on: --labels FILE"
        )
    return {label: labels.index(label) for label in wanted}


def map_counter(engine: Engine, data: LabelledVideos, *, table: LocalisationTable, protocol: Protocol) -> CountOne:
    """What counts one video for a table of maps. Raises as `possible_rows` and `class_indices`."""
    possible_rows(table, card=engine.card)
    indices = class_indices(data, card=engine.card, by_place=table.labels_by_place)

    def count(video: LabelledVideo) -> Counts:
        return count_localisation(
            engine,
            video,
            decoded=read_annotated(video, card=engine.card),
            label_index=indices[video.label],
            table=table,
            protocol=protocol,
        )

    return count


def accuracy_counter(engine: Engine, data: LabelledVideos) -> CountOne:
    """What counts one video for a table of networks. Raises as `class_indices`."""
    indices = class_indices(data, card=engine.card, by_place=False)
    frequent = Counter(video.label for video in data.videos).most_common(1)[0][0]

    def count(video: LabelledVideo) -> Counts:
        return count_accuracy(
            engine,
            decoded=read_annotated(video, card=engine.card),
            label_index=indices[video.label],
            frequent_index=indices[frequent],
        )

    return count


def run_head(
    number: int,
    table: LocalisationTable | AccuracyTable,
    data: LabelledVideos,
    *,
    engine: Engine | None,
    protocol: Protocol | None,
) -> dict[str, Any]:
    """All that a video's counts depend on, as the journal's first line says it."""
    return {
        "table": number,
        "rows": [asdict(row) for row in table.rows],
        "thetas": list(table.thetas) if isinstance(table, LocalisationTable) else [],
        "protocol": None if protocol is None else asdict(protocol),
        "artifact": None
        if engine is None
        else {"sha256": engine.sha256, "engine": engine.name, "provider": engine.provider},
        "data": json.loads(json.dumps(dict(data.provenance), default=str)),
        "videos": len(data.videos),
        "keys_sha256": keys_digest([video.key for video in data.videos]),
    }


def run_videos(data: LabelledVideos, count: CountOne, *, head: Mapping[str, Any], path: Path, desc: str) -> Pooled:
    """Counts the videos that the journal does not have yet, under a progress bar with the time left, and pools all.

    Raises:
        ValueError: no video; as `Journal`. What `count` raises; run again, it goes on there.
    """
    if not data.videos:
        raise ValueError("the data set holds no video of this split: there is nothing to evaluate")
    keys = [video.key for video in data.videos]
    with Journal(path, head=head, keys=keys) as journal:
        left = data.videos[journal.num_done :]
        if journal.num_done:
            tqdm.write(f"{path}: {journal.num_done} of {len(keys)} videos are counted already", file=sys.stderr)
        for video in tqdm(left, desc=desc, unit="video", initial=journal.num_done, total=len(keys)):
            journal.append(video.key, count(video))
        return pool(read_counts(path), num_videos=len(keys))
