"""Data sets of rendered videos: mp4 files and one annotations.json with the ground truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sum3dcam.synthetic.difficulty import difficulty_named
from sum3dcam.synthetic.figure import ACTIONS
from sum3dcam.synthetic.render import FPS, ActionTube, RenderedVideo, boxes_of, check_request, render

FORMAT = "sum3dcam-rendered"
VERSION = 2
"""2 has tubes; 1 had one actor in all frames and its boxes, and is read as one tube."""
ANNOTATIONS = "annotations.json"
CONSTANT_RATE_FACTOR = 20
"""libx264's quality: visually near to the source, with the artefacts of a real file."""


@dataclass(frozen=True)
class VideoAnnotation:
    """The ground truth of one file."""

    file: str
    """Relative to the data set's directory."""
    action: str
    label_index: int
    seed: int
    num_frames: int
    width: int
    height: int
    tubes: tuple[ActionTube, ...]

    @property
    def boxes_xyxy_px(self) -> npt.NDArray[np.float32]:
        """(T, 4) half-open boxes of `action` alone, over the cuts."""
        return boxes_of(self.action, self.tubes)


@dataclass(frozen=True)
class Annotations:
    """The ground truth of a data set."""

    labels: tuple[str, ...]
    fps: float
    difficulty: str
    seed: int
    videos: tuple[VideoAnnotation, ...]


def video_seed(dataset_seed: int, *, index: int) -> int:
    """The 63-bit seed of a data set's video: it depends on these two alone, not on how many videos there are."""
    high, low = np.random.SeedSequence(dataset_seed, spawn_key=(index,)).generate_state(2, np.uint32).tolist()
    return (int(high) >> 1) << 32 | int(low)


def write_mp4(video: RenderedVideo, path: Path | str) -> None:
    """Writes H.264 in yuv420p, one picture per frame at the video's rate."""
    _, height, width, _ = video.frames_THWC.shape
    with av.open(str(path), "w") as container:
        rate = Fraction(video.fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = 1 / rate
        # One thread, and none of the fast paths whose sums hang on the memory they meet: the encoder's choices, and so
        # the bytes, are the same on every machine and at every call.
        stream.codec_context.thread_count = 1
        stream.options = {
            "crf": str(CONSTANT_RATE_FACTOR),
            "preset": "fast",
            "x264-params": "cpu-independent=1",
        }
        for index, pixels in enumerate(video.frames_THWC):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            # Not stream.time_base: the muxer replaces that one when it writes the header, amid the video.
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_dataset(
    directory: Path | str,
    *,
    num_videos: int,
    seed: int,
    difficulty: str,
    num_frames: int = 48,
    width: int = 192,
    height: int = 144,
    workers: int = 1,
) -> None:
    """Writes videos/<action>_<index>.mp4, the actions in turn, and annotations.json.

    `difficulty` is a name in DIFFICULTIES. Raises ValueError for what `render` refuses, for an unknown difficulty,
    and for fewer than one video or worker.
    """
    difficulty_named(difficulty)
    check_request(seed=seed, action=ACTIONS[0], num_frames=num_frames, width=width, height=height)
    for name, count in (("num_videos", num_videos), ("workers", workers)):
        if count < 1:
            raise ValueError(f"{name}: got {count}, wanted 1 or more")
    root = Path(directory)
    (root / "videos").mkdir(parents=True, exist_ok=True)
    write_one = partial(
        _write_video,
        directory=root,
        dataset_seed=seed,
        difficulty=difficulty,
        num_frames=num_frames,
        width=width,
        height=height,
    )
    with _in_order(write_one, num_videos=num_videos, workers=workers) as written:
        videos = list(tqdm(written, total=num_videos, desc="render", unit="video"))
    annotations = Annotations(labels=ACTIONS, fps=FPS, difficulty=difficulty, seed=seed, videos=tuple(videos))
    (root / ANNOTATIONS).write_text(json.dumps(_as_json(annotations), indent=1) + "\n")


def read_annotations(directory: Path | str) -> Annotations:
    """Reads a directory that `write_dataset` wrote. Raises ValueError for another format or version."""
    path = Path(directory) / ANNOTATIONS
    tree = json.loads(path.read_text())
    got = (tree.get("format"), tree.get("version"))
    if got not in {(FORMAT, version) for version in range(1, VERSION + 1)}:
        raise ValueError(f"{path}: got format and version {got}, wanted {(FORMAT, VERSION)} or an older version")
    videos = [_read_video(entry) for entry in tree["videos"]]
    return Annotations(tuple(tree["labels"]), tree["fps"], tree["difficulty"], tree["seed"], tuple(videos))


def _write_video(
    index: int, *, directory: Path, dataset_seed: int, difficulty: str, num_frames: int, width: int, height: int
) -> VideoAnnotation:
    label_index = index % len(ACTIONS)
    action, seed = ACTIONS[label_index], video_seed(dataset_seed, index=index)
    video = render(
        seed=seed,
        action=action,
        num_frames=num_frames,
        width=width,
        height=height,
        difficulty=difficulty_named(difficulty),
    )
    file = f"videos/{action}_{index:05d}.mp4"
    write_mp4(video, directory / file)
    return VideoAnnotation(file, action, label_index, seed, num_frames, width, height, video.tubes)


@contextmanager
def _in_order(
    write_one: partial[VideoAnnotation], *, num_videos: int, workers: int
) -> Iterator[Iterator[VideoAnnotation]]:
    """The videos' annotations in order of index, written here or by a pool of processes."""
    if workers == 1:
        yield map(write_one, range(num_videos))
        return
    # Spawned, not forked: a fork after OpenCV or torch started threads may hang. One OpenCV thread per process.
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield pool.map(write_one, range(num_videos), chunksize=4)


def _read_video(entry: dict[str, Any]) -> VideoAnnotation:
    facts = dict(entry)
    if "boxes_xyxy_px" in facts:
        facts["tubes"] = [{"action": facts["action"], "first_frame": 0, "boxes_xyxy_px": facts.pop("boxes_xyxy_px")}]
    tubes = tuple(
        ActionTube(**{**tube, "boxes_xyxy_px": np.array(tube["boxes_xyxy_px"], np.float32).reshape(-1, 4)})
        for tube in facts["tubes"]
    )
    return VideoAnnotation(**{**facts, "tubes": tubes})


def _as_json(annotations: Annotations) -> dict[str, object]:
    videos = [
        {**vars(video), "tubes": [{**vars(tube), "boxes_xyxy_px": tube.boxes_xyxy_px.tolist()} for tube in video.tubes]}
        for video in annotations.videos
    ]
    return {"format": FORMAT, "version": VERSION, **vars(annotations), "videos": videos}
