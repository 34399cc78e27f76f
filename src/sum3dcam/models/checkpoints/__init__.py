"""Reading and writing weights: the project's own safetensors and the public checkpoints' layouts.

The project's own file is a safetensors whose header says what it is (`WeightsCard`). Any other is recognised by its
keys and shapes (`recognition`); no container is believed before it is checked (`container`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from sum3dcam.errors import CheckpointError
from sum3dcam.models import NETWORKS, Classifier, build_network
from sum3dcam.models.checkpoints.container import read_container
from sum3dcam.models.checkpoints.recognition import differences, recognise, shapes_of, shortened
from sum3dcam.models.gating import FUSIONS, Gated

CARD_KEY = "sum3dcam_weights"
DEFAULT_FUSION = "sum"


@dataclass(frozen=True)
class WeightsCard:
    """What a weights file holds."""

    model: str
    labels: tuple[str, ...]
    gates: tuple[str, ...]
    num_frames: int
    size_px: int
    fusion: str = DEFAULT_FUSION


@dataclass(frozen=True)
class Weights:
    """A state dict for `build_network`'s module, with the card that says how to build it.

    `layout` is the public layout's name, "" for the project's own; `sha256` the file's, joined by "+" for several.
    """

    card: WeightsCard
    state: Mapping[str, Tensor]
    layout: str
    sha256: str


def unnamed_labels(num_classes: int) -> tuple[str, ...]:
    """The labels of a head whose file names none."""
    return tuple(f"class_{index}" for index in range(num_classes))


def save_weights(path: Path, *, network: nn.Module, card: WeightsCard) -> None:
    """Writes the network's state (without batch counters) and its card as one safetensors file."""
    state = {
        name: tensor.detach().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(state, metadata={CARD_KEY: json.dumps(asdict(card))}))


def load_weights(
    *paths: Path,
    model: str | None = None,
    gates: Sequence[str] | None = None,
    fusion: str | None = None,
    labels: Sequence[str] | None = None,
    num_frames: int | None = None,
    size_px: int | None = None,
) -> Weights:
    """Weights of one network from a file in any known layout, or of a two-stream network from one file per stream.

    What is None is what the file says or, in a public layout, what the network was trained on: no gates, and labels
    class_0, class_1, ... Gates asked for on a file without any start at zero, so the logits stay the base network's.

    Raises:
        CheckpointError: no file, not a checkpoint, a pickle that holds more than tensors, weights of no network or of
            another one than `model`, other gates, clip length or number of labels than asked for.
    """
    wanted = model if len(paths) == 1 else None
    parts = [_read(path, model=wanted) for path in paths]
    weights = parts[0] if len(parts) == 1 else _joined(parts, model=model)
    card = weights.card
    if labels is not None:
        if len(labels) != len(card.labels):
            expected = NETWORKS[card.model].label_sets.get(len(card.labels), f"{len(card.labels)} classes")
            raise CheckpointError(
                f"the head has another number of classes than the list has labels; it is one for {expected}",
                got=len(labels),
                allowed=len(card.labels),
            )
        card = replace(card, labels=tuple(labels))
    NETWORKS[card.model].check_taps(gates or (), what="gate")
    if card.gates:
        _check_gates(card, gates=gates, fusion=fusion, num_frames=num_frames)
    else:
        card = replace(card, gates=tuple(gates or ()), fusion=fusion or card.fusion)
    card = replace(card, num_frames=num_frames or card.num_frames, size_px=size_px or card.size_px)
    return replace(weights, card=card)


def build_classifier(weights: Weights) -> Classifier:
    """The network of the weights in eval mode, behind its normalisation.

    Raises:
        CheckpointError: lists missing, unexpected and wrongly shaped keys.
    """
    card, spec = weights.card, NETWORKS[weights.card.model]
    network = build_network(
        spec, num_classes=len(card.labels), num_frames=card.num_frames, gates=card.gates, fusion=card.fusion
    )
    load_state(network, weights.state)
    return Classifier(network, mean=spec.mean, std=spec.std).eval()


