"""The joint graph: one forward and one partial backward as plain operators, no autograd.

The network's forward is captured by torch.export, batch norms are folded into their convolutions, and the backward
from the explained logit down to the lowest tap is appended with the rules of `vjp`.
"""

import copy
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from sum3dcam.attribution.grids import Saliency, explained_class, tap_grids
from sum3dcam.contract import EXPLAIN_GRAPH, EXPLAINED, LOGITS, Tap, output_names
from sum3dcam.errors import ArtifactError
from sum3dcam.export.vjp import RULES, transpose_weight
from sum3dcam.models import Classifier

aten = torch.ops.aten


class LabelsGraph(nn.Module):
    """clip uint8 (B,T,H,W,C) -> (logits,)."""

    def __init__(self, forward_graph: fx.GraphModule) -> None:
        super().__init__()
        self.network = forward_graph

    def forward(self, clip: Tensor) -> tuple[Tensor]:
        return (self.network(clip),)


class ExplainGraph(nn.Module):
    """clip uint8 (B,T,H,W,C), target int64 (B,) -> the outputs of `contract.output_names`, in that order."""

    def __init__(self, joint: fx.GraphModule, *, taps: tuple[Tap, ...], saliency: Saliency) -> None:
        super().__init__()
        self.joint = joint
        self.taps = taps
        self.saliency = saliency

    def forward(self, clip: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        logits, explained, activations, gradients = self.joint(clip, target)
        grids: dict[str, Tensor] = {}
        for tap, activation, gradient in zip(self.taps, activations, gradients, strict=True):
            grids |= tap_grids(activation, gradient, tap=tap.name)
        named = {LOGITS: logits, EXPLAINED: explained, **self.saliency(grids), **grids}
        return tuple(named[name] for name in output_names(EXPLAIN_GRAPH, self.taps))


def labels_graph(classifier: Classifier, *, clip_BTHWC: Tensor) -> LabelsGraph:
    """The forward alone, batch norms folded."""
    graph, module, logits, _ = _capture(classifier, taps=(), clip_BTHWC=clip_BTHWC)
    graph.output(logits)
    return LabelsGraph(_finish(module, graph))


def explain_graph(classifier: Classifier, *, taps: tuple[Tap, ...], clip_BTHWC: Tensor) -> ExplainGraph:
    """Forward and partial backward to `taps`, in the dtype of the classifier's weights.

    Raises:
        ArtifactError: the network uses an operator that `vjp.RULES` has no rule for; names it.
    """
    graph, module, logits, activations = _capture(classifier, taps=[tap.name for tap in taps], clip_BTHWC=clip_BTHWC)
    _index_pools(graph)
    (clip,) = [node for node in graph.nodes if node.op == "placeholder"]
    with graph.inserting_after(clip):
        target = graph.placeholder("target")
    explained = graph.call_function(explained_class, (logits, target))
    num_classes = logits.meta["val"].shape[1]
    module.register_buffer("classes_K", torch.arange(num_classes))
    dtype = next(classifier.parameters()).dtype
    module.register_buffer("one", torch.ones((), dtype=dtype))
    seed = graph.call_function(one_hot, (explained, graph.get_attr("classes_K"), graph.get_attr("one")))
    gradients = _append_backward(graph, output=logits, seed=seed, taps=activations)
    graph.output((logits, explained, tuple(activations), tuple(gradients)))
    num_frames, size_px = clip_BTHWC.shape[1:3]
    saliency = Saliency(taps, num_frames=num_frames, size_px=size_px, dtype=dtype)
    return ExplainGraph(_finish(module, graph), taps=taps, saliency=saliency)


def one_hot(explained_B: Tensor, classes_K: Tensor, one: Tensor) -> Tensor:
    """(B,K), the seed of the backward: 1 at the explained class."""
    return torch.where(explained_B.unsqueeze(1) == classes_K, one, torch.zeros_like(one))


def fold_weights(explain: ExplainGraph) -> ExplainGraph:
    """A copy in which everything that depends on weights alone is stored instead of computed at each call."""
    folded = copy.deepcopy(explain)
    joint = folded.joint
    for index, node in enumerate(list(joint.graph.nodes)):
        if node.target is not transpose_weight:
            continue
        weight, groups = node.args
        name = f"flipped_{index}"
        joint.register_buffer(name, transpose_weight(joint.get_parameter(weight.target), groups).contiguous())
        with joint.graph.inserting_before(node):
            stored = joint.graph.get_attr(name)
        node.replace_all_uses_with(stored)
        joint.graph.erase_node(node)
    joint.recompile()
    return folded


class _TapsInOrder(nn.Module):
    def __init__(self, classifier: Classifier, taps: Sequence[str]) -> None:
        super().__init__()
        self.classifier = classifier
        self.taps = taps

    def forward(self, clip: Tensor) -> tuple[Tensor, ...]:
        logits, taps = self.classifier(clip)
        return (logits, *(taps[name] for name in self.taps))


def _capture(
    classifier: Classifier, *, taps: Sequence[str], clip_BTHWC: Tensor
) -> tuple[fx.Graph, nn.Module, fx.Node, list[fx.Node]]:
    """The forward as ATen calls with a dynamic batch: graph without output, owner of the weights, logits, taps."""
    exported = torch.export.export(
        _TapsInOrder(classifier.eval(), taps), (clip_BTHWC,), dynamic_shapes={"clip": {0: torch.export.Dim.DYNAMIC}}
    )
    source = exported.module(check_guards=False)
    graph = fx.Graph()
    outputs: Any = graph.graph_copy(source.graph, val_map={})
    logits, *activations = outputs
    for check in graph.find_nodes(op="call_function", target=aten._assert_tensor_metadata.default):
        graph.erase_node(check)
    owner = nn.Module()
    for node in graph.find_nodes(op="get_attr"):
        name = node.target.replace(".", "_")
        tensor = operator.attrgetter(node.target)(source)
        node.target = name
        owner.register_parameter(name, nn.Parameter(tensor.detach().clone(), requires_grad=False))
    _fold_batch_norms(graph, owner)
    return graph, owner, logits, activations


def _finish(owner: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    graph.eliminate_dead_code()
    graph.lint()
    return fx.GraphModule(owner, graph)


def _fold_batch_norms(graph: fx.Graph, owner: nn.Module) -> None:
    """conv -> batch_norm becomes one conv; the arithmetic is float64, so it costs one rounding."""
    for norm in graph.find_nodes(op="call_function", target=aten.batch_norm.default):
        conv = norm.args[0]
        if conv.target is not aten.conv3d.default or len(conv.users) != 1:
            raise ArtifactError("a batch norm does not directly follow a convolution of its own", got=norm.name)
        gamma, beta, mean, variance = (owner.get_parameter(arg.target).double() for arg in norm.args[1:5])
        scale = gamma / torch.sqrt(variance + norm.args[7])
        weight_node, bias_node = conv.args[1], conv.args[2] if len(conv.args) > 2 else None
        weight = owner.get_parameter(weight_node.target)
        bias = 0 if bias_node is None else owner.get_parameter(bias_node.target).double()
        shift = (beta + (bias - mean) * scale).to(weight.dtype)
        weight.copy_((weight.double() * scale.view(-1, 1, 1, 1, 1)).to(weight.dtype))
        shift_name = f"{norm.name}_shift"
        owner.register_parameter(shift_name, nn.Parameter(shift, requires_grad=False))
        with graph.inserting_before(conv):
            shift_node = graph.get_attr(shift_name)
        shift_node.meta["val"] = norm.args[2].meta["val"]
        conv.args = (conv.args[0], weight_node, shift_node, *conv.args[3:])
        norm.replace_all_uses_with(conv)
        graph.erase_node(norm)


def _index_pools(graph: fx.Graph) -> None:
    """Max pools run once, for values and indices."""
    for pool in graph.find_nodes(op="call_function", target=aten.max_pool3d.default):
        with graph.inserting_before(pool):
            pair = graph.call_function(aten.max_pool3d_with_indices.default, pool.args)
            values = graph.call_function(operator.getitem, (pair, 0))
        values.meta = dict(pool.meta)
        pool.replace_all_uses_with(values)
        graph.erase_node(pool)


def _append_backward(graph: fx.Graph, *, output: fx.Node, seed: fx.Node, taps: Sequence[fx.Node]) -> list[fx.Node]:
    """d output / d tap for each tap; visits only what lies between a tap and the output."""
    forward = list(graph.nodes)
    above: set[fx.Node] = set()  # depends on a tap, or is one
    for node in forward:
        if node in taps or any(parent in above for parent in node.all_input_nodes):
            above.add(node)
    arriving: dict[fx.Node, list[fx.Node]] = {output: [seed]}
    gradients: dict[fx.Node, fx.Node] = {}
    for node in reversed(forward):
        if node not in arriving:
            continue
        gradient, *more = arriving[node]
        for term in more:
            gradient = graph.call_function(aten.add.Tensor, (gradient, term))
        gradients[node] = gradient
        if not any(parent in above for parent in node.all_input_nodes):
            continue
        rule = RULES.get(node.target)
        if rule is None:
            raise ArtifactError(
                "the network uses an operator without a backward rule; add one to export/vjp.py",
                got=str(node.target),
                allowed=sorted(str(target) for target in RULES),
            )
        pairs = rule(node, gradient, lambda function, *args: graph.call_function(function, args))
        for parent, part in pairs:
            if parent in above:
                arriving.setdefault(parent, []).append(part)
    return [gradients[tap] for tap in taps]
