"""ILSVRC 2012's validation images, with the boxes of every object of the image's class.

    DIR/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml   VOC's XML
    DIR/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG
    DIR/LOC_synset_mapping.txt                                lines `n01440764 tench, Tinca tinca`

or all of it in DIR/ILSVRC, or as the archives of image-net.org unpack: DIR/bbox_val or DIR/val with .xml, DIR/val with
.JPEG. With a list of names (also synset_words.txt or map_clsloc.txt) labels are what `--labels` of an export makes of
the same list; without one they are WordNet ids.

xmin and ymin are counted from 0, and a box that fills the image ends at its width and height: boxes are taken as
half-open, as they are.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from sum3dcam.evaluation.datasets.labelled import LabelledVideo, LabelledVideos, Tube
from sum3dcam.evaluation.datasets.listing import check_split, find_folder, find_video_folder, read_lines, spread

SPLITS = ("val",)
ANNOTATION_FOLDERS = ("Annotations/CLS-LOC/val", "ILSVRC/Annotations/CLS-LOC/val", "bbox_val", "bbox_val/val", "val")
IMAGE_FOLDERS = ("Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val", "val", "images")
NAME_LISTS = ("LOC_synset_mapping.txt", "synset_words.txt", "map_clsloc.txt")


def read_ilsvrc(directory: Path, *, split: str = SPLITS[0], limit: int | None = None) -> LabelledVideos:
    """The validation images in order of their numbers; each image's label and size are read from its XML now (some
    seconds for 50,000), its boxes when they are asked for.

    Raises:
        FileNotFoundError: the annotations are not there.
        ValueError: another split than "val", or XML that is damaged, declares entities, or has no object.
    """
    check_split(split, allowed=SPLITS)
    directory = Path(directory)
    xml = find_folder(
        directory, ANNOTATION_FOLDERS, holding="*.xml", advice="unpack ILSVRC2012_bbox_val_v3.tgz in bbox_val"
    )
    images = find_video_folder(directory, IMAGE_FOLDERS, holding="*.JPEG")
    files = sorted(xml.glob("[!.]*.xml"))
    names = _names(directory)
    videos = tuple(_image(path, images=images, names=names) for path in spread(files, limit=limit))
    labels = tuple(names.values()) or tuple(sorted({video.label for video in videos}))
    return LabelledVideos(videos, labels, {"kind": "ILSVRC 2012", "split": split, "videos_in_set": len(files)})


def _names(directory: Path) -> Mapping[str, str]:
    """Label by WordNet id, in the order of the ids; empty without a list of names."""
    path = next((path for name in NAME_LISTS if (path := directory / name).is_file()), None)
    if path is None:
        return {}
    # Imported here: it takes torch along, which is not needed otherwise.
    from sum3dcam.models.checkpoints.labels import read_labels

    wordnet_ids = sorted(line.split()[0] for _, line in read_lines(path, advice="name the classes there"))
    return dict(zip(wordnet_ids, read_labels(path), strict=True))


def _image(path: Path, *, images: Path, names: Mapping[str, str]) -> LabelledVideo:
    root = _parse(path)
    wordnet_id = next(_objects(root, path=path))[0]
    if names and wordnet_id not in names:
        raise ValueError(f"{path}: {wordnet_id} is not in the list of names; take the list of all 1,000 classes")
    return LabelledVideo(
        path=images / f"{path.stem}.JPEG",
        label=names.get(wordnet_id, wordnet_id),
        read_tubes=partial(_read_tubes, path, names=names),
        key=path.stem,
        frame_size_px=(_number(root, "size/width", path=path), _number(root, "size/height", path=path)),
        num_frames=1,
    )


def _read_tubes(path: Path, *, names: Mapping[str, str]) -> tuple[Tube, ...]:
    return tuple(
        Tube(names.get(wordnet_id, wordnet_id), 0, np.array([box], np.float32))
        for wordnet_id, box in _objects(_parse(path), path=path)
    )


def _objects(root: Element, *, path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """WordNet id and [x1,y1,x2,y2) of each object; at least one."""
    objects = root.findall("object")
    if not objects:
        raise ValueError(f"{path}: no object; a validation image has at least one")
    for found in objects:
        box = tuple(_number(found, f"bndbox/{edge}", path=path) for edge in ("xmin", "ymin", "xmax", "ymax"))
        if not (box[0] < box[2] and box[1] < box[3]):
            raise ValueError(f"{path}: got the box {box}, wanted xmin < xmax and ymin < ymax")
        yield _text(found, "name", path=path), box


def _number(element: Element, name: str, *, path: Path) -> int:
    text = _text(element, name, path=path)
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{path}: got {text[:100]!r} as {name}, wanted a whole number") from error


def _text(element: Element, name: str, *, path: Path) -> str:
    text = element.findtext(name)
    if text is None:
        raise ValueError(f"{path}: no {name} in <{element.tag}>")
    return text.strip()


def _parse(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; unpack ILSVRC's annotations anew")
    try:
        return parse(path, forbid_dtd=True).getroot()
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise ValueError(f"{path}: not read as XML without entities: {error}") from error
