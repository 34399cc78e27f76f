"""What an explained request's answer holds beside labels: maps or grids, boxes in the source, tubes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam.attribution.boxes import BoxXYXY, FrameBox, find_boxes
from sum3dcam.attribution.maps import MapsResult, build_maps, grids_read, taps_by_stream
from sum3dcam.attribution.tubes import Tube, link, smooth
from sum3dcam.contract import EXPLAINED, LOGITS, MAPS, Card, stream_name
from sum3dcam.serving.options import RequestOptions
from sum3dcam.serving.request import Request
from sum3dcam.video.footage import Video
from sum3dcam.video.sample import shows_first

Arrays = Mapping[str, NDArray[Any]]
Json = dict[str, Any]

U8_MAX = 255
_MAPS_AS = {
    "u8": lambda maps: np.rint(maps * U8_MAX).astype(np.uint8),
    "f16": lambda maps: maps.astype(np.float16),
    "f32": lambda maps: maps,
}
_TUBES_AS: Mapping[str, Callable[[Tube], Tube]] = {"linked": lambda tube: tube, "smoothed": smooth}


def describe_attribution(options: RequestOptions) -> Json:
    """How maps and boxes came from the grids: all that a client needs to rebuild them."""
    return {
        "method": options.method,
        "taps": list(options.taps),
        "coordinates": options.coordinates,
        "normalisation": options.normalisation,
    }


def outputs_read(options: RequestOptions) -> tuple[str, ...]:
    """The graph's outputs that an explained request's answer is made from."""
    return (LOGITS, EXPLAINED, *grids_read(options.method, taps=options.taps))


def tensor_bytes(options: RequestOptions, *, num_clips: int, card: Card) -> int:
    """How many bytes the tensors of an answer of so many clips take, before compression."""
    each = 0
    if options.explain == "maps":
        num_maps = 1 + len(taps_by_stream(options.taps, tap_streams=card.tap_streams))
        itemsize = _MAPS_AS[options.map_dtype](np.zeros(1, np.float32)).itemsize
        each = num_maps * itemsize * card.num_frames * card.size_px**2
    elif options.explain == "grids":
        cells = {tap.name: math.prod(tap.grid_thw) for tap in card.taps}
        floats = sum(cells[tap] * len(grids_read(options.method, taps=[tap])) for tap in options.taps)
        each = floats * np.dtype(np.float32).itemsize
    return num_clips * len(options.targets) * each


def explain_clip(
    outputs: Arrays, *, clip: int, scores_K: NDArray[np.float64], request: Request, card: Card
) -> tuple[list[Json], Arrays]:
    """One clip's explanations, one for each class explained, in the order asked, and its tensors, E first.

    Args:
        outputs: the engine's outputs for the clip and each class, (E,...).
        clip: the clip's place in the video.
    """
    options = request.options
    result = _maps(outputs, taps=options.taps, card=card, options=options)
    explanations = [
        {
            "index": int(index),
            "label": card.labels[index],
            "score": float(scores_K[index]),
            "empty_taps": list(empty_taps),
            "boxes": _boxes(map_THW, start=clip * card.num_frames, video=request.video, options=options),
        }
        for index, empty_taps, map_THW in zip(outputs[EXPLAINED], result.empty_taps, result.maps_BTHW, strict=True)
    ]
    return explanations, _TENSORS[options.explain](outputs, result, card, options)


def _map_tensors(outputs: Arrays, result: MapsResult, card: Card, options: RequestOptions) -> Arrays:
    maps = {MAPS: result.maps_BTHW}
    for stream, taps in taps_by_stream(options.taps, tap_streams=card.tap_streams).items():
        maps[stream_name(MAPS, stream)] = _maps(outputs, taps=taps, card=card, options=options).maps_BTHW
    return {name: _MAPS_AS[options.map_dtype](values) for name, values in maps.items()}


def _grid_tensors(outputs: Arrays, result: MapsResult, card: Card, options: RequestOptions) -> Arrays:
    # Those that the method reads determine its map; the rest would double the bytes.
    return {name: outputs[name] for name in outputs_read(options) if name not in (LOGITS, EXPLAINED)}


_TENSORS: Mapping[str, Callable[[Arrays, MapsResult, Card, RequestOptions], Arrays]] = {
    "boxes": lambda outputs, result, card, options: {},
    "maps": _map_tensors,
    "grids": _grid_tensors,
}


def _maps(outputs: Arrays, *, taps: Sequence[str], card: Card, options: RequestOptions) -> MapsResult:
    return build_maps(
        outputs,
        taps=taps,
        method=options.method,
        num_frames=card.num_frames,
        size_px=card.size_px,
        coordinates=options.coordinates,
        normalisation=options.normalisation,
    )


def _boxes(map_THW: NDArray[np.float32], *, start: int, video: Video, options: RequestOptions) -> list[Json]:
    """The boxes in the source of the map of the clip at that start; a source frame has those of its first place."""
    boxes = []
    for box in find_boxes(map_THW, threshold=options.threshold, box_mode=options.box_mode):
        place = start + box.frame
        if shows_first(place, source_frames=video.source_frames):
            frame = video.source_frames[place]
            boxes.append(_box(video, frame, xyxy_px=video.geometry.to_source(box.box_xyxy), score=box.score))
    return boxes


def _box(video: Video, frame: int, *, xyxy_px: BoxXYXY, score: float) -> Json:
    return {
        "frame": frame,
        "time_seconds": video.begins_seconds(frame),
        "box_xyxy_px": list(xyxy_px),
        "score": score,
    }


def build_tubes(clips: Sequence[Json], *, video: Video, mode: str) -> list[Json]:
    """The tubes of the clips' boxes over the whole video, by falling total score, each of one explained class."""
    # Linking counts the frames shown: one that resampling dropped has no box and is no gap.
    shown = tuple(dict.fromkeys(video.source_frames))
    place_of = {frame: place for place, frame in enumerate(shown)}
    labels: dict[int, str] = {}
    boxes: dict[int, list[FrameBox]] = {}
    for explanation in _once_per_class(clips):
        labels[explanation["index"]] = explanation["label"]
        boxes.setdefault(explanation["index"], []).extend(
            FrameBox(place_of[box["frame"]], tuple(box["box_xyxy_px"]), box["score"]) for box in explanation["boxes"]
        )
    tubes = [(index, tube) for index in boxes for tube in link(boxes[index])]
    tubes.sort(key=lambda item: -item[1].total_score)
    edges = (*shown, video.num_source_frames)
    return [
        {
            "explained": {"index": index, "label": labels[index]},
            **_tube(_TUBES_AS[mode](tube), edges=edges, video=video),
        }
        for index, tube in tubes
    ]


def _once_per_class(clips: Sequence[Json]) -> Iterator[Json]:
    """Each clip's explanations; a class asked for by name may be the top class as well, and has its boxes twice."""
    for clip in clips:
        yield from {explanation["index"]: explanation for explanation in clip["explanations"]}.values()


def _tube(tube: Tube, *, edges: Sequence[int], video: Video) -> Json:
    """A tube over the frames shown, in the source's; like a clip, it ends where the next frame shown begins.

    Args:
        edges: the source's frames that are shown, then its number of frames.
    """
    start, end = edges[tube.boxes[0].frame], edges[tube.boxes[-1].frame + 1]
    return {
        "start_frame": start,
        "end_frame": end,
        "start_seconds": video.begins_seconds(start),
        "end_seconds": video.begins_seconds(end),
        "score": tube.score,
        "boxes": [_box(video, edges[box.frame], xyxy_px=box.box_xyxy, score=box.score) for box in tube.boxes],
    }
