"""A computed request to its envelope and tensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam import __version__, wire
from sum3dcam.attribution.boxes import find_boxes
from sum3dcam.attribution.maps import METHODS, build_maps
from sum3dcam.contract import CONTRACT_VERSION, EXPLAINED, LOGITS, MAPS, grid_name
from sum3dcam.serving.engines import Engine
from sum3dcam.serving.options import RequestOptions
from sum3dcam.serving.request import Request
from sum3dcam.video.footage import Video

Arrays = Mapping[str, NDArray[Any]]
Json = dict[str, Any]

U8_MAX = 255
_MAPS_AS = {
    "u8": lambda maps: np.rint(maps * U8_MAX).astype(np.uint8),
    "f16": lambda maps: maps.astype(np.float16),
    "f32": lambda maps: maps,
}


def build_answer(request: Request, outputs: Arrays, *, engine: Engine) -> tuple[Json, Arrays]:
    """The envelope and the tensors that go with it.

    Args:
        outputs: the engine's outputs for the request's clips, N first.
    """
    card, options = engine.card, request.options
    scores_NK = softmax(outputs[LOGITS])
    clips = _clips(request, scores_NK, labels=card.labels)
    tensors: Arrays = {}
    region = None
    if options.explain != "none":
        region = list(request.video.geometry.crop_xyxy_px)
        result = build_maps(
            outputs, taps=options.taps, method=options.method, num_frames=card.num_frames, size_px=card.size_px
        )
        for index, clip in enumerate(clips):
            explained = int(outputs[EXPLAINED][index])
            clip["explained"] = {"index": explained, "label": card.labels[explained]}
            clip["method"] = options.method
            clip["taps"] = list(options.taps)
            clip["empty_taps"] = list(result.empty_taps[index])
            clip["boxes"] = _boxes(result.maps_BTHW[index], clip, video=request.video, options=options)
        tensors = _tensors(outputs, result.maps_BTHW, options=options)
    envelope = {
        "contract_version": CONTRACT_VERSION,
        "status": "ok",
        "request_id": options.request_id,
        "model": _model(engine),
        "video": _video(request, scores_NK, labels=card.labels),
        "clips": clips,
        "tensors": wire.describe_tensors(tensors, axes={name: "NTHW" if name == MAPS else "Nthw" for name in tensors}),
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
        "artifact_sha256": engine.sha256,
        "weights_sha256": card.weights_sha256,
        "engine": engine.name,
        "provider": engine.provider,
        "package_version": __version__,
    }


def _video(request: Request, scores_NK: NDArray[np.float64], *, labels: tuple[str, ...]) -> Json:
    video = request.video
    return {
        "num_frames": video.num_frames,
        "width_px": video.geometry.source_width_px,
        "height_px": video.geometry.source_height_px,
        "fps": video.fps,
        "duration_seconds": video.duration_seconds,
        "padded_frames": request.padded_frames,
        "labels": _top(scores_NK.mean(axis=0), top_k=request.options.top_k, labels=labels),
    }


def _clips(request: Request, scores_NK: NDArray[np.float64], *, labels: tuple[str, ...]) -> list[Json]:
    video, clip_length = request.video, request.clips_NTHWC.shape[1]
    clips = []
    for index, scores_K in enumerate(scores_NK):
        start = index * clip_length
        end = min(start + clip_length, video.num_frames)
        clips.append(
            {
                "index": index,
                "start_frame": start,
                "end_frame": end,
                "start_seconds": _seconds(video, start),
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
    """When the frame begins; the one behind the last begins when the video ends."""
    if video.time_seconds is None:
        return None
    return video.time_seconds[frame] if frame < video.num_frames else video.duration_seconds


def _boxes(map_THW: NDArray[np.float32], clip: Json, *, video: Video, options: RequestOptions) -> list[Json]:
    """The map's boxes in the source; frames beyond the video's end are repeats and have none."""
    boxes = []
    for box in find_boxes(map_THW, threshold=options.threshold, box_mode=options.box_mode):
        frame = clip["start_frame"] + box.frame
        if frame < clip["end_frame"]:
            boxes.append(
                {
                    "frame": frame,
                    "time_seconds": _seconds(video, frame),
                    "box_xyxy_px": list(video.geometry.to_source(box.box_xyxy)),
                    "score": box.score,
                }
            )
    return boxes


def _tensors(outputs: Arrays, maps_NTHW: NDArray[np.float32], *, options: RequestOptions) -> Arrays:
    if options.explain == "maps":
        return {MAPS: _MAPS_AS[options.map_dtype](maps_NTHW)}
    if options.explain == "grids":
        # Those that the method reads determine its map; the rest would double the bytes.
        names = [grid_name(grid, tap) for tap in options.taps for grid in METHODS[options.method].grids]
        return {name: outputs[name] for name in names}
    return {}
