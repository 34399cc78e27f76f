"""Backward rules: for each forward operator, the plain operators that carry a gradient from its output to its input.

A rule appends nodes to the graph and gives the gradient for each input that needs one. Only activations are
differentiated, never weights. Nothing here may contain the batch size: it stays dynamic.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, fx

aten = torch.ops.aten


class Append(Protocol):
    """Appends one call to the graph being built and gives its node."""

    def __call__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> fx.Node: ...


# (forward node, gradient at its output, append) -> pairs of an input and the gradient that reaches it
Gradients = Sequence[tuple[fx.Node, fx.Node]]
Rule = Callable[[fx.Node, fx.Node, Append], Gradients]


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """The node's sizes behind the batch axis, which are all static."""
    return tuple(int(size) for size in node.meta["val"].shape[1:])


def argument(node: fx.Node, position: int, default: Any = None) -> Any:
    """A call's argument, which the exporter leaves out when it has the default's value."""
    return node.args[position] if len(node.args) > position else default


# --- operators of the backward graph that have no single ATen name


def transpose_weight(weight: Tensor, groups: int) -> Tensor:
    """A convolution's weight (O, I/g, kt, kh, kw) for its input gradient as a convolution: (I, O/g, kt, kh, kw).

    Transposed within each group and flipped in space and time. It depends on weights alone, so it is folded: here
    for TorchScript, by the runtime when it loads an ONNX file (which then stores each weight once).
    """
    grouped = weight.unflatten(0, (groups, weight.shape[0] // groups)).transpose(1, 2).flatten(0, 1)
    flipped = [axis for axis in (2, 3, 4) if weight.shape[axis] > 1]
    weight_back: Tensor = grouped.flip(flipped) if flipped else grouped
    return weight_back


def scatter_to_maxima(gradient: Tensor, indices: Tensor, pooled_from: Tensor, sizes: Sequence[int]) -> Tensor:
    """Max pooling's input gradient: each window's gradient goes to its maximum; windows overlap, so they add up.

    They add up in float32 at least: a GPU adds in any order, and would round after each.
    `sizes` are (t,h,w) of `pooled_from`.
    """
    low = gradient.dtype if gradient.dtype.itemsize < torch.float32.itemsize else None
    zeros = torch.zeros_like(pooled_from.flatten(2), dtype=torch.float32 if low else None)
    summed = zeros.scatter_add(2, indices.flatten(2), gradient.flatten(2).float() if low else gradient.flatten(2))
    if low:
        summed = summed.to(low)
    gradient_back: Tensor = summed.unflatten(2, list(sizes))
    return gradient_back


def relu_backward(gradient: Tensor, rectified: Tensor) -> Tensor:
    """A ReLU's input gradient, from its output: zero wherever that is."""
    return torch.where(rectified > 0, gradient, 0)


def spread_mean(gradient: Tensor, axes: Sequence[int], keepdim: bool, sizes: Sequence[int]) -> Tensor:
    """A mean's input gradient: the gradient over the count, the same everywhere along the reduced axes."""
    count = 1
    for axis in axes:
        count *= sizes[axis - 1]
        if not keepdim:
            gradient = gradient.unsqueeze(axis)
    return (gradient * (1 / count)).expand(-1, *sizes)


# --- rules


def _conv3d(node: fx.Node, gradient: fx.Node, append: Append) -> Gradients:
    x, weight = argument(node, 0), argument(node, 1)
    stride, padding, dilation = (list(argument(node, at, [default] * 3)) for at, default in ((3, 1), (4, 0), (5, 1)))
    groups = argument(node, 6, 1)
    kernel = weight.meta["val"].shape[2:]
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if all(step == 1 for step in stride):
        back = [r - p for r, p in zip(reach, padding, strict=True)]
        flipped = append(transpose_weight, weight, groups)
        return [(x, append(aten.conv3d.default, gradient, flipped, None, stride, back, dilation, groups))]
    sizes, out_sizes = shape_of(x)[1:], shape_of(node)[1:]
    # What the forward convolution left unread at the far edge.
    rest = [
        size - ((out - 1) * s - 2 * p + r + 1)
        for size, out, s, p, r in zip(sizes, out_sizes, stride, padding, reach, strict=True)
    ]
    args = (gradient, weight, None, stride, padding, rest, groups, dilation)
    return [(x, append(aten.conv_transpose3d.input, *args))]


def _relu(node: fx.Node, gradient: fx.Node, append: Append) -> Gradients:
    return [(argument(node, 0), append(relu_backward, gradient, node))]


def _first_of_pool(node: fx.Node, gradient: fx.Node, append: Append) -> Gradients:
    pool = argument(node, 0)
    x = argument(pool, 0)
    indices = append(operator.getitem, pool, 1)
    return [(x, append(scatter_to_maxima, gradient, indices, x, list(shape_of(x)[1:])))]


def _mean(node: fx.Node, gradient: fx.Node, append: Append) -> Gradients:
    x = argument(node, 0)
    axes = [axis % (1 + len(shape_of(x))) for axis in argument(node, 1)]
    return [(x, append(spread_mean, gradient, sorted(axes), argument(node, 2, False), list(shape_of(x))))]


def _linear(node: fx.Node, gradient: fx.Node, append: Append) -> Gradients:
    return [(argument(node, 0), append(aten.matmul.default, gradient, argument(node, 1)))]


def _matmul(node: fx.Node, gradient: fx.Node, append: Append) -> Gradients:
    # Only by a constant matrix on the right, as the gates' pooling does.
    return [(argument(node, 0), append(aten.matmul.default, gradient, append(aten.t.default, argument(node, 1))))]


def _reshape(node: fx.Node, gradient: fx.Node, append: Append) -> Gradients:
    x = argument(node, 0)
    return [(x, append(aten.reshape.default, gradient, [-1, *shape_of(x)]))]


def _add(node: fx.Node, gradient: fx.Node, append: Append) -> Gradients:
    return [(term, gradient) for term in (argument(node, 0), argument(node, 1))]


def _scale(node: fx.Node, gradient: fx.Node, append: Append) -> Gradients:
    return [(argument(node, 0), append(aten.mul.Tensor, gradient, argument(node, 1)))]


def _cat(node: fx.Node, gradient: fx.Node, append: Append) -> Gradients:
    parts, start = argument(node, 0), 0
    axis = argument(node, 1, 0) % (1 + len(shape_of(node)))
    pairs = []
    for part in parts:
        end = start + shape_of(part)[axis - 1]
        pairs.append((part, append(aten.slice.Tensor, gradient, axis, start, end)))
        start = end
    return pairs


RULES: Mapping[Any, Rule] = {
    aten.conv3d.default: _conv3d,
    aten.relu.default: _relu,
    operator.getitem: _first_of_pool,  # the values of max_pool3d_with_indices
    aten.mean.dim: _mean,
    aten.linear.default: _linear,
    aten.matmul.default: _matmul,
    aten.flatten.using_ints: _reshape,
    aten.view.default: _reshape,
    aten.reshape.default: _reshape,
    aten.add.Tensor: _add,
    aten.mul.Tensor: _scale,
    aten.cat.default: _cat,
}
