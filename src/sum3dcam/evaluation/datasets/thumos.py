"""THUMOS14's and MultiTHUMOS's untrimmed videos, with the time spans of their actions; they have no boxes.

THUMOS14 has a file for each class and part, with lines `video_validation_0000690  23.9 27.0`:

    DIR/annotation/BaseballPitch_val.txt, DIR/annotation/BaseballPitch_test.txt, ..., Ambiguous_val.txt
    DIR/annotation/detclasslist.txt          lines `7 BaseballPitch`; not needed, but its classes must have files

MultiTHUMOS has one for each class, in which both parts are told by the videos' names:

    DIR/annotations/BaseballPitch.txt, ...
    DIR/class_list.txt                       lines `1 BaseballPitch`

Annotations may lie up to three folders deep, as the archives have them. Videos are DIR/validation/<name>.mp4 and
DIR/test/<name>.mp4, or in the folders VIDEO_FOLDERS.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sum3dcam.evaluation.datasets.labelled import LabelledVideo, LabelledVideos, Segment, no_tubes
from sum3dcam.evaluation.datasets.listing import check_split, find_video_folder, read_lines, spread

SPLITS = ("test", "val")
VIDEO_FOLDERS: Mapping[str, Sequence[str]] = {
    "test": ("test", "TH14_test_set_mp4", "videos/test", "videos", "."),
    "val": ("validation", "TH14_validation_set_mp4", "videos/val", "videos", "."),
}
VIDEO_PREFIX: Mapping[str, str] = {"test": "video_test_", "val": "video_validation_"}
AMBIGUOUS = "Ambiguous"

CLASS_LINE = re.compile(r"[0-9]{1,6}\s+(\S.*)")
SPAN_LINE = re.compile(r"(\S+)\s+([0-9.]+)\s+([0-9.]+)")


@dataclass(frozen=True)
class _Spans:
    """By video, the spans of all classes in time; `empty` counts those left out because they end before they begin."""

    by_video: Mapping[str, tuple[Segment, ...]]
    empty: int


def read_thumos14(directory: Path, *, split: str = SPLITS[0], limit: int | None = None) -> LabelledVideos:
    """THUMOS14's annotated videos of a part, sorted by name; a video's label is the class of most of its seconds.

    Spans that are ambiguous are left out, and videos that have no others. Labels are sorted, which is detclasslist's
    order.

    Raises:
        FileNotFoundError: no annotations of this part, or a class of detclasslist.txt without a file.
        ValueError: an unknown split, or a line that is no name and two times.
    """
    check_split(split, allowed=SPLITS)
    ending = f"_{split}.txt"
    advice = f"unpack THUMOS14's temporal annotations there, files <Class>{ending}"
    folder = _annotation_folder(Path(directory), pattern=f"*{ending}", advice=advice)
    listed = folder / "detclasslist.txt"
    labels = (
        _class_names(listed)
        if listed.is_file()
        else sorted(path.name[: -len(ending)] for path in folder.glob(f"[!.]*{ending}"))
    )
    classes = tuple(label for label in labels if label != AMBIGUOUS)
    spans = _read_spans({label: folder / f"{label}{ending}" for label in classes}, split=split, advice=advice)
    return _videos(Path(directory), spans, labels=classes, split=split, limit=limit, kind="THUMOS14")


def read_multithumos(directory: Path, *, split: str = SPLITS[0], limit: int | None = None) -> LabelledVideos:
    """MultiTHUMOS's videos of a part, sorted by name; a video's label is the class of most of its seconds.

    Labels are in class_list.txt's order.

    Raises:
        FileNotFoundError: no class_list.txt, no annotations, or a class without a file.
        ValueError: an unknown split, or a line that is no name and two times.
    """
    check_split(split, allowed=SPLITS)
    advice = "unpack MultiTHUMOS (multithumos.zip) there"
    root = _annotation_folder(Path(directory), pattern="class_list.txt", advice=advice)
    classes = _class_names(root / "class_list.txt")
    files = {label: root / "annotations" / f"{label}.txt" for label in classes}
    spans = _read_spans(files, split=split, advice=advice)
    return _videos(Path(directory), spans, labels=classes, split=split, limit=limit, kind="MultiTHUMOS")


def _annotation_folder(directory: Path, *, pattern: str, advice: str) -> Path:
    for depth in ("", "*/", "*/*/", "*/*/*/"):
        found = min(directory.glob(depth + pattern), default=None)
        if found is not None:
            return found.parent
    raise FileNotFoundError(f"{directory}: no {pattern} in it or up to three folders below; {advice}")


def _class_names(path: Path) -> tuple[str, ...]:
    names = []
    for number, line in read_lines(path, advice="unpack the annotations anew"):
        match = CLASS_LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{path}, line {number}: got {line!r}, wanted `7 BaseballPitch`")
        names.append(match[1])
    return tuple(names)


def _read_spans(files: Mapping[str, Path], *, split: str, advice: str) -> _Spans:
    found: defaultdict[str, set[Segment]] = defaultdict(set)
    empty = 0
    for label, path in files.items():
        for name, begins, ends in _span_lines(path, advice=advice):
            if not name.startswith(VIDEO_PREFIX[split]):
                continue
            if ends > begins:
                found[name].add(Segment(label, begins, ends))
            else:
                empty += 1
    by_time = {
        name: tuple(sorted(spans, key=lambda span: (span.begins_seconds, span.ends_seconds, span.label)))
        for name, spans in sorted(found.items())
    }
    return _Spans(by_time, empty)


def _span_lines(path: Path, *, advice: str) -> Iterator[tuple[str, float, float]]:
    for number, line in read_lines(path, advice=advice):
        match = SPAN_LINE.fullmatch(line)
        try:
            if match is None:
                raise ValueError("no name and two times")
            yield match[1], float(match[2]), float(match[3])
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number}: got {line!r}, wanted `video_test_0000004 0.2 1.1`, in seconds"
            ) from error


def _videos(
    directory: Path, spans: _Spans, *, labels: tuple[str, ...], split: str, limit: int | None, kind: str
) -> LabelledVideos:
    names = tuple(spans.by_video)
    folder = find_video_folder(directory, VIDEO_FOLDERS[split], holding=f"{VIDEO_PREFIX[split]}*.mp4")
    videos = tuple(
        LabelledVideo(
            path=folder / f"{name}.mp4",
            label=_longest(spans.by_video[name]),
            read_tubes=no_tubes,
            key=name,
            segments=spans.by_video[name],
        )
        for name in spread(names, limit=limit)
    )
    provenance = {"kind": kind, "split": split, "videos_in_set": len(names), "spans_without_duration": spans.empty}
    return LabelledVideos(videos, labels, provenance)


def _longest(segments: Sequence[Segment]) -> str:
    """The class of the most seconds, the first by name of equal ones."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for segment in segments:
        seconds[segment.label] += segment.ends_seconds - segment.begins_seconds
    most = max(seconds.values())
    return min(label for label, total in seconds.items() if math.isclose(total, most))
