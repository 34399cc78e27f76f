"""From counts per video to the figures of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sum3dcam.evaluation.kinds import TRIVIAL, TRIVIAL_BOXES, MapKind
from sum3dcam.evaluation.statistics import BestOfCurve, Estimate, best_of_curve, interval, resample, share_estimate
from sum3dcam.evaluation.study import VERSIONS, Settings, VideoCounts

# MaxBoxAcc V2 is the mean over these IoUs (Choe et al.).
V2_IOUS = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Row:
    """One map kind or trivial box over the data set.

    `max_box_acc[version][i]` belongs to the i-th IoU of the settings and `parameters` (thresholds; sides, for a box);
    `v2_mean` is None where not all of `V2_IOUS` were asked for. `beats_trivial[version][i]`: the 95 % interval of the
    paired difference to every trivial box lies above zero.
    """

    name: str
    family: str
    method: str | None
    taps: tuple[str, ...]
    parameters: tuple[float, ...]
    max_box_acc: Mapping[str, tuple[BestOfCurve, ...]]
    v2_mean: float | None
    oracle: tuple[Estimate, ...]
    pointed: Estimate
    peak_inside: Estimate
    empty_clips: float
    beats_trivial: Mapping[str, tuple[bool, ...]]


@dataclass(frozen=True)
class Summary:
    """Accuracy and one row per map kind; `num_frames` are those counted for localisation."""

    num_videos: int
    num_clips: int
    num_frames: int
    clip_accuracy: Estimate
    video_accuracy: Estimate
    saliency_difference: float
    settings: Settings
    rows: tuple[Row, ...]


def summarise(counts: Sequence[VideoCounts], *, kinds: Sequence[MapKind], settings: Settings) -> Summary:
    """Pools the counts of all videos.

    Raises:
        ValueError: no video, or none with a frame to localise in.
    """
    if not any(video.frames for video in counts):
        raise ValueError("no frame has ground truth inside the centre crop: there is nothing to evaluate")
    weights_RV = resample(len(counts))
    frames_V = [video.frames for video in counts]
    clips_V = [video.clips for video in counts]

    def curves(name: str, version: str) -> tuple[BestOfCurve, ...]:
        hits_VPI = np.stack([video.kinds[name].hits[version] for video in counts])
        return tuple(
            best_of_curve(hits_VPI[:, :, i], totals_V=frames_V, weights_RV=weights_RV)
            for i in range(len(settings.ious))
        )

    def frame_share(hits_V: Sequence[int]) -> Estimate:
        return share_estimate(hits_V, totals_V=frames_V, weights_RV=weights_RV)

    trivial = {name: {version: curves(name, version) for version in VERSIONS} for name in TRIVIAL_BOXES}

    def row(kind: MapKind, *, method: str | None, parameters: tuple[float, ...]) -> Row:
        of_kind = [video.kinds[kind.name] for video in counts]
        max_box_acc = trivial.get(kind.name) or {version: curves(kind.name, version) for version in VERSIONS}
        at_iou = dict(zip(settings.ious, max_box_acc["v2"], strict=True))
        return Row(
            name=kind.name,
            family=kind.family,
            method=method,
            taps=kind.taps,
            parameters=parameters,
            max_box_acc=max_box_acc,
            v2_mean=float(np.mean([at_iou[iou].share.value for iou in V2_IOUS]))
            if set(V2_IOUS) <= set(at_iou)
            else None,
            oracle=tuple(
                frame_share([int(counted.oracle_I[i]) for counted in of_kind]) for i in range(len(settings.ious))
            ),
            pointed=frame_share([counted.pointed for counted in of_kind]),
            peak_inside=frame_share([counted.peak_inside for counted in of_kind]),
            empty_clips=sum(counted.empty_clips for counted in of_kind) / sum(clips_V),
            beats_trivial={
                version: tuple(
                    all(_clearly_above(ours, box[version][i]) for box in trivial.values())
                    for i, ours in enumerate(max_box_acc[version])
                )
                for version in VERSIONS
            },
        )

    return Summary(
        num_videos=len(counts),
        num_clips=sum(clips_V),
        num_frames=sum(frames_V),
        clip_accuracy=share_estimate([video.clips_right for video in counts], totals_V=clips_V, weights_RV=weights_RV),
        video_accuracy=share_estimate(
            [video.video_right for video in counts], totals_V=[1] * len(counts), weights_RV=weights_RV
        ),
        saliency_difference=max(video.saliency_difference for video in counts),
        settings=settings,
        rows=(
            *(row(kind, method=kind.method, parameters=settings.thresholds) for kind in kinds),
            *(
                row(MapKind(name, TRIVIAL, "", ()), method=None, parameters=sides)
                for name, sides in TRIVIAL_BOXES.items()
            ),
        ),
    )


def _clearly_above(ours: BestOfCurve, theirs: BestOfCurve) -> bool:
    return interval(ours.samples_R - theirs.samples_R)[0] > 0
