"""One clip as every layer and method sees it: what the paper's figures lay side by side, asked of a server."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Unpack

from sum3dcam.attribution.maps import find_method, taps_by_stream
from sum3dcam.client.prediction import XYXY, Array, Box, Clip, Explanation, Prediction, Video
from sum3dcam.client.rebuild import rebuild_maps
from sum3dcam.client.request import Options
from sum3dcam.errors import BadOptionError, ServerError

# The grids of these three give every panel but the classes'.
SUM_3DCAM, ELEMENTWISE, SUM_GRAD_CAM = "sum3dcam", "sum3dcam-elementwise", "sum-gradcam"
NUM_CLASSES = 3
RANKS = ("best class", "2nd best class", "3rd best class", "4th best class", "5th best class")


class Asks(Protocol):
    """A client of either transport."""

    def predict(self, data: bytes, **options: Unpack[Options]) -> Prediction: ...


@dataclass(frozen=True, eq=False)
class Panel:
    """One map of the clip, float32 (T,H,W) in [0,1], or None for the plain frames; and the boxes to draw on it."""

    title: str
    note: str
    map_THW: Array | None
    boxes: tuple[Box, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no voxel speaks for the class."""
        return self.map_THW is not None and not self.map_THW.any()


@dataclass(frozen=True, eq=False)
class Comparison:
    """The panels of one clip, the plain frames first.

    `frames` holds the source frame at each place of the clip, but for the places that fill a video's last clip by
    repetition. `explained` is the class of every panel that names no other.
    """

    model: str
    video: Video
    clip: Clip
    num_clips: int
    frames: tuple[int, ...]
    explained: Explanation
    map_region_xyxy_px: XYXY
    panels: tuple[Panel, ...]


def ask_comparison(
    client: Asks,
    data: bytes,
    *,
    clip_index: int = 0,
    target: str | None = None,
    taps: str | None = None,
    method: str = ELEMENTWISE,
    box_mode: str | None = None,
    threshold: float | None = None,
) -> Comparison:
    """Asks for the labels, then for the grids of which the panels are made: four requests, or five.

    Args:
        data: a video, an image or an .npy clip.
        clip_index: which of its clips, from 0.
        target: as the request's option; by default the three best classes, or all of a model that has fewer. The first
            is explained in every way, each of them by `method`.
        taps: as the request's option.
        method: a key of `attribution.maps.METHODS`.
        box_mode: as the request's option, for the panels over all taps; by default they have no boxes.
        threshold: as the request's option.

    Raises:
        BadOptionError: no such clip or method, or what the server finds wrong with an option.
        Sum3DCamError: as the client's `predict`.
    """
    max_taps = find_method(method).max_taps
    labelled = client.predict(data)
    clip = _find_clip(labelled, index=clip_index)

    def ask(method: str, *, target: str, taps: str | None) -> Prediction:
        answer = client.predict(
            data, explain="grids", method=method, target=target, taps=taps, box_mode=box_mode, threshold=threshold
        )
        return _clip_alone(answer, index=clip_index)

    # A method of a single layer takes the last one.
    class_taps = taps if taps is None or max_taps is None else ",".join(taps.split(",")[-max_taps:])
    of_classes = ask(method, target=_best_classes(len(clip.labels)) if target is None else target, taps=class_taps)
    explained = of_classes.clips[0].explanations[0]
    of_first = {
        name: of_classes if name == method else ask(name, target=str(explained.index), taps=taps)
        for name in (SUM_3DCAM, ELEMENTWISE, SUM_GRAD_CAM)
    }
    if of_classes.map_region_xyxy_px is None:
        raise ServerError("the reply does not say where its maps lie; client and server are of different releases")
    panels = [
        Panel("Input", "", None),
        *_by_layer(of_first[SUM_3DCAM]),
        *_by_method(of_first),
        *_by_class(of_classes, ranks=[label.index for label in clip.labels]),
        _against(of_first[SUM_3DCAM], label=explained.label),
    ]
    return Comparison(
        model=str(labelled.model.get("name", "")),
        video=labelled.video,
        clip=clip,
        num_clips=len(labelled.clips),
        frames=_own_frames(clip, prediction=labelled),
        explained=explained,
        map_region_xyxy_px=of_classes.map_region_xyxy_px,
        panels=tuple(panels if box_mode is not None else (replace(panel, boxes=()) for panel in panels)),
    )


