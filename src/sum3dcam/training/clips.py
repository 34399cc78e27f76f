"""Rendered clips as a network gets them, cached on disk: rendered, coded to H.264, decoded, resized, cropped."""

import hashlib
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sum3dcam import synthetic
from sum3dcam.synthetic import ACTIONS, DIFFICULTIES, REVERSED, render, video_seed, write_mp4
from sum3dcam.video.decode import DecodeLimits, decode

Clips = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

CLIPS_PER_VIDEO = 2
CLIP_FRAMES = 16
SIZE_PX = 112

# label index -> label index of the same clip played backward; -1 where that is no action of the set.
BACKWARD_LABEL: Labels = np.array(
    [
        ACTIONS.index({**REVERSED, **{forward: backward for backward, forward in REVERSED.items()}}[action])
        if action in {*REVERSED, *REVERSED.values()}
        else -1
        for action in ACTIONS
    ]
)


@dataclass(frozen=True)
class ClipSet:
    """clips_NTHWC uint8 (N,16,112,112,3), memory-mapped; labels_N int64 into ACTIONS."""

    clips_NTHWC: Clips
    labels_N: Labels


def cached_clips(directory: Path, *, difficulty: str, num_videos: int, seed: int, workers: int) -> ClipSet:
    """Two clips of each of `num_videos` videos (classes in turn), rendered once and read from disk from then on."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{difficulty}-seed{seed}-{num_videos}x{CLIPS_PER_VIDEO}-{renderer_digest()}.npy"
    if not path.exists():
        _render_all(path, difficulty=difficulty, num_videos=num_videos, seed=seed, workers=workers)
    labels_N = np.repeat(np.arange(num_videos) % len(ACTIONS), CLIPS_PER_VIDEO)
    return ClipSet(np.load(path, mmap_mode="r"), labels_N)


def renderer_digest() -> str:
    """Eight digits that change with the renderer's source, so that clips of an older one are not taken for its own."""
    sources = sorted(Path(synthetic.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]


@dataclass(frozen=True)
class Batch:
    """clips_BTHWC uint8 as augmented, labels_B int64, and the change of light still to apply: pixel * gain + bias.

    gain_BC and bias_BC are float32, in units of the uint8 pixel.
    """

    clips_BTHWC: Clips
    labels_B: Labels
    gain_BC: npt.NDArray[np.float32]
    bias_BC: npt.NDArray[np.float32]


def augment(clips_BTHWC: Clips, labels_B: Labels, *, size_px: int, rng: np.random.Generator) -> Batch:
    """Mirrors, plays backward (with the label of the reversed action), shuffles and changes colours, resizes."""
    num_clips, num_frames = clips_BTHWC.shape[:2]
    out = np.empty((num_clips, num_frames, size_px, size_px, 3), np.uint8)
    labels = labels_B.copy()
    for item, clip_THWC in enumerate(clips_BTHWC):
        if rng.random() < 0.5:
            clip_THWC = clip_THWC[:, :, ::-1]
        if BACKWARD_LABEL[labels[item]] >= 0 and rng.random() < 0.5:
            clip_THWC, labels[item] = clip_THWC[::-1], BACKWARD_LABEL[labels[item]]
        out[item] = resize(clip_THWC[..., rng.permutation(3)], size_px=size_px)
    gain_BC = rng.uniform(0.8, 1.2, (num_clips, 3)).astype(np.float32)
    bias_BC = rng.uniform(-20, 20, (num_clips, 3)).astype(np.float32)
    return Batch(out, labels, gain_BC, bias_BC)


def resize(clip_THWC: Clips, *, size_px: int) -> Clips:
    """Square uint8 frames to (T,size_px,size_px,3) by area; as they are where they have that size."""
    if clip_THWC.shape[1] == size_px:
        return clip_THWC
    frames = [
        cv2.resize(np.ascontiguousarray(frame), (size_px, size_px), interpolation=cv2.INTER_AREA) for frame in clip_THWC
    ]
    return np.stack(frames).astype(np.uint8, copy=False)


def window(clips_BTHWC: Clips, *, num_frames: int, rng: np.random.Generator) -> Clips:
    """`num_frames` consecutive frames of each clip from a random start."""
    last_start = clips_BTHWC.shape[1] - num_frames
    starts_B = rng.integers(0, last_start + 1, len(clips_BTHWC))
    return np.stack([clip[start : start + num_frames] for clip, start in zip(clips_BTHWC, starts_B, strict=True)])


def _render_all(path: Path, *, difficulty: str, num_videos: int, seed: int, workers: int) -> None:
    partial_path = path.with_suffix(".partial")
    shape = (num_videos * CLIPS_PER_VIDEO, CLIP_FRAMES, SIZE_PX, SIZE_PX, 3)
    clips_NTHWC = np.lib.format.open_memmap(partial_path, mode="w+", dtype=np.uint8, shape=shape)
    one = partial(_render_one, difficulty=difficulty, dataset_seed=seed)
    # Spawned, not forked: a fork after OpenCV or torch started threads may hang.
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        progress = tqdm(pool.map(one, range(num_videos), chunksize=4), total=num_videos, desc=f"render {difficulty}")
        for index, pair_NTHWC in enumerate(progress):
            clips_NTHWC[index * CLIPS_PER_VIDEO : (index + 1) * CLIPS_PER_VIDEO] = pair_NTHWC
    clips_NTHWC.flush()
    partial_path.rename(path)


def _render_one(index: int, *, difficulty: str, dataset_seed: int) -> Clips:
    video = render(
        seed=video_seed(dataset_seed, index=index),
        action=ACTIONS[index % len(ACTIONS)],
        num_frames=CLIP_FRAMES * CLIPS_PER_VIDEO,
        difficulty=DIFFICULTIES[difficulty],
    )
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "video.mp4"
        write_mp4(video, file)
        frames_THWC = decode(file.read_bytes(), size_px=SIZE_PX, limits=DecodeLimits()).frames_THWC
    return frames_THWC.reshape(CLIPS_PER_VIDEO, CLIP_FRAMES, SIZE_PX, SIZE_PX, 3)


def accuracy_by_label(predicted_N: Labels, labels_N: Labels) -> Mapping[str, float]:
    """Share of right answers for each action."""
    return {
        action: float((predicted_N[labels_N == index] == index).mean())
        for index, action in enumerate(ACTIONS)
        if (labels_N == index).any()
    }
