"""Which logit is whose class, and that a run needs no more memory for more videos."""

import dataclasses
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from sum3dcam.evaluation.datasets.labelled import LabelledVideo, LabelledVideos, no_tubes
from sum3dcam.evaluation.statistics import pool
from sum3dcam.evaluation.tables.journal import Journal, read_counts
from sum3dcam.evaluation.tables.run import class_indices, run_videos


def data(*labels, of=None):
    videos = tuple(LabelledVideo(Path("v"), label, no_tubes, str(place)) for place, label in enumerate(labels))
    return LabelledVideos(videos, tuple(of or sorted(set(labels))), {})


@pytest.fixture
def card(make_engine):
    return make_engine(num_frames=4, size_px=16, labels=("walk", "run", "sit")).card


def test_labels_are_found_by_name_whatever_the_order(card):
    assert class_indices(data("run", "walk"), card=card, by_place=False) == {"run": 1, "walk": 0}
    three = data("run", of=("run", "sit", "walk"))
    assert class_indices(three, card=card, by_place=True) == {"run": 1}


def test_labels_without_a_name_in_common_are_found_by_place_where_the_table_says_so(card):
    ids = data("n2", "n3", of=("n1", "n2", "n3"))
    assert class_indices(ids, card=card, by_place=True) == {"n2": 1, "n3": 2}
    with pytest.raises(ValueError, match="2 of the data set's classes"):
        class_indices(ids, card=card, by_place=False)
    four = dataclasses.replace(ids, labels=("n1", "n2", "n3", "n4"))
    with pytest.raises(ValueError, match="export it with the labels"):
        class_indices(four, card=card, by_place=True)


def test_a_data_set_without_videos_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to evaluate"):
        run_videos(data(), lambda video: {}, head={}, path=tmp_path / "journal", desc="")


def test_pooling_a_journal_takes_the_memory_of_one_block_however_long_it_is(tmp_path):
    def peak(num_videos):
        path = tmp_path / str(num_videos)
        with Journal(path, head={}, keys=[str(video) for video in range(num_videos)]) as journal:
            for video in range(num_videos):
                journal.append(str(video), {"frames": np.asarray(1), "row/sweep": np.full((50, 6), video % 2)})
        tracemalloc.start()
        pool(read_counts(path), num_videos=num_videos, block=64)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    # The last block may be smaller than the first; anything kept per video (2.4 KB here) would double it.
    assert peak(640) < 1.1 * peak(128)
