"""UCF101-24: the videos of 24 of UCF101's classes, with the boxes of every actor (Singh et al.'s corrected ones).

    DIR/pyannot.pkl                              or DIR/splitfiles/pyannot.pkl
    DIR/testlist01.txt, DIR/trainlist01.txt      or where UCF101 has them; lines `Basketball/v_Basketball_g01_c01`
    DIR/rgb-images/Basketball/v_Basketball_g01_c01/00001.jpg
    or DIR/UCF-101/Basketball/v_Basketball_g01_c01.avi, or DIR/videos/...

The pickle is {"Class/v_x": {"annotations": [{"label", "sf", "ef", "boxes"}], "numf", "label"}}: boxes (T,4) of x, y,
width and height in uint8 or uint16, whose sums overflow; of the frames [sf, ef), counted from 0. Videos are not needed
for what boxes alone tell: every one has 320x240 pixels.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sum3dcam.evaluation.datasets.labelled import Float32s, LabelledVideo, LabelledVideos, Tube
from sum3dcam.evaluation.datasets.listing import THREE_SPLITS, find_folder, find_video_folder, spread
from sum3dcam.evaluation.datasets.restricted_pickle import PickledArray, read_restricted_pickle
from sum3dcam.evaluation.datasets.ucf101 import LIST_FOLDERS, read_split_list

SPLITS = THREE_SPLITS
FRAME_SIZE_PX = (320, 240)
ANNOTATIONS = "pyannot.pkl"
# The suffix of the video's own file or, of its folder of frames, none.
VIDEO_FOLDERS: Mapping[str, str] = {"rgb-images": "", "UCF-101": ".avi", "videos": ".avi"}


def read_ucf24(directory: Path, *, split: str = SPLITS[0], limit: int | None = None) -> LabelledVideos:
    """The split's annotated videos in the list's order; listed ones of other classes, or without boxes, are left out.

    Raises:
        FileNotFoundError: no pyannot.pkl or no list of this split.
        ValueError: an unknown split, or a pickle that holds anything else, or more.
    """
    directory = Path(directory)
    folder = find_folder(
        directory, LIST_FOLDERS, holding=ANNOTATIONS, advice="take it from github.com/gurkirt/corrected-UCF101-Annots"
    )
    annotations = _read_annotations(folder / ANNOTATIONS)
    labels = tuple(sorted({key.split("/")[0] for key in annotations}))
    listed = [f"{label}/{name}" for label, name in read_split_list(directory, split=split) if label in labels]
    annotated = [key for key in listed if key in annotations]
    videos_in = find_video_folder(directory, tuple(VIDEO_FOLDERS), holding="*")
    videos = tuple(
        LabelledVideo(
            path=videos_in / f"{key}{VIDEO_FOLDERS[videos_in.name]}",
            label=key.split("/")[0],
            read_tubes=partial(_read_tubes, annotations[key], key=key),
            key=key,
            frame_size_px=FRAME_SIZE_PX,
            num_frames=int(annotations[key]["numf"]),
        )
        for key in spread(annotated, limit=limit)
    )
    provenance = {
        "kind": "UCF101-24",
        "split": split,
        "videos_in_set": len(annotated),
        "videos_without_annotation": len(listed) - len(annotated),
    }
    return LabelledVideos(videos, labels, provenance)


def boxes_from_xywh(xywh_T4: Any) -> Float32s:
    """Boxes of corner and size, of any type of number, as half-open [x1,y1,x2,y2) float32 (T,4).

    >>> boxes_from_xywh(np.array([[200, 100, 100, 100]], np.uint8)).tolist()
    [[200.0, 100.0, 300.0, 200.0]]
    """
    boxes = np.asarray(xywh_T4).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _read_annotations(path: Path) -> Mapping[str, Any]:
    annotations = read_restricted_pickle(path)
    if not isinstance(annotations, dict):
        raise ValueError(f"{path}: got a {type(annotations).__name__}, wanted a dict of videos")
    for key, video in annotations.items():
        match key, video:
            case str(), {"annotations": list(), "numf": int()} if key.count("/") == 1:
                pass
            case _:
                raise ValueError(f"{path}: the entry {str(key)[:100]!r} is no video with annotations and numf")
    return annotations


def _read_tubes(video: Mapping[str, Any], *, key: str) -> tuple[Tube, ...]:
    return tuple(_tube(actor, key=key) for actor in video["annotations"])


def _tube(actor: Any, *, key: str) -> Tube:
    match actor:
        case {"sf": int(first), "ef": int(end), "boxes": PickledArray() as boxes}:
            xywh_T4 = boxes.values
        case _:
            raise ValueError(f"{key}: an actor without sf, ef or boxes; get {ANNOTATIONS} anew")
    if first < 0 or xywh_T4.shape != (end - first, 4):
        raise ValueError(f"{key}: got boxes {xywh_T4.shape} for the frames [{first}, {end})")
    return Tube(label=key.split("/")[0], first_frame=first, boxes_xyxy_px=boxes_from_xywh(xywh_T4))
