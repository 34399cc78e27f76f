"""Videos as clips: windows, crops, mirrors, and what is done with a short one."""

from dataclasses import replace

import numpy as np

from sum3dcam.evaluation.datasets.labelled import LabelledVideo, no_tubes
from sum3dcam.training.videos import CROP_SCALES, VideoSet

SIZE_PX = 16


def frames(num_frames: int, size_px: int) -> np.ndarray:
    """Channel 0 is the frame's number, 1 and 2 are row and column."""
    return np.stack(np.indices((num_frames, size_px, size_px)), axis=-1).astype(np.uint8)


def video_set(num_frames: int) -> VideoSet:
    videos = tuple(
        LabelledVideo(path=None, label=label, read_tubes=no_tubes, key=f"{label}/one")  # type: ignore[arg-type]
        for label in ("wave", "bow")
    )
    return VideoSet(videos, ("bow", "wave"), lambda video, size_px: frames(num_frames, size_px))


def test_labels_are_in_the_heads_order() -> None:
    source = video_set(4)
    assert source.labels_N.tolist() == [1, 0]
    example = source.plain(1, num_frames=4, size_px=SIZE_PX)
    assert (example.label, example.key) == (0, "bow/one")


def test_a_plain_clip_is_the_middle_of_the_whole_square() -> None:
    clip_THWC = video_set(20).plain(0, num_frames=6, size_px=SIZE_PX).clip_THWC
    assert np.array_equal(clip_THWC, frames(20, SIZE_PX)[7:13])


def test_augmentation_cuts_any_window_corner_centre_and_scale_and_mirrors() -> None:
    sizes: list[int] = []
    source = replace(video_set(9), read=lambda video, size_px: sizes.append(size_px) or frames(9, size_px))
    rng = np.random.default_rng(0)
    starts, mirrors, places = set(), set(), set()
    for _ in range(400):
        clip_THWC = source.augmented(0, num_frames=6, size_px=SIZE_PX, rng=rng).clip_THWC
        first, last = clip_THWC[0, 0, 0].astype(int), clip_THWC[-1, -1, -1].astype(int)
        assert clip_THWC.shape == (6, SIZE_PX, SIZE_PX, 3)
        assert (last - first).tolist()[:2] == [5, SIZE_PX - 1]
        starts.add(int(first[0]))
        mirrors.add(bool(first[2] > last[2]))
        free = sizes[-1] - SIZE_PX
        places.add(
            (
                sizes[-1],
                *({0: "begin", free // 2: "centre", free: "end"}[i] for i in (first[1], min(first[2], last[2]))),
            )
        )
    assert starts == {0, 1, 2, 3}
    assert mirrors == {True, False}
    assert set(sizes) == {round(SIZE_PX / scale) for scale in CROP_SCALES} == {16, 19, 23, 27, 32}
    corners = {(a, b) for a in ("begin", "end") for b in ("begin", "end")} | {("centre", "centre")}
    assert {place for place in places if place[0] > SIZE_PX} == {
        (size, *at) for size in (19, 23, 27, 32) for at in corners
    }


def test_a_video_shorter_than_a_clip_is_repeated_from_its_start() -> None:
    source = video_set(3)
    for example in (
        source.plain(0, num_frames=7, size_px=SIZE_PX),
        source.augmented(0, num_frames=7, size_px=SIZE_PX, rng=np.random.default_rng(1)),
    ):
        assert example.clip_THWC[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
