"""What a file is, in plain values: a checkpoint of any layout, an artefact, an archive, or a network by its name."""

import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sum3dcam.artefact import ARTIFACT_SUFFIXES, read_card
from sum3dcam.contract import CARD_KEY, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.models import NETWORKS, build_network
from sum3dcam.models.checkpoints import Weights, load_weights
from sum3dcam.models.gating import Gated
from sum3dcam.models.spec import NetworkSpec

ARCHIVE_MEMBER = "MAR-INF/MANIFEST.json"
SHOWN_LABELS = 5


@dataclass(frozen=True)
class Layer:
    """One row of a layer table: a module of the network, what it computes and what comes out, (c,t,h,w)."""

    name: str
    convolutions: str
    output_cthw: tuple[int, ...]
    parameters: int
    tap: str


@dataclass(frozen=True)
class Inspection:
    """`facts` by name, in the order to show them; parity rows of an artefact; layers of a network."""

    kind: str
    facts: Mapping[str, Any]
    parity: tuple[Mapping[str, Any], ...] = ()
    layers: tuple[Layer, ...] = ()


def inspect(what: str) -> tuple[Inspection, ...]:
    """One inspection; of an archive one for each artefact inside.

    Raises:
        CheckpointError, ArtifactError: neither a network's name nor a file that can be read as one of these.
    """
    path = Path(what)
    if what in NETWORKS and not path.is_file():
        return (of_network(what),)
    members = _members(path)
    if ARCHIVE_MEMBER in members:
        return _of_archive(path, members)
    if path.suffix == ".onnx" or any(name.endswith(f"/extra/{CARD_KEY}") for name in members):
        return (of_card(read_card(path)),)
    return (of_weights(load_weights(path)),)


def of_network(model: str) -> Inspection:
    """A network as it was published, with the classes of its first label set."""
    spec = NETWORKS[model]
    num_classes = next(iter(spec.label_sets))
    return Inspection(
        kind="network",
        facts=_network_facts(
            spec, model=model, num_classes=num_classes, num_frames=spec.num_frames, size_px=spec.size_px, gates=()
        ),
        layers=layers(spec, num_classes=num_classes, num_frames=spec.num_frames, size_px=spec.size_px),
    )


def of_weights(weights: Weights) -> Inspection:
    """A weights file that fits a network."""
    card = weights.card
    spec = NETWORKS[card.model]
    facts = _network_facts(
        spec,
        model=card.model,
        num_classes=len(card.labels),
        num_frames=card.num_frames,
        size_px=card.size_px,
        gates=card.gates,
    )
    return Inspection(
        kind="weights",
        facts={
            **facts,
            "layout": weights.layout or "sum3dcam",
            "labels": _shown_labels(card.labels),
            "sha256": weights.sha256,
        },
        layers=layers(
            spec,
            num_classes=len(card.labels),
            num_frames=card.num_frames,
            size_px=card.size_px,
            gates=card.gates,
        ),
    )


def of_card(card: Card) -> Inspection:
    """An artefact, by its own card."""
    return Inspection(
        kind=f"artefact, {card.graph} graph",
        facts={
            "network": card.model,
            "classes": len(card.labels),
            "labels": _shown_labels(card.labels),
            "clip": _shown_clip(card.num_frames, card.size_px),
            "streams": " + ".join(card.streams),
            "preprocessing": _shown_preprocessing(card.preprocessing, card.frames_per_second),
            "gates": ", ".join(card.gates) or "none",
            "taps": {tap.name: f"{tap.channels} x {_shown_size(tap.grid_thw)}" for tap in card.taps},
            "outputs": ", ".join(card.outputs),
            "precision": card.precision,
            "weights sha256": card.weights_sha256,
            "made by": f"sum3dcam {card.package_version}, contract {card.contract_version}",
        },
        parity=card.parity,
    )


def _of_archive(path: Path, members: Sequence[str]) -> tuple[Inspection, ...]:
    found = []
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        for member in members:
            if Path(member).suffix in ARTIFACT_SUFFIXES and Path(member).name == member:
                found.append(of_card(read_card(Path(archive.extract(member, folder)))))
    if not found:
        raise ArtifactError("the archive holds no artefact", got=list(members)[:10], allowed=list(ARTIFACT_SUFFIXES))
    return tuple(found)


def _members(path: Path) -> Sequence[str]:
    """The names in a zip, none where the file is no zip."""
    if not zipfile.is_zipfile(path):
        return ()
    with zipfile.ZipFile(path) as file:
        return file.namelist()


