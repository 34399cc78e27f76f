"""A labelled video's frames as a network sees them."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sum3dcam.errors import RequestError
from sum3dcam.evaluation.datasets.labelled import LabelledVideo
from sum3dcam.video.decode import DecodeLimits, Video, decode
from sum3dcam.video.flow import stream_frames
from sum3dcam.video.footage import FrameSpec

# Whoever evaluates trusts the files and waits for no reply, so that only absurd sizes are refused: an hour at 30 frames
# a second, and all the time that optical flow takes.
OFFLINE = DecodeLimits(
    max_bytes=4 * 2**30, max_frames=108_000, max_duration_seconds=math.inf, max_decode_seconds=math.inf
)

NUMBERED = re.compile(r"([0-9]+)\.(?:png|jpe?g)", re.IGNORECASE)


def read_frames(video: LabelledVideo, *, spec: FrameSpec) -> Video:
    """The frames of a file, or of a folder of images numbered from 0 or 1, which have no clock and are not resampled.

    Raises:
        FileNotFoundError: the video is not where the data set has it, or one of its frames is missing.
        RequestError: it cannot be decoded; the message begins with the video's key.
        ValueError: frames of different sizes in a folder.
    """
    if not video.path.exists():
        raise FileNotFoundError(f"{video.path}: no such video; unpack the data set's videos there, or mend its list")
    read = _read_folder if video.path.is_dir() else _read_file
    try:
        return read(video.path, spec=spec)
    except RequestError as error:
        raise type(error)(f"{video.key}: {error.message}", got=error.got, allowed=error.allowed) from error


def frame_files(folder: Path) -> tuple[Path, ...]:
    """The folder's numbered images in order; other files are passed over.

    Raises:
        FileNotFoundError: no image, or a number is left out.
    """
    by_number = {int(match[1]): path for path in folder.iterdir() if (match := NUMBERED.fullmatch(path.name))}
    if not by_number:
        raise FileNotFoundError(f"{folder}: no numbered frames (00001.png, ...); unpack the data set's images there")
    first = min(by_number)
    missing = sorted(set(range(min(first, 1), max(by_number) + 1)) - set(by_number))
    if missing:
        raise FileNotFoundError(f"{folder}: frame {missing[0]} is missing of {max(by_number)}; unpack the images anew")
    return tuple(by_number[number] for number in sorted(by_number))


def _read_file(path: Path, *, spec: FrameSpec) -> Video:
    return decode(path.read_bytes(), limits=OFFLINE, **vars(spec))


def _read_folder(folder: Path, *, spec: FrameSpec) -> Video:
    rgb = replace(spec, streams=("rgb",))
    images = [_read_file(path, spec=rgb) for path in frame_files(folder)]
    _check_one_size(images, folder=folder)
    rgb_THWC = np.concatenate([image.frames_THWC for image in images])
    return replace(
        images[0],
        frames_THWC=stream_frames(rgb_THWC, streams=spec.streams),
        source_frames=tuple(range(len(images))),
        num_source_frames=len(images),
    )


def _check_one_size(images: Sequence[Video], *, folder: Path) -> None:
    for number, image in enumerate(images):
        if image.geometry != images[0].geometry:
            sizes = [(made.source_width_px, made.source_height_px) for made in (images[0].geometry, image.geometry)]
            raise ValueError(f"{folder}: image {number} of the folder has {sizes[1]} pixels, the first {sizes[0]}")
