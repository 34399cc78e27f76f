"""The data sets of the paper, each read from its published format into labelled videos.

A data set is a file here with a reader, its `SPLITS` (the default first) and the tree of files in its docstring, and an
entry in READERS and SPLITS.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from sum3dcam.evaluation.datasets import hmdb51, ilsvrc, jhmdb, rendered, thumos, ucf24, ucf101
from sum3dcam.evaluation.datasets.labelled import LabelledVideos


class Reader(Protocol):
    """Reads a data set's lists; its boxes are read video by video, when they are asked for."""

    def __call__(self, directory: Path, *, split: str = ..., limit: int | None = None) -> LabelledVideos:
        """The split's videos, or `limit` of them from evenly over the list (of rendered ones the first).

        Raises:
            FileNotFoundError: says which file is missing and what to unpack where.
            ValueError: says which file and line is not as it should be, or which splits there are.
        """
        ...


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "jhmdb": jhmdb.read_jhmdb,
        "hmdb51": hmdb51.read_hmdb51,
        "ucf101": ucf101.read_ucf101,
        "ucf24": ucf24.read_ucf24,
        "ilsvrc": ilsvrc.read_ilsvrc,
        "thumos14": thumos.read_thumos14,
        "multithumos": thumos.read_multithumos,
        "rendered": rendered.read_rendered,
    }
)


# What each reader takes as `split`, its default first.
SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "jhmdb": jhmdb.SPLITS,
        "hmdb51": hmdb51.SPLITS,
        "ucf101": ucf101.SPLITS,
        "ucf24": ucf24.SPLITS,
        "ilsvrc": ilsvrc.SPLITS,
        "thumos14": thumos.SPLITS,
        "multithumos": thumos.SPLITS,
        "rendered": rendered.SPLITS,
    }
)


def read_dataset(name: str, directory: Path, *, split: str | None, limit: int | None) -> LabelledVideos:
    """The data set of that name, a key of READERS; `split` None is its first. Raises as `Reader`."""
    return READERS[name](directory, split=split or SPLITS[name][0], limit=limit)
