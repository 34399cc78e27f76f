"""A computed request to its envelope and tensors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam import __version__, wire
from sum3dcam.attribution.boxes import BoxXYXY, FrameBox, find_boxes
from sum3dcam.attribution.maps import METHODS, MapsResult, build_maps, taps_by_stream
from sum3dcam.attribution.tubes import Tube, link, smooth
from sum3dcam.contract import CONTRACT_VERSION, EXPLAINED, LOGITS, MAPS, Card, grid_name, stream_name
from sum3dcam.serving.engines import Engine
from sum3dcam.serving.options import RequestOptions
from sum3dcam.serving.request import Request
from sum3dcam.video.footage import Video
from sum3dcam.video.sample import clip_frames, clip_span, clip_starts, shows_first

Arrays = Mapping[str, NDArray[Any]]
Json = dict[str, Any]

U8_MAX = 255
_MAPS_AS = {
    "u8": lambda maps: np.rint(maps * U8_MAX).astype(np.uint8),
    "f16": lambda maps: maps.astype(np.float16),
    "f32": lambda maps: maps,
}
_TUBES_AS: Mapping[str, Callable[[Tube], Tube]] = {"linked": lambda tube: tube, "smoothed": smooth}


def build_answer(request: Request, outputs: Arrays, *, engine: Engine) -> tuple[Json, Arrays]:
    """The envelope and the tensors that go with it.

    Args:
        outputs: the engine's outputs for the request's clips, N first.
    """
    card, options = engine.card, request.options
    scores_NK = softmax(outputs[LOGITS])
    video = _video(request, scores_NK, labels=card.labels)
    clips = _clips(request, scores_NK, labels=card.labels)
    tensors: Arrays = {}
    region = None
    if options.explain != "none":
        region = list(request.video.geometry.crop_xyxy_px)
        result = _maps(outputs, taps=options.taps, card=card, options=options)
        for index, clip in enumerate(clips):
            explained = int(outputs[EXPLAINED][index])
            clip["explained"] = {"index": explained, "label": card.labels[explained]}
            clip["method"] = options.method
            clip["taps"] = list(options.taps)
            clip["empty_taps"] = list(result.empty_taps[index])
            start = index * card.num_frames
            clip["boxes"] = _boxes(result.maps_BTHW[index], start=start, video=request.video, options=options)
        if options.tubes != "none":
            video["tubes"] = _tubes(clips, video=request.video, options=options)
        tensors = _tensors(outputs, result.maps_BTHW, card=card, options=options)
    axes = "NTHW" if options.explain == "maps" else "Nthw"
    envelope = {
        "contract_version": CONTRACT_VERSION,
        "status": "ok",
        "request_id": options.request_id,
        "model": _model(engine),
        "video": video,
        "clips": clips,
        "tensors": wire.describe_tensors(tensors, axes=dict.fromkeys(tensors, axes)),
        "map_region_xyxy_px": region,
    }
    return envelope, tensors


def softmax(logits_NK: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scores (N,K) that sum to one, in float64."""
    shifted_NK = logits_NK.astype(np.float64) - logits_NK.max(axis=1, keepdims=True)
    exp_NK = np.exp(shifted_NK)
    scores_NK: NDArray[np.float64] = exp_NK / exp_NK.sum(axis=1, keepdims=True)
    return scores_NK


def _top(scores_K: NDArray[np.float64], *, top_k: int, labels: tuple[str, ...]) -> list[Json]:
    """Best first; of equal scores the lower index."""
    best = np.argsort(-scores_K, kind="stable")[:top_k]
    return [{"index": int(i), "label": labels[i], "score": float(scores_K[i])} for i in best]


def _model(engine: Engine) -> Json:
    card = engine.card
    return {
        "name": card.model,
        "num_frames": card.num_frames,
        "size_px": card.size_px,
        "tap_streams": _tap_streams(card),
        "artifact_sha256": engine.sha256,
        "weights_sha256": card.weights_sha256,
        "engine": engine.name,
        "provider": engine.provider,
        "package_version": __version__,
    }


def _video(request: Request, scores_NK: NDArray[np.float64], *, labels: tuple[str, ...]) -> Json:
    video = request.video
    return {
        "num_frames": video.num_source_frames,
        "width_px": video.geometry.source_width_px,
        "height_px": video.geometry.source_height_px,
        "fps": video.fps,
        "duration_seconds": video.duration_seconds,
        "padded_frames": request.padded_frames,
        "labels": _top(scores_NK.mean(axis=0), top_k=request.options.top_k, labels=labels),
        "tubes": [],
    }


