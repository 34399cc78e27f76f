"""What the checks look at: the first clip of each video, and its maps of the ground-truth class."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from sum3dcam.attribution.maps import Array, build_maps
from sum3dcam.contract import EXPLAIN_GRAPH, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.evaluation.datasets.labelled import LabelledVideos
from sum3dcam.evaluation.kinds import MapKind, map_kinds
from sum3dcam.evaluation.prepare import prepare
from sum3dcam.serving.engines import Engine


@dataclass(frozen=True)
class LabelledClip:
    """uint8 (1,T,H,W,C) and int64 (1,): its class, the one that is explained and scored."""

    clip_1THWC: npt.NDArray[np.uint8]
    class_1: npt.NDArray[np.int64]


def first_clips(data: LabelledVideos, *, card: Card, desc: str) -> Iterator[LabelledClip]:
    """One clip per video, a video shorter than a clip repeated to fill it, with a progress bar on stderr.

    Raises:
        ValueError: a video that does not fit the artefact.
        RequestError: a video that cannot be decoded.
    """
    for video in tqdm(data.videos, desc=desc, unit="video"):
        prepared = prepare(video, card=card)
        yield LabelledClip(prepared.clips_NTHWC[:1], np.array([prepared.label_index]))


def checked_kinds(card: Card) -> tuple[MapKind, ...]:
    """Of `map_kinds`: every method over all taps, the paper's advice for Sum3DCAM, and those of a single-tap method.

    Raises:
        ArtifactError: the artefact has no explain graph.
    """
    if card.graph != EXPLAIN_GRAPH:
        raise ArtifactError("checking maps needs the explain graph", got=card.graph, allowed=EXPLAIN_GRAPH)
    every = card.tap_names
    advice = {("sum3dcam", ("conv", "layer1")), ("gradcam", every[-1:])}
    return tuple(kind for kind in map_kinds(every) if kind.taps == every or (kind.method, kind.taps) in advice)


def engine_maps(engine: Engine, clip: LabelledClip, *, kinds: Sequence[MapKind]) -> Mapping[str, Array]:
    """{kind's name: (T,H,W)} of the clip's class, by the artefact itself."""
    card = engine.card
    outputs = engine.run(clip.clip_1THWC, target_B=clip.class_1)
    grids = {name: np.asarray(values, np.float32) for name, values in outputs.items()}
    return {
        kind.name: build_maps(
            grids, taps=kind.taps, method=kind.method, num_frames=card.num_frames, size_px=card.size_px
        ).maps_BTHW[0]
        for kind in kinds
    }
