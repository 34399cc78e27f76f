"""What a training starts from, a network that has learnt nothing or a base checkpoint, and what of it learns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from sum3dcam.errors import CheckpointError
from sum3dcam.models import NETWORKS, Classifier, build_network
from sum3dcam.models.checkpoints import Weights, WeightsCard, load_state, load_weights, unnamed_labels
from sum3dcam.models.checkpoints.recognition import own_shapes
from sum3dcam.models.gating import Gated


@dataclass(frozen=True)
class Origin:
    """A network to train, the card of what comes out, the base's digest ("" without one), whether its head is new."""

    classifier: Classifier
    card: WeightsCard
    base_sha256: str = ""
    has_new_head: bool = True


def from_nothing(card: WeightsCard) -> Origin:
    """Random weights; seed torch before."""
    return Origin(_build(card), card)


def from_base(
    base: Path,
    *,
    labels: Sequence[str],
    gates: Sequence[str] | None = None,
    fusion: str | None = None,
    num_frames: int | None = None,
    size_px: int | None = None,
) -> Origin:
    """A checkpoint of any layout that `load_weights` reads, with the gates asked for.

    Its head stays, in its own order of labels, where it is for as many classes and, if the file names them, for these.
    Otherwise head and gates start anew, at random and at zero; seed torch before.

    Raises:
        CheckpointError: as `load_weights`; or a network that sees flow, which no data set here holds.
    """
    weights = load_weights(base, gates=gates, fusion=fusion, num_frames=num_frames, size_px=size_px)
    card = weights.card
    if NETWORKS[card.model].streams != ("rgb",):
        raise CheckpointError("only a network that sees RGB alone can be trained", got=card.model)
    names_them = card.labels != unnamed_labels(len(card.labels))
    if len(card.labels) == len(labels) and (not names_them or set(card.labels) == set(labels)):
        card = replace(card, labels=card.labels if names_them else tuple(labels))
        classifier = _build(card)
        load_state(classifier.network, weights.state)
        return Origin(classifier, card, weights.sha256, has_new_head=False)
    card = replace(card, labels=tuple(labels))
    classifier = _build(card)
    bare = classifier.network.base if isinstance(classifier.network, Gated) else classifier.network
    load_state(bare, {**bare.state_dict(), **_below_head(weights)})
    return Origin(classifier, card, weights.sha256)


def freeze(origin: Origin, *, trainable: str) -> None:
    """Leaves gradients to what is to learn; `trainable` is a key of TRAINABLE.

    Raises:
        CheckpointError: nothing of that kind is there, or a head that has learnt nothing would never learn.
    """
    TRAINABLE[trainable](origin)


def _gates_only(origin: Origin) -> None:
    network = origin.classifier.network
    if not isinstance(network, Gated):
        raise CheckpointError(
            "the network has no gates to train; give --gates, or --trainable all",
            got="no gates",
            allowed=list(NETWORKS[origin.card.model].taps),
        )
    if origin.has_new_head:
        raise CheckpointError(
            "the head is new, because the base is of none or of other classes, and gates alone would leave it as it "
            "is; give --trainable all, or a base that was trained on these classes",
            allowed=f"{len(origin.card.labels)} classes: {', '.join(origin.card.labels[:5])}, ...",
        )
    origin.classifier.requires_grad_(False)
    network.gates.requires_grad_(True)


TRAINABLE: Mapping[str, Callable[[Origin], None]] = {
    "gates": _gates_only,
    "all": lambda origin: None,
}


def _build(card: WeightsCard) -> Classifier:
    spec = NETWORKS[card.model]
    network = build_network(
        spec, num_classes=len(card.labels), num_frames=card.num_frames, gates=card.gates, fusion=card.fusion
    )
    return Classifier(network, mean=spec.mean, std=spec.std)


def _below_head(weights: Weights) -> dict[str, Tensor]:
    """The bare network's tensors but for its head's: those whose shape the number of classes changes."""
    spec, num_classes = NETWORKS[weights.card.model], len(weights.card.labels)
    shapes, others = own_shapes(spec, num_classes), own_shapes(spec, num_classes + 1)
    bare = {key.removeprefix("base."): tensor for key, tensor in weights.state.items()}
    return {key: tensor for key, tensor in bare.items() if key in shapes and shapes[key] == others[key]}
