"""A data set's videos as clips to learn from, decoded anew each time: memory does not grow with the set."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sum3dcam.evaluation.datasets.labelled import LabelledVideo
from sum3dcam.training.examples import Clips, Example, Labels, same_light
from sum3dcam.video.sample import clip_frames

# Of the square that a server sees: what a crop covers, as in the multi-scale corner crops of Hara et al.
CROP_SCALES = tuple(2 ** (-quarters / 4) for quarters in range(5))


@dataclass(frozen=True)
class VideoSet:
    """Videos as a `Source`, one clip of each; `labels` gives the order of the head's classes.

    `read(video, size_px)` gives its frames as a server would see them at that size, uint8 (T,size_px,size_px,3), and
    raises what `read_frames` does.
    """

    videos: tuple[LabelledVideo, ...]
    labels: tuple[str, ...]
    read: Callable[[LabelledVideo, int], Clips]

    @cached_property
    def labels_N(self) -> Labels:
        index = {label: place for place, label in enumerate(self.labels)}
        return np.array([index[video.label] for video in self.videos], np.int64)

    def augmented(self, index: int, *, num_frames: int, size_px: int, rng: np.random.Generator) -> Example:
        """A random window in time, one of five crops (corners, centre) at one of five scales, mirrored or not."""
        scale = CROP_SCALES[rng.integers(len(CROP_SCALES))]
        top, left = ((0, 0), (0, 1), (1, 0), (1, 1), (0.5, 0.5))[rng.integers(5)]
        mirrored, share_of_time = rng.random() < 0.5, rng.random()
        whole_px = round(size_px / scale)
        frames_THWC = self.read(self.videos[index], whole_px)
        start = int(share_of_time * (max(len(frames_THWC) - num_frames, 0) + 1))
        clip_THWC = _cut(frames_THWC, start=start, num_frames=num_frames)
        y, x = int(top * (whole_px - size_px)), int(left * (whole_px - size_px))
        clip_THWC = clip_THWC[:, y : y + size_px, x : x + size_px]
        return self._example(index, clip_THWC[:, :, ::-1] if mirrored else clip_THWC)

    def plain(self, index: int, *, num_frames: int, size_px: int) -> Example:
        """The middle frames."""
        frames_THWC = self.read(self.videos[index], size_px)
        start = max(len(frames_THWC) - num_frames, 0) // 2
        return self._example(index, _cut(frames_THWC, start=start, num_frames=num_frames))

    def _example(self, index: int, clip_THWC: Clips) -> Example:
        return Example(clip_THWC, int(self.labels_N[index]), self.videos[index].key, *same_light())


def _cut(frames_THWC: Clips, *, start: int, num_frames: int) -> Clips:
    """Consecutive frames; those of a video that is too short are repeated from its start, as a server does."""
    return frames_THWC[list(clip_frames(start, num_frames=len(frames_THWC), clip_length=num_frames))]