def _network_facts(
    spec: NetworkSpec, *, model: str, num_classes: int, num_frames: int, size_px: int, gates: Sequence[str]
) -> dict[str, Any]:
    with torch.device("meta"):
        network = build_network(spec, num_classes=num_classes, num_frames=num_frames, gates=gates)
    return {
        "network": model,
        "parameters": describe_parameters(network),
        "classes": f"{num_classes} ({spec.label_sets[num_classes]})" if num_classes in spec.label_sets else num_classes,
        "clip": _shown_clip(num_frames, size_px),
        "streams": " + ".join(spec.streams),
        "mean": spec.mean,
        "std": spec.std,
        "preprocessing": spec.preprocessing,
        "gates": ", ".join(gates) or "none",
    }


def describe_parameters(network: nn.Module) -> str:
    """The number of parameters, gate by gate where there are gates."""
    if not isinstance(network, Gated):
        return f"{_count(network):,}"
    gates = [f"gate {name} {_count(gate):,}" for name, gate in network.gates.items()]
    return f"{_count(network):,} (base {_count(network.base):,}, {', '.join(gates)})"


def layers(
    spec: NetworkSpec, *, num_classes: int, num_frames: int, size_px: int, gates: Sequence[str] = ()
) -> tuple[Layer, ...]:
    """The network's modules in their order, for clips of this shape; allocates nothing."""
    outputs: dict[str, Tensor] = {}
    with torch.device("meta"), torch.no_grad():
        network = build_network(spec, num_classes=num_classes, num_frames=num_frames, gates=gates).eval()
        for name, module in _blocks(network, spec=spec):
            module.register_forward_hook(partial(_note_output, outputs, name))
        logits, taps = network(torch.zeros(1, len(spec.mean), num_frames, size_px, size_px))
    tap_of = {_row_of(tap, outputs): name for name, tap in taps.items()}
    return tuple(
        Layer(
            name=name,
            convolutions=_convolutions(module),
            # A head may use its parameters without being called.
            output_cthw=tuple(outputs.get(name, logits).shape[1:]),
            parameters=_count(module),
            tap=tap_of.get(name, ""),
        )
        for name, module in _blocks(network, spec=spec)
    )


def _blocks(network: nn.Module, *, spec: NetworkSpec) -> Iterator[tuple[str, nn.Module]]:
    """The modules that make a row each: the network's children, those of its parts, and its gates."""
    base = network.base if isinstance(network, Gated) else network
    for stream in spec.parts or ("",):
        for name, module in base.get_submodule(stream).named_children():
            yield f"{stream}.{name}" if stream else name, module
    if isinstance(network, Gated):
        for name, gate in network.gates.items():
            yield f"gate {name}", gate


def _note_output(outputs: dict[str, Tensor], name: str, module: nn.Module, _: Any, output: Tensor) -> None:
    outputs[name] = output


def _row_of(tap: Tensor, outputs: Mapping[str, Tensor]) -> str:
    """The row that gives the tap, or behind whose output only a ReLU stands: the last one of the tap's shape."""
    same = [name for name, output in outputs.items() if output is tap]
    return same[0] if same else [name for name, output in outputs.items() if output.shape == tap.shape][-1]


def _convolutions(module: nn.Module) -> str:
    """What a block computes: the kernels and channels of its first repetition, and how often it repeats."""
    repeats = len(module) if isinstance(module, nn.Sequential) else 1
    first = module[0] if isinstance(module, nn.Sequential) else module
    texts = [_text(part) for name, part in first.named_modules() if "downsample" not in name]
    text = ", ".join(text for text in texts if text)
    return f"{repeats} x [{text}]" if isinstance(module, nn.Sequential) else text


def _text(module: nn.Module) -> str:
    if isinstance(module, nn.Conv3d):
        groups = f" in {module.groups} groups" if module.groups > 1 else ""
        stride = f" stride {_shown_size(module.stride)}" if set(module.stride) != {1} else ""
        return f"{_shown_size(module.kernel_size)} {module.out_channels}{groups}{stride}"
    if isinstance(module, nn.MaxPool3d):
        return f"max pool {module.kernel_size} stride {module.stride}"
    if isinstance(module, nn.Linear):
        return f"linear {module.in_features} to {module.out_features}"
    return ""


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _shown_size(sizes: Sequence[int]) -> str:
    """
    >>> _shown_size((16, 56, 56))
    '16x56x56'
    """
    return "x".join(str(size) for size in sizes)


def _shown_clip(num_frames: int, size_px: int) -> str:
    return f"{num_frames} frame{'s' if num_frames > 1 else ''} of {size_px}x{size_px} px"


def _shown_labels(labels: Sequence[str]) -> str:
    rest = len(labels) - SHOWN_LABELS
    return ", ".join(labels[:SHOWN_LABELS]) + (f", ... and {rest} more" if rest > 0 else "")


def _shown_preprocessing(name: str, frames_per_second: float | None) -> str:
    return f"{name}, {f'{frames_per_second:g} frames per second' if frames_per_second else 'every frame'}"
