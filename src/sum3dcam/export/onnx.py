"""The joint graph as an ONNX file of stock operators, each weight stored once.

The graph is traced down to operators, each of which `emitters` writes as nodes. The flipped weights of the backward are
the Transpose and Slice nodes that derive them, which a runtime folds when it loads the file.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper
from torch import fx, nn

from sum3dcam.contract import (
    CARD_KEY,
    CLIP,
    EXPLAIN_GRAPH,
    EXPLAINED,
    GRIDS,
    LOGITS,
    SALIENCY,
    TARGET,
    Card,
    grid_name,
)
from sum3dcam.errors import ArtifactError
from sum3dcam.export.emission import Emission
from sum3dcam.export.emitters import EMITTERS, NAMED_FUNCTIONS

OPSET = 20
IR_VERSION = 10  # of ONNX 1.16, which every runtime of the last two years reads


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph: (B, *item_shape) of an element type of onnx.TensorProto."""

    name: str
    kind: int
    item_shape: tuple[int, ...]


def signature(card: Card) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and the outputs of the card's graph, in their order."""
    clip = TensorSpec(CLIP, TensorProto.UINT8, card.clip_shape_THWC)
    target = TensorSpec(TARGET, TensorProto.INT64, ())
    shapes: Mapping[str, tuple[int, ...]] = {
        LOGITS: (len(card.labels),),
        EXPLAINED: (),
        **{name: card.clip_shape_THWC[:3] for name in card.outputs if name.startswith(SALIENCY)},
        **{grid_name(grid, tap.name): tap.grid_thw for tap in card.taps for grid in GRIDS},
    }
    kinds = {EXPLAINED: TensorProto.INT64}
    outputs = tuple(TensorSpec(name, kinds.get(name, TensorProto.FLOAT), shapes[name]) for name in card.outputs)
    return (clip, target) if card.graph == EXPLAIN_GRAPH else (clip,), outputs


def write_onnx(model: onnx.ModelProto, path: Path, *, card: Card) -> None:
    """Writes a model of `to_model` with another card: the one that holds the parity rows."""
    helper.set_model_props(model, {CARD_KEY: card.to_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    onnx.save(model, partial)
    partial.replace(path)


def to_model(graph: nn.Module, *, card: Card) -> onnx.ModelProto:
    """The ONNX model of `graph` (LabelsGraph or ExplainGraph), with its card, past onnx's full check.

    Raises:
        ArtifactError: an operator without an emitter; names it.
    """
    traced = _trace(graph)
    emit = Emission()
    values: dict[fx.Node, Any] = {}
    results: Sequence[fx.Node] = ()
    for node in traced.nodes:
        if node.op == "placeholder":
            values[node] = node.target
        elif node.op == "get_attr":
            tensor = operator.attrgetter(node.target)(graph)
            values[node] = emit.weight(node.target, tensor.detach().cpu().numpy())
        elif node.op == "output":
            results = node.args[0]
        else:
            emitter = EMITTERS.get(node.target)
            if emitter is None:
                raise ArtifactError(
                    "the graph holds an operator without an emitter; add one to export/emitters.py",
                    got=str(node.target),
                )
            args = fx.node.map_arg(node.args, values.__getitem__)
            kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
            values[node] = emitter(emit, *args, **kwargs)
    for result, name in zip(results, card.outputs, strict=True):
        emit.nodes.append(helper.make_node("Identity", [values[result]], [name]))
    inputs, outputs = ([_value_info(tensor) for tensor in tensors] for tensors in signature(card))
    body = helper.make_graph(emit.nodes, f"{card.model}-{card.graph}", inputs, outputs, emit.initializers)
    model = helper.make_model(
        body,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="sum3dcam",
        producer_version=card.package_version,
    )
    helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return model


class _Tracer(fx.Tracer):
    """Inlines the modules down to tensor calls and the named functions of the joint graph."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=NAMED_FUNCTIONS)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return False


def _trace(graph: nn.Module) -> fx.Graph:
    traced = _Tracer().trace(graph)
    traced.eliminate_dead_code()
    return traced


def _value_info(tensor: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, tensor.kind, ["batch", *tensor.item_shape])
