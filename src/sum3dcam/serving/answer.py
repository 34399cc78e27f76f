"""A computed request to its envelope and tensors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam import __version__, wire
from sum3dcam.contract import CONTRACT_VERSION, LOGITS
from sum3dcam.serving.engines import Engine
from sum3dcam.serving.explanation import build_tubes, describe_attribution, explain_clip
from sum3dcam.serving.request import Request
from sum3dcam.video.sample import clip_frames, clip_span, clip_starts

Arrays = Mapping[str, NDArray[Any]]
Json = dict[str, Any]


def build_answer(
    request: Request, outputs: Arrays, *, engine: Engine, version: str | None = None
) -> tuple[Json, Arrays]:
    """The envelope and the tensors that go with it.

    Args:
        outputs: the engine's outputs for the request's clips and the classes explained of each, (N,E,...).
        version: of the archive that is served.
    """
    options = request.options
    scores_NK = softmax(outputs[LOGITS][:, 0])
    video = _video(request, scores_NK, labels=engine.card.labels)
    clips = _clips(request, scores_NK, labels=engine.card.labels)
    tensors: Arrays = {}
    attribution = region = None
    if options.explain != "none":
        attribution = describe_attribution(options)
        region = list(request.video.geometry.crop_xyxy_px)
        per_clip = []
        for index, clip in enumerate(clips):
            of_clip = {name: values[index] for name, values in outputs.items()}
            clip["explanations"], clip_tensors = explain_clip(
                of_clip, clip=index, scores_K=scores_NK[index], request=request, card=engine.card
            )
            per_clip.append(clip_tensors)
        tensors = {name: np.stack([clip_tensors[name] for clip_tensors in per_clip]) for name in per_clip[0]}
        if options.tubes != "none":
            video["tubes"] = build_tubes(clips, video=request.video, mode=options.tubes)
    axes = "NETHW" if options.explain == "maps" else "NEthw"
    envelope = {
        "contract_version": CONTRACT_VERSION,
        "status": "ok",
        "request_id": options.request_id,
        "model": {**describe_model(engine), "version": version},
        "video": video,
        "attribution": attribution,
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


def describe_model(engine: Engine) -> Json:
    """What an engine's answers are computed with, as replies tell it."""
    card = engine.card
    return {
        "name": card.model,
        "num_frames": card.num_frames,
        "size_px": card.size_px,
        "tap_streams": dict(card.tap_streams),
        "artifact_sha256": engine.sha256,
        "weights_sha256": card.weights_sha256,
        "engine": engine.name,
        "provider": engine.provider,
        "precision": card.precision,
        # Refused at the start where the engine did not pass: a row is a pass.
        "certified": card.parity_row(engine.name, provider=engine.provider) is not None,
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
                "start_seconds": video.begins_seconds(first),
                "end_seconds": video.begins_seconds(end),
                "labels": _top(scores_K, top_k=request.options.top_k, labels=labels),
                "explanations": [],
            }
        )
    return clips
