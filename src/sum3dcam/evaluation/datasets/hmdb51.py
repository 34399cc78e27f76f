"""HMDB51: videos by class, and three splits of them.

    DIR/testTrainMulti_7030_splits/brush_hair_test_split1.txt   lines `name.avi 0|1|2`: unused, training, test
    DIR/hmdb51_org/brush_hair/name.avi

The splits may also lie in DIR/splits, the classes' folders in DIR/videos or in DIR itself.
"""

import re
from collections.abc import Mapping
from glob import escape
from pathlib import Path

from sum3dcam.evaluation.datasets.labelled import LabelledVideo, LabelledVideos, no_tubes
from sum3dcam.evaluation.datasets.listing import (
    THREE_SPLITS,
    check_split,
    find_folder,
    find_video_folder,
    read_lines,
    spread,
)

SPLITS = THREE_SPLITS
SPLIT_FOLDERS = ("testTrainMulti_7030_splits", "splits", ".")
VIDEO_FOLDERS = ("hmdb51_org", "videos", ".")

# Not the hidden files that some archives hold beside their own.
SPLIT_FILES = "[!.]*_test_split[123].txt"
FLAGS: Mapping[str, str] = {"train": "1", "test": "2"}
# The name may hold blanks; a flag ends the line.
LINE = re.compile(r"(\S.*?)(?:\.avi)?\s+([012])", re.IGNORECASE)


def read_hmdb51(directory: Path, *, split: str = SPLITS[0], limit: int | None = None) -> LabelledVideos:
    """HMDB51's videos of a split, sorted by class; it has no boxes.

    Raises:
        FileNotFoundError: the splits are not there.
        ValueError: an unknown split, or a line that is none of a split's.
    """
    names = read_class_splits(directory, split=split)
    labels = tuple(names)
    folder = find_video_folder(Path(directory), VIDEO_FOLDERS, holding=escape(labels[0]))
    listed = [(label, name) for label in labels for name in names[label]]
    videos = tuple(
        LabelledVideo(folder / label / f"{name}.avi", label, no_tubes, f"{label}/{name}")
        for label, name in spread(listed, limit=limit)
    )
    return LabelledVideos(videos, labels, {"kind": "HMDB51", "split": split, "videos_in_set": len(listed)})


def read_class_splits(directory: Path, *, split: str) -> dict[str, tuple[str, ...]]:
    """The names (without .avi) of the split's videos by class, the classes sorted: HMDB51's and JHMDB's format.

    Raises:
        FileNotFoundError: no file of this split, or not for every class that another split has a file for.
        ValueError: an unknown split, or a line that is no name with a flag.
    """
    check_split(split, allowed=THREE_SPLITS)
    part, number = split[:-1], split[-1]
    advice = "unpack the data set's splits there, files <class>_test_split<1|2|3>.txt"
    folder = find_folder(Path(directory), SPLIT_FOLDERS, holding=SPLIT_FILES, advice=advice)
    labels = sorted({path.name[: -len("_test_split1.txt")] for path in folder.glob(SPLIT_FILES)})
    return {
        label: _names(folder / f"{label}_test_split{number}.txt", flag=FLAGS[part], advice=advice) for label in labels
    }


def _names(path: Path, *, flag: str, advice: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for number, line in read_lines(path, advice=advice):
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{path}, line {number}: got {line!r}, wanted `name.avi 0`, 1 or 2")
        if match[2] == flag:
            names[match[1]] = None
    return tuple(names)
