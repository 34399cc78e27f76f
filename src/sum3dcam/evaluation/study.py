"""Runs an artefact over labelled videos and counts, per video, what its labels and maps got right.

Only counts are kept: memory does not grow with the number of maps. The truth is brought into map pixels (the inverse
would blur the map); what of it lies outside the centre crop is cut off, and frames where nothing is left of it, as
well as the frames repeated to fill the last clip, are not counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sum3dcam.attribution.maps import build_maps
from sum3dcam.contract import DEFAULT_METHOD, EXPLAIN_GRAPH, EXPLAINED, LOGITS, SALIENCY, TOP_CLASS
from sum3dcam.errors import ArtifactError
from sum3dcam.evaluation.kinds import TRIVIAL_BOXES, Comparator, MapKind
from sum3dcam.evaluation.metrics import FrameIous, centred_boxes, distance_px, fixed_box_ious, map_ious, peak_xy
from sum3dcam.serving.engines import Engine

Array: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]

VERSIONS = ("v1", "v2")


@dataclass(frozen=True)
class Settings:
    """`thresholds` t of MaxBoxAcc, the IoUs asked for, the class explained ("true" or "top"), clips per run."""

    thresholds: tuple[float, ...] = tuple(step / 50 for step in range(50))
    ious: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7)
    target: str = "true"
    batch_clips: int = 4


@dataclass(frozen=True)
class PreparedVideo:
    """A video as the network sees it.

    `clips_NTHWC` uint8; `truth` per frame of the resampled video (not of the clips) the half-open boxes (N,4) of all
    its actors in map pixels, N = 0 where the frame has none inside the crop; `label_index` on the card; `tolerance_px`
    of the pointing game in map pixels.
    """

    clips_NTHWC: npt.NDArray[np.uint8]
    truth: tuple[npt.NDArray[np.float64], ...]
    label_index: int
    tolerance_px: float


@dataclass(frozen=True)
class KindCounts:
    """Of one video and one map kind, over its counted frames.

    `hits` per version (P,I): frames whose IoU reaches each IoU asked, at each parameter; `oracle_I`: frames where any
    parameter and contour does; `pointed` and `peak_inside`: frames whose peak is within the tolerance, or in the box;
    `empty_clips`: clips without any map.
    """

    hits: Mapping[str, Ints]
    oracle_I: Ints
    pointed: int
    peak_inside: int
    empty_clips: int


@dataclass(frozen=True)
class VideoCounts:
    """Of one video: frames counted for localisation, clips, labels right, and the counts of each map kind.

    `saliency_difference`: how far the graph's own saliency lies from the map rebuilt from its grids, at the worst
    voxel.
    """

    frames: int
    clips: int
    clips_right: int
    video_right: int
    kinds: Mapping[str, KindCounts]
    saliency_difference: float


def _target_true(label_index: int) -> int:
    return label_index


def _target_top(_label_index: int) -> int:
    return TOP_CLASS


TARGETS = MappingProxyType({"true": _target_true, "top": _target_top})


class _Tally:
    """Adds the frames of one video up for one map kind."""

    def __init__(self, num_parameters: int, *, ious: Sequence[float]) -> None:
        self._ious = np.asarray(ious)
        self._hits = {version: np.zeros((num_parameters, len(ious)), np.int64) for version in VERSIONS}
        self._oracle = np.zeros(len(ious), np.int64)
        self._pointed = self._peak_inside = self.empty_clips = 0

    def add(self, found: FrameIous, *, peak_distance_px: float, tolerance_px: float) -> None:
        for version, iou_P in (("v1", found.v1_P), ("v2", found.v2_P)):
            self._hits[version] += iou_P[:, None] >= self._ious
        self._oracle += found.v2_P.max() >= self._ious
        self._pointed += peak_distance_px <= tolerance_px
        self._peak_inside += peak_distance_px == 0.0

    def counts(self) -> KindCounts:
        return KindCounts(self._hits, self._oracle, self._pointed, self._peak_inside, self.empty_clips)


def _outputs_by_batch(
    engine: Engine, clips_NTHWC: npt.NDArray[np.uint8], *, target: int, batch_clips: int
) -> Iterator[tuple[int, Mapping[str, npt.NDArray[Any]]]]:
    for start in range(0, len(clips_NTHWC), batch_clips):
        batch = clips_NTHWC[start : start + batch_clips]
        yield start, engine.run(batch, target_B=np.full(len(batch), target, np.int64))


def _softmax(logits_NK: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    exponential = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    share: npt.NDArray[np.float64] = exponential / exponential.sum(axis=1, keepdims=True)
    return share


def count_video(
    engine: Engine,
    video: PreparedVideo,
    *,
    kinds: Sequence[MapKind],
    settings: Settings,
    comparators: Sequence[Comparator] = (),
) -> VideoCounts:
    """Explains all clips of a video and counts.

    Raises:
        ArtifactError: the artefact has no explain graph.
    """
    card = engine.card
    if card.graph != EXPLAIN_GRAPH:
        raise ArtifactError("evaluation needs the explain graph", got=card.graph, allowed=EXPLAIN_GRAPH)
    every = [*(kind.name for kind in kinds), *(made.kind.name for made in comparators)]
    tallies = {name: _Tally(len(settings.thresholds), ious=settings.ious) for name in every}
    logits, saliency_difference = [], 0.0
    target = TARGETS[settings.target](video.label_index)

    def add(name: str, maps_BTHW: Array, *, start: int) -> None:
        for item, map_THW in enumerate(maps_BTHW):
            first = (start + item) * card.num_frames
            truth = video.truth[first : first + card.num_frames]
            _add_clip(tallies[name], map_THW, truth=truth, video=video, settings=settings)

    for start, outputs in _outputs_by_batch(engine, video.clips_NTHWC, target=target, batch_clips=settings.batch_clips):
        logits.append(np.asarray(outputs[LOGITS], np.float64))
        grids = {name: np.asarray(values, np.float32) for name, values in outputs.items()}
        for kind in kinds:
            maps_BTHW = build_maps(
                grids, taps=kind.taps, method=kind.method, num_frames=card.num_frames, size_px=card.size_px
            ).maps_BTHW
            if (kind.method, kind.taps) == (DEFAULT_METHOD, card.tap_names):
                saliency_difference = max(saliency_difference, float(np.abs(maps_BTHW - grids[SALIENCY]).max()))
            add(kind.name, maps_BTHW, start=start)
        clips_BTHWC = video.clips_NTHWC[start : start + settings.batch_clips]
        for made in comparators:
            add(made.kind.name, made.maps(clips_BTHWC, outputs[EXPLAINED]), start=start)
    logits_NK = np.concatenate(logits)
    counts = {name: tally.counts() for name, tally in tallies.items()}
    counts.update(_trivial_counts(video, size_px=card.size_px, settings=settings))
    return VideoCounts(
        frames=sum(len(truth_N4) > 0 for truth_N4 in video.truth),
        clips=len(logits_NK),
        clips_right=int((logits_NK.argmax(axis=1) == video.label_index).sum()),
        video_right=int(_softmax(logits_NK).mean(axis=0).argmax() == video.label_index),
        kinds=counts,
        saliency_difference=saliency_difference,
    )


def _add_clip(
    tally: _Tally,
    map_THW: Array,
    *,
    truth: Sequence[npt.NDArray[np.float64]],
    video: PreparedVideo,
    settings: Settings,
) -> None:
    tally.empty_clips += not map_THW.any()
    # The truth ends with the video: frames that only fill the last clip have none.
    for map_HW, truth_N4 in zip(map_THW, truth, strict=False):
        if len(truth_N4):
            found = map_ious(map_HW, truth_N4=truth_N4, thresholds=settings.thresholds)
            # A frame without any evidence points nowhere.
            away = distance_px(peak_xy(map_HW), truth_N4=truth_N4) if map_HW.any() else np.inf
            tally.add(found, peak_distance_px=away, tolerance_px=video.tolerance_px)


def _trivial_counts(video: PreparedVideo, *, size_px: int, settings: Settings) -> dict[str, KindCounts]:
    boxes = {name: centred_boxes(shares, width_px=size_px, height_px=size_px) for name, shares in TRIVIAL_BOXES.items()}
    tallies = {name: _Tally(len(box_P4), ious=settings.ious) for name, box_P4 in boxes.items()}
    for truth_N4 in video.truth:
        if len(truth_N4):
            away = distance_px((size_px / 2, size_px / 2), truth_N4=truth_N4)
            for name, box_P4 in boxes.items():
                found = fixed_box_ious(box_P4, truth_N4=truth_N4)
                tallies[name].add(found, peak_distance_px=away, tolerance_px=video.tolerance_px)
    return {name: tally.counts() for name, tally in tallies.items()}
