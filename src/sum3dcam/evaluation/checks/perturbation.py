"""Insertion and deletion (Petsiuk, Das, Saenko, BMVC 2018) over the voxels of a clip.

Voxels (a pixel of a frame, all its channels) change in order of saliency, in equal steps. Insertion reveals the clip on
a blurred copy of itself, deletion puts the clip's mean pixel in its place. The score is the softmax of the ground-truth
class; its mean along the way (trapezoids) should be high for insertion and low for deletion.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from sum3dcam.attribution.interpolation import Array, upsample
from sum3dcam.contract import LOGITS
from sum3dcam.evaluation.checks.clips import LabelledClip, checked_kinds, engine_maps
from sum3dcam.evaluation.kinds import TRIVIAL, Comparator, MapKind
from sum3dcam.evaluation.statistics import Estimate, estimate, interval, pooled_share, resample
from sum3dcam.serving.engines import Engine

Clip: TypeAlias = npt.NDArray[np.uint8]  # (T,H,W,C)
Floats: TypeAlias = npt.NDArray[np.float64]

NUM_STEPS = 20
BATCH_CLIPS = 7
SEED = 0
# Standard deviation of the blur, as a share of the frame's side: of a person little more than a stain is left.
BLUR_SHARE = 0.1
# Cells of the coarse noise whose order is random but, unlike single voxels, as smooth as a map.
BLOB_GRID_THW = (4, 7, 7)


def blurred(clip_THWC: Clip) -> Clip:
    """Every frame under a Gaussian of BLUR_SHARE of its side."""
    sigma = BLUR_SHARE * clip_THWC.shape[1]
    frames = [cv2.GaussianBlur(frame, (0, 0), sigma).reshape(frame.shape) for frame in clip_THWC]
    return np.stack(frames).astype(np.uint8, copy=False)


def mean_pixel(clip_THWC: Clip) -> Clip:
    """The clip's own mean colour everywhere."""
    return np.broadcast_to(np.rint(clip_THWC.mean((0, 1, 2))).astype(np.uint8), clip_THWC.shape)


# Curve: what the clip is before the first step and after the last.
CURVES: Mapping[str, Callable[[Clip], tuple[Clip, Clip]]] = MappingProxyType(
    {
        "insertion": lambda clip_THWC: (blurred(clip_THWC), clip_THWC),
        "deletion": lambda clip_THWC: (clip_THWC, mean_pixel(clip_THWC)),
    }
)
BETTER: Mapping[str, int] = MappingProxyType({"insertion": 1, "deletion": -1})  # the sign of a better area


def _random_voxels(shape_THW: tuple[int, int, int], rng: np.random.Generator) -> Array:
    return rng.random(shape_THW, np.float32)


def _random_blobs(shape_THW: tuple[int, int, int], rng: np.random.Generator) -> Array:
    return upsample(rng.random(BLOB_GRID_THW, np.float32), num_frames=shape_THW[0], size_px=shape_THW[1])


def _near_centre(shape_THW: tuple[int, int, int], rng: np.random.Generator) -> Array:
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in shape_THW[1:])
    away_HW = np.hypot(rows[:, None], columns[None, :]).astype(np.float32)
    return np.broadcast_to(away_HW.max() - away_HW, shape_THW)


# Orders that know nothing of the network, as maps.
TRIVIAL_MAPS: Mapping[str, Callable[[tuple[int, int, int], np.random.Generator], Array]] = MappingProxyType(
    {"Random voxels": _random_voxels, "Random blobs": _random_blobs, "Nearest the centre": _near_centre}
)