def load_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copies a state dict in; a base network's state fits a gated one, whose gates then stay at zero.

    Raises:
        CheckpointError: lists missing, unexpected and wrongly shaped keys, each with got and wanted.
    """
    if isinstance(network, Gated) and not any(name.startswith("base.") for name in state):
        network = network.base
    wanted = shapes_of(network.state_dict())
    problems = differences(shapes_of(state), wanted)
    if problems:
        raise CheckpointError(
            "the weights do not fit the network", got=shortened(problems), allowed=f"{len(wanted)} keys"
        )
    network.load_state_dict(state, strict=False)


def _read(path: Path, *, model: str | None) -> Weights:
    """One file, in whatever layout."""
    container = read_container(path)
    if CARD_KEY in container.metadata:
        card = _own_card(container.metadata[CARD_KEY])
        if model not in (None, card.model):
            raise CheckpointError("the weights are of another model than asked for", got=card.model, allowed=model)
        return Weights(card=card, state=container.state, layout="", sha256=container.sha256)
    found = recognise(container.state, model=model)
    spec = NETWORKS[found.model]
    card = WeightsCard(
        model=found.model,
        labels=unnamed_labels(found.num_classes),
        gates=(),
        num_frames=spec.num_frames,
        size_px=spec.size_px,
    )
    return Weights(card=card, state=found.state, layout=found.layout, sha256=container.sha256)


def _own_card(text: str) -> WeightsCard:
    try:
        raw: dict[str, Any] = json.loads(text)
        raw["labels"], raw["gates"] = tuple(raw["labels"]), tuple(raw["gates"])
        card = WeightsCard(**raw)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"the '{CARD_KEY}' header of the safetensors file is damaged", got=text[:80]) from error
    if card.model not in NETWORKS:
        raise CheckpointError("the weights are of an unknown network", got=card.model, allowed=sorted(NETWORKS))
    sizes = (card.num_frames, card.size_px)
    if (
        not all(type(size) is int and size > 0 for size in sizes)
        or not all(type(label) is str for label in card.labels)
        or not set(card.gates) <= set(NETWORKS[card.model].taps)
        or card.fusion not in FUSIONS
    ):
        raise CheckpointError(f"a value in the '{CARD_KEY}' header of the safetensors file is no such", got=text[:200])
    return card


def _joined(parts: Sequence[Weights], *, model: str | None) -> Weights:
    """The weights of a network of several streams from those of its streams, in any order."""
    models = sorted(part.card.model for part in parts)
    made_of = {name: spec.parts for name, spec in NETWORKS.items() if spec.parts}
    whole = next((name for name, streams in made_of.items() if sorted(streams.values()) == models), None)
    if whole is None or model not in (None, whole):
        raise CheckpointError(
            "several weights files make up one network of several streams, these do not",
            got=models,
            allowed={name: sorted(streams.values()) for name, streams in made_of.items()},
        )
    by_stream = {
        stream: next(part for part in parts if part.card.model == name) for stream, name in made_of[whole].items()
    }
    first, *others = by_stream.values()
    for other in others:
        for fact in ("labels", "num_frames", "size_px", "fusion"):
            got, wanted = getattr(other.card, fact), getattr(first.card, fact)
            if got != wanted:
                raise CheckpointError(f"the streams' weights differ in their {fact}", got=got, allowed=wanted)
    gates = tuple(f"{stream}_{gate}" for stream, part in by_stream.items() for gate in part.card.gates)
    if gates and first.card.fusion != DEFAULT_FUSION:
        # The mean over all gates of both streams is not the sum of the streams' own means.
        raise CheckpointError(
            "gated streams join to one network only where their gates are added", got=first.card.fusion, allowed="sum"
        )
    return Weights(
        card=replace(first.card, model=whole, gates=gates),
        state={
            _joined_key(key, stream=stream, gated=bool(gates)): tensor
            for stream, part in by_stream.items()
            for key, tensor in part.state.items()
        },
        layout=" + ".join(part.layout or "own" for part in by_stream.values()),
        sha256="+".join(part.sha256 for part in by_stream.values()),
    )


def _joined_key(key: str, *, stream: str, gated: bool) -> str:
    """A stream's key in the whole network's state.

    >>> _joined_key("gates.layer3.fc.weight", stream="flow", gated=True)
    'gates.flow_layer3.fc.weight'
    >>> _joined_key("base.Mixed_3b.b0.bn.bias", stream="rgb", gated=True)
    'base.rgb.Mixed_3b.b0.bn.bias'
    """
    if key.startswith("gates."):
        return f"gates.{stream}_{key.removeprefix('gates.')}"
    bare = f"{stream}.{key.removeprefix('base.')}"
    return f"base.{bare}" if gated else bare


def _check_gates(card: WeightsCard, *, gates: Sequence[str] | None, fusion: str | None, num_frames: int | None) -> None:
    """Gates are trained for their taps, their clip length and their fusion: nothing else can be asked of them."""
    if gates is not None and set(gates) != set(card.gates):
        raise CheckpointError("the weights hold other gates than asked for", got=list(gates), allowed=list(card.gates))
    if num_frames not in (None, card.num_frames):
        raise CheckpointError(
            "the gates of these weights are made for another clip length; leave --frames out",
            got=num_frames,
            allowed=card.num_frames,
        )
    if fusion not in (None, card.fusion):
        raise CheckpointError("the gates of these weights are fused otherwise", got=fusion, allowed=card.fusion)