def _clips(request: Request, scores_NK: NDArray[np.float64], *, labels: tuple[str, ...]) -> list[Json]:
    video, clip_length = request.video, request.clips_NTHWC.shape[1]
    starts = clip_starts(video.num_frames, clip_length)
    clips = []
    for index, (start, scores_K) in enumerate(zip(starts, scores_NK, strict=True)):
        places = clip_frames(start, num_frames=video.num_frames, clip_length=clip_length)
        first, end = clip_span(
            start,
            source_frames=video.source_frames,
            clip_length=clip_length,
            num_source_frames=video.num_source_frames,
        )
        clips.append(
            {
                "index": index,
                "start_frame": first,
                "end_frame": end,
                "frames": [video.source_frames[place] for place in places],
                "start_seconds": _seconds(video, first),
                "end_seconds": _seconds(video, end),
                "labels": _top(scores_K, top_k=request.options.top_k, labels=labels),
                "explained": None,
                "method": None,
                "taps": [],
                "empty_taps": [],
                "boxes": [],
            }
        )
    return clips


def _seconds(video: Video, frame: int) -> float | None:
    """When the source frame begins; the one behind the last begins when the video ends."""
    if video.time_seconds is None:
        return None
    return video.time_seconds[frame] if frame < video.num_source_frames else video.duration_seconds


def _tap_streams(card: Card) -> dict[str, str]:
    return {tap.name: tap.stream for tap in card.taps}


def _maps(outputs: Arrays, *, taps: Sequence[str], card: Card, options: RequestOptions) -> MapsResult:
    return build_maps(outputs, taps=taps, method=options.method, num_frames=card.num_frames, size_px=card.size_px)


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
        "time_seconds": _seconds(video, frame),
        "box_xyxy_px": list(xyxy_px),
        "score": score,
    }


def _tubes(clips: Sequence[Json], *, video: Video, options: RequestOptions) -> list[Json]:
    """The tubes of the clips' boxes over the whole video, by falling total score, each of one explained class."""
    # Linking counts the frames shown: one that resampling dropped has no box and is no gap.
    shown = tuple(dict.fromkeys(video.source_frames))
    place_of = {frame: place for place, frame in enumerate(shown)}
    explained = {clip["explained"]["index"]: clip["explained"] for clip in clips}
    boxes: dict[int, list[FrameBox]] = {index: [] for index in explained}
    for clip in clips:
        boxes[clip["explained"]["index"]] += [
            FrameBox(place_of[box["frame"]], tuple(box["box_xyxy_px"]), box["score"]) for box in clip["boxes"]
        ]
    tubes = [(index, tube) for index in boxes for tube in link(boxes[index])]
    tubes.sort(key=lambda item: -item[1].total_score)
    edges = (*shown, video.num_source_frames)
    return [
        {"explained": explained[index], **_tube(_TUBES_AS[options.tubes](tube), edges=edges, video=video)}
        for index, tube in tubes
    ]


def _tube(tube: Tube, *, edges: Sequence[int], video: Video) -> Json:
    """A tube over the frames shown, in the source's; like a clip, it ends where the next frame shown begins.

    Args:
        edges: the source's frames that are shown, then its number of frames.
    """
    start, end = edges[tube.boxes[0].frame], edges[tube.boxes[-1].frame + 1]
    return {
        "start_frame": start,
        "end_frame": end,
        "start_seconds": _seconds(video, start),
        "end_seconds": _seconds(video, end),
        "score": tube.score,
        "boxes": [_box(video, edges[box.frame], xyxy_px=box.box_xyxy, score=box.score) for box in tube.boxes],
    }


def _tensors(outputs: Arrays, maps_NTHW: NDArray[np.float32], *, card: Card, options: RequestOptions) -> Arrays:
    if options.explain == "maps":
        maps = {MAPS: maps_NTHW}
        for stream, taps in taps_by_stream(options.taps, tap_streams=_tap_streams(card)).items():
            maps[stream_name(MAPS, stream)] = _maps(outputs, taps=taps, card=card, options=options).maps_BTHW
        return {name: _MAPS_AS[options.map_dtype](values) for name, values in maps.items()}
    if options.explain == "grids":
        # Those that the method reads determine its map; the rest would double the bytes.
        names = [grid_name(grid, tap) for tap in options.taps for grid in METHODS[options.method].grids]
        return {name: outputs[name] for name in names}
    return {}