def order_of(map_THW: Array, *, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Flat indices of the voxels, the most salient first, equal ones in random order: int64 (T*H*W,)."""
    shuffled = rng.permutation(map_THW.size)
    order: npt.NDArray[np.int64] = shuffled[np.argsort(-map_THW.reshape(-1)[shuffled], kind="stable")]
    return order


def way(before_THWC: Clip, after_THWC: Clip, *, order: npt.NDArray[np.int64], num_steps: int) -> Iterator[Clip]:
    """The num_steps - 1 clips between the two: in the k-th, the first k / num_steps of the voxels are `after`'s."""
    clip_THWC = before_THWC.copy()
    voxels, wanted = clip_THWC.reshape(-1, clip_THWC.shape[-1]), after_THWC.reshape(-1, clip_THWC.shape[-1])
    done = 0
    for step in range(1, num_steps):
        until = round(step / num_steps * len(order))
        changed = order[done:until]
        voxels[changed], done = wanted[changed], until
        yield clip_THWC.copy()


def class_scores(engine: Engine, clips_NTHWC: Clip, *, class_index: int) -> Floats:
    """Softmax of that class, (N,)."""
    logits = []
    for start in range(0, len(clips_NTHWC), BATCH_CLIPS):
        batch = clips_NTHWC[start : start + BATCH_CLIPS]
        outputs = engine.run(batch, target_B=np.full(len(batch), class_index))
        logits.append(np.asarray(outputs[LOGITS], np.float64))
    logits_NK = np.concatenate(logits)
    exponential_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
    scores_N: Floats = exponential_NK[:, class_index] / exponential_NK.sum(1)
    return scores_N


def area(scores_S: Floats) -> Floats:
    """The mean along the way of the last axis, by trapezoids between equal steps.

    >>> float(area(np.array([0.0, 0.5, 1.0])))
    0.5
    """
    inner = scores_S[..., 1:-1].sum(-1) + (scores_S[..., 0] + scores_S[..., -1]) / 2
    return np.asarray(inner / (scores_S.shape[-1] - 1))


@dataclass(frozen=True)
class Row:
    """One order of the voxels: {curve: its area, the mean score at each step (S,), and whether the area is better than
    that of every trivial order, the 95 % interval of the paired difference lying on the better side of zero}."""

    kind: MapKind
    area: Mapping[str, Estimate]
    scores_S: Mapping[str, Floats]
    beats_trivial: Mapping[str, bool]


@dataclass(frozen=True)
class Perturbation:
    num_videos: int
    num_steps: int
    rows: tuple[Row, ...]


def measure(
    engine: Engine,
    clips: Iterable[LabelledClip],
    *,
    scorer: Engine,
    comparators: Sequence[Comparator] = (),
    num_steps: int = NUM_STEPS,
) -> Perturbation:
    """Both curves of every map of `engine`, of the comparators and of the trivial orders, scored by `scorer`, the same
    network's labels graph.

    Args:
        clips: one per video, at least one.

    Raises:
        ArtifactError: as `checked_kinds`.
    """
    kinds = checked_kinds(engine.card)
    trivial = tuple(MapKind(name, TRIVIAL, "", ()) for name in TRIVIAL_MAPS)
    every = (*kinds, *(comparator.kind for comparator in comparators), *trivial)
    per_video = []
    for v, clip in enumerate(clips):
        scores = np.zeros((len(every), len(CURVES), num_steps + 1))
        rng = np.random.default_rng((SEED, v))
        maps = dict(engine_maps(engine, clip, kinds=kinds))
        maps |= {made.kind.name: made.maps(clip.clip_1THWC, clip.class_1)[0] for made in comparators}
        maps |= {name: make(engine.card.clip_shape_THWC[:3], rng) for name, make in TRIVIAL_MAPS.items()}
        orders = [order_of(maps[kind.name], rng=rng) for kind in every]
        class_index = int(clip.class_1[0])
        for c, ends_of in enumerate(CURVES.values()):
            ends = ends_of(clip.clip_1THWC[0])
            scores[:, c, [0, -1]] = class_scores(scorer, np.stack(ends), class_index=class_index)
            for k, order in enumerate(orders):
                between = np.stack(list(way(*ends, order=order, num_steps=num_steps)))
                scores[k, c, 1:-1] = class_scores(scorer, between, class_index=class_index)
        per_video.append(scores)
    return summarise(np.stack(per_video), every=every)


def summarise(scores_VKCS: Floats, *, every: Sequence[MapKind]) -> Perturbation:
    """From scores per video, kind, curve and step to areas with intervals."""
    num_videos = len(scores_VKCS)
    weights_RV, ones_V = resample(num_videos), np.ones(num_videos)
    areas_VKC = area(scores_VKCS)
    means_KC = areas_VKC.mean(0)
    samples_RKC = pooled_share(areas_VKC, totals_V=ones_V, weights_RV=weights_RV)
    trivial = [k for k, kind in enumerate(every) if kind.family == TRIVIAL]

    def better(k: int, c: int, *, sign: int) -> bool:
        return all(interval(sign * (samples_RKC[:, k, c] - samples_RKC[:, other, c]))[0] > 0 for other in trivial)

    rows = []
    for k, kind in enumerate(every):
        areas = {curve: estimate(means_KC[k, c], samples_RKC[:, k, c]) for c, curve in enumerate(CURVES)}
        means = {curve: scores_VKCS[:, k, c].mean(0) for c, curve in enumerate(CURVES)}
        beats = {curve: better(k, c, sign=BETTER[curve]) for c, curve in enumerate(CURVES)}
        rows.append(Row(kind, areas, means, beats))
    return Perturbation(num_videos, scores_VKCS.shape[-1] - 1, tuple(rows))
