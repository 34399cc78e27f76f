"""Excitation backprop, and its contrastive form c-MWP (Zhang, Lin, Brandt, Shen, Sclaroff, ECCV 2016), over clips.

A probability starts at the explained class and is handed down. An operator that adds up non-negative inputs x with
weights w splits what reaches its output among its inputs in proportion to x ReLU(w):

    P(x_i) = sum_j P(z_j) x_i ReLU(w_ij) / z_j,  z_j = sum_i x_i ReLU(w_ij)

Convolutions (their batch norm folded into w; biases and the zeros of the padding get nothing), means and the gates'
pooling are such operators, and so is the addition of two branches, with weights one. Concatenation, reshaping and
ReLU hand on what they get, a max pool hands it to the winner. Negative inputs, as the terms of a residual addition
can be, count as zero. A neuron whose excitatory inputs are all zero fires from its bias alone: what reaches it is lost.

The classifiers of a gated network are one linear layer over the base network's features and the gates' together, so
that the probability of a class is split among them all; what goes to a gate below a tap does not pass that tap.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sum3dcam.attribution.baselines.explained import Forward, run_forward, to_maps
from sum3dcam.attribution.maps import Array
from sum3dcam.contract import EMPTY_MAX
from sum3dcam.errors import ArtifactError
from sum3dcam.models import Classifier


def excitation(classifier: Classifier, *, clip_BTHWC: Tensor, target_B: Tensor, tap: str) -> Tensor:
    """Marginal winning probabilities (B,c,t,h,w) at the tap, >= 0, summing to at most 1 per item.

    Raises:
        BadOptionError: a tap or a target that the network does not have.
        ArtifactError: an operator between tap and head that this module has no rule for; names it.
    """
    seen = _Seen(classifier, clip_BTHWC=clip_BTHWC, target_B=target_B)
    return seen.hand_down(seen.shares(1.0), tap=tap)


def contrastive_excitation(classifier: Classifier, *, clip_BTHWC: Tensor, target_B: Tensor, tap: str) -> Tensor:
    """c-MWP (B,c,t,h,w), signed: the probabilities of the class minus those of its dual, whose weights are negated.

    Raises:
        BadOptionError, ArtifactError: as `excitation`.
    """
    seen = _Seen(classifier, clip_BTHWC=clip_BTHWC, target_B=target_B)
    difference = [ours - dual for ours, dual in zip(seen.shares(1.0), seen.shares(-1.0), strict=True)]
    return seen.hand_down(difference, tap=tap)


def contrastive_map(classifier: Classifier, *, clip_BTHWC: Tensor, target_B: Tensor, tap: str) -> Array:
    """n(up(sum over channels of c-MWP)): float32 (B,T,H,W) in [0,1].

    Raises:
        BadOptionError, ArtifactError: as `excitation`.
    """
    probability = contrastive_excitation(classifier, clip_BTHWC=clip_BTHWC, target_B=target_B, tap=tap)
    num_frames, size_px = clip_BTHWC.shape[1:3]
    return to_maps(probability.sum(1), num_frames=num_frames, size_px=size_px)


@dataclass(frozen=True)
class _Head:
    """A classifier: its input (B,F) and weight (K,F)."""

    features_BF: Tensor
    weight_KF: Tensor


class _Seen:
    """A forward whose backward hands probabilities down."""

    def __init__(self, classifier: Classifier, *, clip_BTHWC: Tensor, target_B: Tensor) -> None:
        with _HandingDown() as mode:
            self._forward: Forward = run_forward(classifier, clip_BTHWC=clip_BTHWC, target_B=target_B)
        self._heads = mode.heads

    def shares(self, sign: float) -> list[Tensor]:
        """What each head's features (B,F) get of the explained class, or (sign -1) of its dual; zero if nothing
        excites it."""
        explained_B = self._forward.explained_B
        parts = [
            head.features_BF.detach().clamp_min(0) * (sign * head.weight_KF.detach()[explained_B]).clamp_min(0)
            for head in self._heads
        ]
        total_B1 = torch.stack([part.sum(1, keepdim=True) for part in parts]).sum(0)
        return [_ratio(part, total_B1) for part in parts]

    def hand_down(self, shares: Sequence[Tensor], *, tap: str) -> Tensor:
        features = [head.features_BF for head in self._heads]
        at_tap = self._forward.tap(tap)
        (probability,) = torch.autograd.grad(features, at_tap, list(shares), allow_unused=True)
        return torch.zeros_like(at_tap) if probability is None else probability


def _ratio(part: Tensor, total: Tensor) -> Tensor:
    """part / total, zero where nothing is to be divided."""
    lit = total > EMPTY_MAX
    return torch.where(lit, part / torch.where(lit, total, 1.0), 0.0)


Excite = Callable[..., Tensor]  # an operator's non-negative inputs -> their sums z, with weights ReLU(w)


def _carry(value: Tensor, inputs: Sequence[Tensor], excite: Excite) -> Tensor:
    """`value`, whose backward splits what reaches it among the inputs.

    Each input enters as x (1 + dx), where dx is zero and has derivative one: then the derivative of excite / z is
    x ReLU(w) / z, and excite / z itself adds nothing.
    """
    positives = [x.detach().clamp_min(0) for x in inputs]
    moved = [positive * (1 + (x - x.detach())) for positive, x in zip(positives, inputs, strict=True)]
    with torch.no_grad():
        total = excite(*positives)
    split = _ratio(excite(*moved), total)
    return value.detach() + (split - split.detach())


# Operators whose gradient is the rule already.
HANDED_ON = frozenset(
    {torch.relu, F.relu, F.max_pool3d, F.pad, torch.cat, torch.flatten, Tensor.flatten, Tensor.reshape, Tensor.view}
    | {Tensor.__getitem__, Tensor.requires_grad_}
)

# Operators that add inputs up: the inputs that share, and how they add up.
EXCITATORY: Mapping[Any, Callable[..., tuple[tuple[Tensor, ...], Excite]]] = {
    torch.conv3d: lambda x, weight, _bias, *how: ((x,), lambda p: torch.conv3d(p, weight.clamp_min(0), None, *how)),
    Tensor.mean: lambda x, *axes: ((x,), lambda p: p.mean(*axes)),
    Tensor.matmul: lambda x, weight: ((x,), lambda p: p @ weight.clamp_min(0)),
    Tensor.add: lambda x, y: ((x, y), lambda p, q: p + q),
}


class _HandingDown(TorchFunctionMode):
    """Gives every operator its own value and, as its backward, the rule above; `heads` are the classifiers met."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[_Head] = []
        # A convolution's output (kept, so that its id stays its own) and arguments, for its batch norm.
        self._convolutions: dict[int, tuple[Tensor, Sequence[Any]]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        value = func(*args, **(kwargs or {}))
        if not isinstance(value, Tensor) or not value.requires_grad or func in HANDED_ON:
            return value
        if func is F.linear:
            self.heads.append(_Head(args[0], args[1]))
            return value.detach()
        if func is F.batch_norm and kwargs is not None and id(args[0]) in self._convolutions:
            x, weight, *rest = self._convolutions.pop(id(args[0]))[1]
            # A factor of a whole output channel cancels in the split, but for its sign.
            folded = weight * kwargs["weight"].sign().view(-1, 1, 1, 1, 1)
            return _carry(value, *EXCITATORY[torch.conv3d](x, folded, *rest))
        if func not in EXCITATORY:
            raise ArtifactError(
                "excitation backprop has no rule for an operator of this network; add one to "
                "attribution/baselines/excitation.py",
                got=getattr(func, "__name__", str(func)),
                allowed="a batch norm must follow its convolution",
            )
        carried = _carry(value, *EXCITATORY[func](*args, **(kwargs or {})))
        if func is torch.conv3d:
            self._convolutions[id(carried)] = (carried, args)
        return carried
