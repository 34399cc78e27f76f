"""An .onnx artefact with weights of its own drawn anew, stage by stage from the top.

Each weight is stored once: the flipped copies that the backward needs are derived from it by operators of the graph. So
a replaced weight is replaced in the forward and in the backward alike, and the maps are those of the random network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

from sum3dcam.contract import CARD_KEY, LOGITS, Card, grid_name
from sum3dcam.errors import ArtifactError
from sum3dcam.serving.engines import Engine, load_engine

# Operators with learnt inputs at places 1 and 2: weight and bias.
LEARNT = ("Conv", "Gemm")


@dataclass(frozen=True)
class Stage:
    """The names of the weights between two taps; "head": all above the last tap, gates included."""

    name: str
    weights: tuple[str, ...]


def stages(model: onnx.ModelProto, *, card: Card) -> tuple[Stage, ...]:
    """The weights from the top down, grouped by the number of taps whose activation they reach: none is the head, all
    of a stream's taps is the stem. Taps of two streams at the same depth are one stage.

    Raises:
        ArtifactError: the backward holds weights of its own, which would not follow the forward's.
    """
    stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    producers = {name: node for node in model.graph.node for name in node.output}
    forward = _feeding(LOGITS, producers)
    weights = {
        name
        for node in model.graph.node
        if node.op_type in LEARNT and node.output[0] in forward
        for name in node.input[1:3]
        if name in stored
    }
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    apart = {name for node in convolutions for name in _feeding(node.input[1], producers) & stored} - weights
    if apart:
        raise ArtifactError(
            "the backward has weights of its own, which would not be randomised with the forward's; export it again",
            got=sorted(apart),
        )
    reached = {tap: weights & _feeding(grid_name("activation", tap), producers) for tap in card.tap_names}
    depth = {weight: sum(weight in below for below in reached.values()) for weight in weights}
    names: dict[int, list[str]] = {0: ["head"]}
    for tap, below in reached.items():
        names.setdefault(min(depth[weight] for weight in below), []).append(tap)
    return tuple(
        Stage("+".join(names[level]), tuple(sorted(weight for weight in weights if depth[weight] == level)))
        for level in sorted(names)
    )


def permute(model: onnx.ModelProto, *, stage: Stage, rng: np.random.Generator) -> None:
    """Shuffles each of the stage's tensors, in place: every moment of its values stays, what they had learnt goes."""
    wanted = set(stage.weights)
    for tensor in model.graph.initializer:
        if tensor.name in wanted:
            values = numpy_helper.to_array(tensor)
            shuffled = rng.permutation(values.reshape(-1)).reshape(values.shape)
            tensor.CopyFrom(numpy_helper.from_array(shuffled, tensor.name))


def read_stages(artifact: Path) -> tuple[onnx.ModelProto, tuple[Stage, ...]]:
    """The model and its `stages`.

    Raises:
        ArtifactError: not an .onnx file, no card, or as `stages`.
    """
    if artifact.suffix != ".onnx":
        raise ArtifactError(
            "only an .onnx artefact's weights can be replaced; write one with export/to_onnx.py",
            got=artifact.name,
            allowed=".onnx",
        )
    model = onnx.load(artifact)
    properties = {prop.key: prop.value for prop in model.metadata_props}
    return model, stages(model, card=Card.from_json(properties.get(CARD_KEY)))


def cascade(artifact: Path, *, seed: int, device: str, num_threads: int) -> Mapping[str, Engine]:
    """{stage: the artefact with the weights of that stage and of all above it permuted}, from the top down; all are
    loaded.

    Raises:
        ArtifactError: as `read_stages` and `load_engine`.
    """
    model, found = read_stages(artifact)
    rng = np.random.default_rng(seed)
    engines = {}
    with TemporaryDirectory() as folder:
        for stage in found:
            path = Path(folder) / f"{stage.name}.onnx"
            permute(model, stage=stage, rng=rng)
            onnx.save(model, path)
            engines[stage.name] = load_engine(path, device=device, num_threads=num_threads)
    return engines


def _feeding(name: str, producers: Mapping[str, NodeProto]) -> set[str]:
    """The names of all tensors on which that one depends, and its own."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        tensor = waiting.pop()
        if tensor not in found:
            found.add(tensor)
            waiting += producers[tensor].input if tensor in producers else []
    return found