def _find_clip(prediction: Prediction, *, index: int) -> Clip:
    if not 0 <= index < len(prediction.clips):
        raise BadOptionError(
            "the video has no such clip; they are counted from 0",
            got=index,
            allowed=f"0 to {len(prediction.clips) - 1}",
        )
    return prediction.clips[index]


def _own_frames(clip: Clip, *, prediction: Prediction) -> tuple[int, ...]:
    is_last = clip.index == len(prediction.clips) - 1
    return clip.frames[: len(clip.frames) - (prediction.video.padded_frames if is_last else 0)]


def _best_classes(num_known: int) -> str:
    """The target that asks for the best classes; a model has at least as many as a clip has labels.

    >>> [_best_classes(num_known) for num_known in (1, 2, 5)]
    ['top', 'top-2', 'top-3']
    """
    return "top" if num_known < 2 else f"top-{min(num_known, NUM_CLASSES)}"


def _clip_alone(prediction: Prediction, *, index: int) -> Prediction:
    """The answer as if the clip were the whole video: its maps take no more memory than one clip's."""
    grids = {name: grid_NEthw[index : index + 1].copy() for name, grid_NEthw in prediction.grids.items()}
    return replace(prediction, clips=prediction.clips[index : index + 1], grids=grids)


def _map(
    prediction: Prediction, *, explanation: int = 0, method: str | None = None, taps: Sequence[str] | None = None
) -> Array:
    """The (T,H,W) map of the answer's only clip and of one of its explanations."""
    grids = {name: grid_NEthw[:, explanation : explanation + 1] for name, grid_NEthw in prediction.grids.items()}
    map_THW: Array = rebuild_maps(replace(prediction, grids=grids), method=method, taps=taps)[0, 0]
    return map_THW


def _taps(prediction: Prediction) -> tuple[str, ...]:
    return prediction.attribution.taps if prediction.attribution is not None else ()


def _streams(prediction: Prediction) -> dict[str, tuple[str, ...]]:
    """The taps of each stream; none where all lie in one, or the reply does not say."""
    tap_streams = prediction.model.get("tap_streams")
    return {} if tap_streams is None else taps_by_stream(_taps(prediction), tap_streams=tap_streams)


def _by_layer(sum_3dcam: Prediction) -> Iterator[Panel]:
    for tap in _taps(sum_3dcam):
        yield Panel(f"3DCAM {tap}", "", _map(sum_3dcam, taps=[tap]))
    yield Panel("Sum3DCAM", SUM_3DCAM, _map(sum_3dcam), _boxes(sum_3dcam))
    for stream, taps in _streams(sum_3dcam).items():
        yield Panel("Sum3DCAM", f"{SUM_3DCAM}, {stream} alone", _map(sum_3dcam, taps=taps))


def _by_method(answers: Mapping[str, Prediction]) -> Iterator[Panel]:
    elementwise, sum_grad_cam = answers[ELEMENTWISE], answers[SUM_GRAD_CAM]
    yield Panel("Element-wise 3DCAM", ELEMENTWISE, _map(elementwise), _boxes(elementwise))
    for taps in _streams(sum_grad_cam).values() or [_taps(sum_grad_cam)]:
        yield Panel(f"Grad-CAM {taps[-1]}", "gradcam", _map(sum_grad_cam, method="gradcam", taps=taps[-1:]))
    yield Panel("Sum Grad-CAM", SUM_GRAD_CAM, _map(sum_grad_cam), _boxes(sum_grad_cam))


def _by_class(of_classes: Prediction, *, ranks: Sequence[int]) -> Iterator[Panel]:
    method = of_classes.attribution.method if of_classes.attribution is not None else ""
    for place, explanation in enumerate(of_classes.clips[0].explanations):
        rank = f"{RANKS[ranks.index(explanation.index)]}, " if explanation.index in ranks[: len(RANKS)] else ""
        note = f"{rank}{explanation.score:.1%}\n{method}"
        yield Panel(explanation.label, note, _map(of_classes, explanation=place), explanation.boxes)


def _against(sum_3dcam: Prediction, *, label: str) -> Panel:
    return Panel("Counterfactual", f"against {label}\ncounterfactual", _map(sum_3dcam, method="counterfactual"))


def _boxes(prediction: Prediction) -> tuple[Box, ...]:
    return prediction.clips[0].explanations[0].boxes
