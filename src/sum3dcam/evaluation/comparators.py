"""The comparators of attribution.baselines as rows of a table, from the weights of which an artefact was made."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sum3dcam.attribution.baselines.excitation import contrastive_map
from sum3dcam.attribution.baselines.gradcam_plus_plus import gradcam_plus_plus
from sum3dcam.attribution.baselines.integrated_gradients import integrated_gradients
from sum3dcam.attribution.maps import Array
from sum3dcam.contract import LOGITS, TOP_CLASS
from sum3dcam.errors import ArtifactError
from sum3dcam.evaluation.kinds import COMPARATOR, Comparator, MapKind
from sum3dcam.export.prepare import prepare
from sum3dcam.models import Classifier
from sum3dcam.serving.engines import Engine

# Of the largest logit: what the eager network and the artefact may differ by and still be the same network.
LOGITS_TOLERANCE = 1e-3


def load_comparators(weights: Sequence[Path], *, engine: Engine, num_threads: int) -> tuple[Comparator, ...]:
    """Grad-CAM++ at the last tap, c-MWP at the last two, integrated gradients.

    Raises:
        CheckpointError: weights that cannot be read.
        ArtifactError: weights of another network than the artefact's.
    """
    torch.set_num_threads(num_threads)
    card = engine.card
    made = prepare(weights=weights, gates=card.gates or None, num_frames=card.num_frames, size_px=card.size_px)
    if made.card.weights_sha256 != card.weights_sha256:
        raise ArtifactError(
            "these are not the weights of which the artefact was made",
            got=made.card.weights_sha256,
            allowed=card.weights_sha256,
        )
    _check_logits(made.classifier, engine=engine)
    methods: dict[MapKind, Callable[..., Array]] = {
        _kind("Grad-CAM++", "gradcam++", card.tap_names[-1]): partial(gradcam_plus_plus, tap=card.tap_names[-1]),
        **{_kind("c-MWP", "c-mwp", tap): partial(contrastive_map, tap=tap) for tap in card.tap_names[-2:]},
        MapKind("Integrated gradients", COMPARATOR, "integrated-gradients", ()): _integrated,
    }
    return tuple(Comparator(kind, partial(_of_arrays, made.classifier, method)) for kind, method in methods.items())


def _kind(name: str, method: str, tap: str) -> MapKind:
    return MapKind(f"{name} {tap}", COMPARATOR, method, (tap,))


def _integrated(classifier: Classifier, *, clip_BTHWC: torch.Tensor, target_B: torch.Tensor) -> Array:
    return integrated_gradients(classifier, clip_BTHWC=clip_BTHWC, target_B=target_B).maps_BTHW


def _of_arrays(
    classifier: Classifier,
    method: Callable[..., Array],
    clip_BTHWC: npt.NDArray[np.uint8],
    class_B: npt.NDArray[np.int64],
) -> Array:
    return method(classifier, clip_BTHWC=torch.from_numpy(clip_BTHWC), target_B=torch.from_numpy(class_B))


def _check_logits(classifier: Classifier, *, engine: Engine) -> None:
    """The digest says nothing of gates' fusion or preprocessing; an answer does."""
    clip_BTHWC = np.random.default_rng(0).integers(0, 256, (1, *engine.card.clip_shape_THWC), np.uint8)
    theirs = engine.run(clip_BTHWC, target_B=np.array([TOP_CLASS]))[LOGITS]
    with torch.no_grad():
        ours = classifier(torch.from_numpy(clip_BTHWC))[0].numpy()
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    if not difference <= LOGITS_TOLERANCE:
        raise ArtifactError(
            "the weights give other logits than the artefact", got=f"{difference:.1e}", allowed=LOGITS_TOLERANCE
        )
