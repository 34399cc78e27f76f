"""Lower precision: a captured graph's convolutions, and what lies between them, in bfloat16.

As torch.autocast does for eager code, but batch norms are folded before that, and the weights are stored rounded:
nothing of them is cast at a call. Pixels, heads, the gradient's way through these, grids and maps stay float32.
"""

import torch
from torch import fx

from sum3dcam.export.joint import ExplainGraph, LabelsGraph

aten = torch.ops.aten

_CONVOLUTIONS = (aten.conv3d.default, aten.conv_transpose3d.input)
# What takes float32 alone: means over places, and what classifies them.
_HEADS = (aten.mean.dim, aten.linear.default, aten.matmul.default)


def lower_precision(graph: LabelsGraph | ExplainGraph, dtype: torch.dtype) -> None:
    """Rewrites a float32 graph in place: its convolutions compute in `dtype`; its inputs and outputs are as before."""
    module = graph.network if isinstance(graph, LabelsGraph) else graph.joint
    _Lowering(module, dtype).rewrite()


class _Lowering:
    """Casts where one kind of operator meets the other; an operator of neither computes as what reaches it does."""

    def __init__(self, module: fx.GraphModule, dtype: torch.dtype) -> None:
        self._module = module
        self._dtype = dtype
        self._low: set[fx.Node] = set()  # what is in `dtype`, and what came of it
        self._casts: dict[tuple[fx.Node, torch.dtype], fx.Node] = {}

    def rewrite(self) -> None:
        graph = self._module.graph
        for conv in graph.find_nodes(op="call_function", target=aten.conv3d.default):
            for weight in conv.args[1:3]:
                if isinstance(weight, fx.Node) and weight.op == "get_attr":
                    parameter = self._module.get_parameter(str(weight.target))
                    parameter.data = parameter.data.to(self._dtype)
                    self._low.add(weight)
        for node in list(graph.nodes):
            if node.op == "output" or node.target in _HEADS:
                self._cast_inputs(node, torch.float32)
            elif node.target in _CONVOLUTIONS or self._low.intersection(node.all_input_nodes):
                self._cast_inputs(node, self._dtype)
                self._low.add(node)
        graph.lint()
        self._module.recompile()

    def _cast_inputs(self, node: fx.Node, dtype: torch.dtype) -> None:
        for source in node.all_input_nodes:
            if (source in self._low) != (dtype == self._dtype):
                node.replace_input_with(source, self._cast(source, dtype))

    def _cast(self, source: fx.Node, dtype: torch.dtype) -> fx.Node:
        if (source, dtype) not in self._casts:
            with self._module.graph.inserting_after(source):
                self._casts[source, dtype] = self._module.graph.call_function(aten.to.dtype, (source, dtype))
        return self._casts[source, dtype]
