"""Rendered clips as a network gets them, cached on disk: rendered, coded to H.264, decoded, resized, cropped."""

import hashlib
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from sum3dcam import synthetic
from sum3dcam.errors import CheckpointError
from sum3dcam.models.checkpoints import WeightsCard
from sum3dcam.synthetic import ACTIONS, DIFFICULTIES, REVERSED, render, video_seed, write_mp4
from sum3dcam.training.examples import Clips, Example, Labels, same_light
from sum3dcam.video.decode import DecodeLimits, decode

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
    """Rendered clips as a `Source`: clips_NTHWC uint8 (N,16,112,112,3), memory-mapped; labels_N int64 into ACTIONS.

    The videos' keys are `name` and the clip's number.
    """

    clips_NTHWC: Clips
    labels_N: Labels
    name: str = "rendered"

    def augmented(self, index: int, *, num_frames: int, size_px: int, rng: np.random.Generator) -> Example:
        """A window, mirrored, played backward (with the reversed action's label), in other colours, in other light."""
        clip_THWC = window(self.clips_NTHWC[index], num_frames=num_frames, rng=rng)
        label = int(self.labels_N[index])
        if rng.random() < 0.5:
            clip_THWC = clip_THWC[:, :, ::-1]
        if BACKWARD_LABEL[label] >= 0 and rng.random() < 0.5:
            clip_THWC, label = clip_THWC[::-1], int(BACKWARD_LABEL[label])
        return Example(
            clip_THWC=resize(clip_THWC[..., rng.permutation(3)], size_px=size_px),
            label=label,
            key=self._key(index),
            gain_C=rng.uniform(0.8, 1.2, 3).astype(np.float32),
            bias_C=rng.uniform(-20, 20, 3).astype(np.float32),
        )

    def plain(self, index: int, *, num_frames: int, size_px: int) -> Example:
        """The middle frames, resized."""
        start = (self.clips_NTHWC.shape[1] - num_frames) // 2
        clip_THWC = resize(self.clips_NTHWC[index, start : start + num_frames], size_px=size_px)
        return Example(clip_THWC, int(self.labels_N[index]), self._key(index), *same_light())

    def _key(self, index: int) -> str:
        return (
            f"{self.name}/{ACTIONS[self.labels_N[index]]}_{index // CLIPS_PER_VIDEO:05d} clip {index % CLIPS_PER_VIDEO}"
        )


def cached_clips(directory: Path, *, difficulty: str, num_videos: int, seed: int, workers: int) -> ClipSet:
    """Two clips of each of `num_videos` videos (classes in turn), rendered once and read from disk from then on."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{difficulty}-seed{seed}-{num_videos}x{CLIPS_PER_VIDEO}-{renderer_digest()}.npy"
    if not path.exists():
        _render_all(path, difficulty=difficulty, num_videos=num_videos, seed=seed, workers=workers)
    labels_N = np.repeat(np.arange(num_videos) % len(ACTIONS), CLIPS_PER_VIDEO)
    return ClipSet(np.load(path, mmap_mode="r"), labels_N, name=f"{difficulty}-seed{seed}")


def check_rendered(card: WeightsCard) -> None:
    """Raises CheckpointError where a network of that card cannot learn from the rendered clips."""
    if card.labels != ACTIONS:
        raise CheckpointError("the base has the rendered actions in another order", got=card.labels, allowed=ACTIONS)
    if card.num_frames > CLIP_FRAMES:
        raise CheckpointError(
            "the rendered clips are too short for this network; give --frames", got=card.num_frames, allowed=CLIP_FRAMES
        )


def renderer_digest() -> str:
    """Eight digits that change with the renderer's source, so that clips of an older one are not taken for its own."""
    sources = sorted(Path(synthetic.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:8]


def resize(clip_THWC: Clips, *, size_px: int) -> Clips:
    """Square uint8 frames to (T,size_px,size_px,3) by area; as they are where they have that size."""
    if clip_THWC.shape[1] == size_px:
        return clip_THWC
    frames = [
        cv2.resize(np.ascontiguousarray(frame), (size_px, size_px), interpolation=cv2.INTER_AREA) for frame in clip_THWC
    ]
    return np.stack(frames).astype(np.uint8, copy=False)


def window(clip_THWC: Clips, *, num_frames: int, rng: np.random.Generator) -> Clips:
    """`num_frames` consecutive frames from a random start."""
    start = rng.integers(0, len(clip_THWC) - num_frames + 1)
    return clip_THWC[start : start + num_frames]


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
