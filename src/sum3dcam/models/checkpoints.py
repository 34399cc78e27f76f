"""Reading and writing weights: the project's own safetensors and the public checkpoints' layouts.

The project's own file is a safetensors whose header says what it is (`WeightsCard`). A public checkpoint is a pickle
that holds tensors and numbers alone; it is opened with `weights_only=True`, so no code in it can run.
"""

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sum3dcam.errors import CheckpointError
from sum3dcam.models import NETWORKS, Classifier, build_network
from sum3dcam.models.gating import Gated

CARD_KEY = "sum3dcam_weights"


@dataclass(frozen=True)
class WeightsCard:
    """What a weights file holds."""

    model: str
    labels: tuple[str, ...]
    gates: tuple[str, ...]
    num_frames: int
    size_px: int
    fusion: str = "sum"


@dataclass(frozen=True)
class Weights:
    """A state dict for `build_network`'s module, with the card that says how to build it."""

    card: WeightsCard
    state: Mapping[str, Tensor]
    sha256: str


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
    path: Path,
    *,
    model: str,
    gates: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    num_frames: int = 16,
    size_px: int = 112,
) -> Weights:
    """Weights of `model` from a file in any known layout; the layout is told by the content, never by the name.

    `labels` and `gates` override what the file says; a file in a public layout has no labels, so they become
    class_0, class_1, ... when none are given.

    Raises:
        CheckpointError: no file, not a checkpoint, a pickle that holds more than tensors, another network's weights.
    """
    if not path.is_file():
        raise CheckpointError("no such weights file", got=str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if _is_pickle(path):
        state = released_state(path)
        head = next((tensor for name, tensor in state.items() if name == "fc.weight"), None)
        if head is None:
            raise CheckpointError(
                f"the checkpoint has no head 'fc.weight', so it is not of {model}",
                got=_some(state),
                allowed="fc.weight",
            )
        card = WeightsCard(
            model=model,
            labels=tuple(f"class_{index}" for index in range(head.shape[0])),
            gates=(),
            num_frames=num_frames,
            size_px=size_px,
        )
    else:
        card, state = _own_layout(path)
        if card.model != model:
            raise CheckpointError(
                "the weights are of another model; name it with --model", got=card.model, allowed=model
            )
    num_classes = len(card.labels)
    if labels is not None:
        if len(labels) != num_classes:
            raise CheckpointError(
                "the label file has another number of lines than the head has classes",
                got=len(labels),
                allowed=num_classes,
            )
        card = replace(card, labels=tuple(labels))
    if gates is not None and set(gates) != set(card.gates):
        if card.gates:
            raise CheckpointError(
                "the weights hold other gates than asked for", got=list(gates), allowed=list(card.gates)
            )
        # A base checkpoint into a gated network: the gates start at zero.
        card = replace(card, gates=tuple(gates), num_frames=num_frames)
    return Weights(card=card, state=state, sha256=digest)


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
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    given = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    problems = [f"missing {name} {tuple(wanted[name].shape)}" for name in wanted if name not in given]
    problems += [f"unexpected {name} {tuple(given[name].shape)}" for name in given if name not in wanted]
    problems += [
        f"shape of {name}: got {tuple(given[name].shape)}, wanted {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    if problems:
        shown = problems[:10] + ([f"... and {len(problems) - 10} more"] if len(problems) > 10 else [])
        raise CheckpointError("the weights do not fit the network", got=shown, allowed=f"{len(wanted)} keys")
    network.load_state_dict(given, strict=False)


def released_state(path: Path) -> dict[str, Tensor]:
    """The state dict of a released pickle ({epoch, arch, state_dict, optimizer} or bare), 'module.' removed."""
    try:
        with path.open("rb") as file:  # given a name, torch.load would go by its suffix
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            "the pickle holds more than tensors and was not opened, because opening it could run code; convert it "
            "where you trust it: torch.save(torch.load(FILE)['state_dict'], NEW)",
            got=str(path),
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, OSError) as error:
        raise CheckpointError("the checkpoint is damaged or cut off", got=str(path)) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise CheckpointError("the file holds no state dict of tensors", got=type(content).__name__)
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def _is_pickle(path: Path) -> bool:
    """A zip (torch.save since 1.6) or a bare pickle (before).

    A safetensors starts with its header's length, whose first byte may be a pickle's 0x80, and goes on with a brace.
    """
    with path.open("rb") as file:
        start = file.read(9)
    return start.startswith(b"PK\x03\x04") or (start.startswith(b"\x80") and start[8:] != b"{")


def _own_layout(path: Path) -> tuple[WeightsCard, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(CARD_KEY)
            state: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError("neither a pickle nor a readable safetensors file", got=str(path)) from error
    if text is None:
        raise CheckpointError(f"the safetensors file has no '{CARD_KEY}' header; it was not made by this project")
    try:
        raw: dict[str, Any] = json.loads(text)
        raw["labels"], raw["gates"] = tuple(raw["labels"]), tuple(raw["gates"])
        return WeightsCard(**raw), state
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the '{CARD_KEY}' header of the safetensors file is damaged", got=text[:80]) from error


def _some(state: Mapping[str, Tensor]) -> list[str]:
    return list(state)[:5]
