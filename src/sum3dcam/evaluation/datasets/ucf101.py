"""UCF101: videos by class, their classes numbered, and three splits.

    DIR/ucfTrainTestlist/classInd.txt       lines `1 ApplyEyeMakeup`
    DIR/ucfTrainTestlist/testlist01.txt     lines `ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi`
    DIR/ucfTrainTestlist/trainlist01.txt    the same, with the class's number behind
    DIR/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi

The lists may also lie in DIR/annotations, DIR/splitfiles or DIR itself, the videos in DIR/videos or DIR itself.
"""

import re
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
LIST_FOLDERS = ("ucfTrainTestlist", "splitfiles", "annotations", ".")
VIDEO_FOLDERS = ("UCF-101", "videos", ".")

CLASS_LINE = re.compile(r"([0-9]{1,6})\s+(\S.*)")
LIST_LINE = re.compile(r"([^/\\]+)[/\\]([^/\\]+?)(?:\.avi)?(?:\s+[0-9]{1,6})?", re.IGNORECASE)
ADVICE = "unpack UCF101's lists there (UCF101TrainTestSplits-RecognitionTask.zip)"


def read_ucf101(directory: Path, *, split: str = SPLITS[0], limit: int | None = None) -> LabelledVideos:
    """UCF101's videos of a split, in the list's order; it has no boxes.

    Raises:
        FileNotFoundError: the lists are not there.
        ValueError: an unknown split, a line of another form, or a class that classInd.txt does not have.
    """
    listed = read_split_list(directory, split=split)
    index = find_folder(Path(directory), LIST_FOLDERS, holding="classInd.txt", advice=ADVICE) / "classInd.txt"
    labels = _labels(index)
    if unknown := sorted({label for label, _ in listed} - set(labels)):
        raise ValueError(f"{index}: no class {unknown[0]}, which the list of {split} names; take both from one archive")
    folder = find_video_folder(Path(directory), VIDEO_FOLDERS, holding=escape(labels[0]))
    videos = tuple(
        LabelledVideo(folder / label / f"{name}.avi", label, no_tubes, f"{label}/{name}")
        for label, name in spread(listed, limit=limit)
    )
    return LabelledVideos(videos, labels, {"kind": "UCF101", "split": split, "videos_in_set": len(listed)})


def read_split_list(directory: Path, *, split: str) -> tuple[tuple[str, str], ...]:
    """(class, video's name without .avi) of each of the split's videos, in order, each once.

    Raises:
        FileNotFoundError: no list of this split.
        ValueError: an unknown split, or a line that is no class and name.
    """
    check_split(split, allowed=THREE_SPLITS)
    file = f"{split[:-1]}list0{split[-1]}.txt"
    path = find_folder(Path(directory), LIST_FOLDERS, holding=file, advice=ADVICE) / file
    names: dict[tuple[str, str], None] = {}
    for number, line in read_lines(path, advice=ADVICE):
        match = LIST_LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{path}, line {number}: got {line!r}, wanted `Class/v_Class_g01_c01.avi`")
        names[match[1], match[2]] = None
    return tuple(names)


def _labels(path: Path) -> tuple[str, ...]:
    by_number: dict[int, str] = {}
    for number, line in read_lines(path, advice=ADVICE):
        match = CLASS_LINE.fullmatch(line)
        if match is None or int(match[1]) in by_number:
            raise ValueError(f"{path}, line {number}: got {line!r}, wanted `1 ApplyEyeMakeup`, each number once")
        by_number[int(match[1])] = match[2]
    if not by_number or sorted(by_number) != list(range(1, len(by_number) + 1)):
        raise ValueError(f"{path}: got classes {sorted(by_number)}, wanted 1, 2, ... without a gap")
    return tuple(by_number[number] for number in sorted(by_number))
