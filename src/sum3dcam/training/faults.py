"""What is said when a training's numbers are no longer finite."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sum3dcam.training.examples import Batch

SHOWN_NAMES = 3


def not_finite(
    place: str,
    *,
    figures: Mapping[str, float],
    logits_BK: Tensor,
    batch: Batch,
    classifier: nn.Module,
    directory: Path,
) -> FloatingPointError:
    """The error that names the step, the videos, the parameter and what to do.

    The videos are those whose own logits are not finite; where there is no such one, all of the batch.
    """
    finite_B = torch.isfinite(logits_BK).all(1).tolist()
    broken = [key for key, finite in zip(batch.keys, finite_B, strict=True) if not finite]
    weights = [name for name, tensor in classifier.state_dict().items() if not _is_finite(tensor)]
    learnt = classifier.named_parameters()
    gradients = [name for name, tensor in learnt if tensor.grad is not None and not _is_finite(tensor.grad)]
    which = "videos with such logits" if broken else "no video's logits; the batch was"
    if weights:
        advice = "weights were not finite before this step: give another --base"
    elif broken and len(broken) < len(batch.keys):
        advice = "look at these videos, or lower --learning-rate"
    else:
        advice = "lower --learning-rate, or compute with --precision fp32"
    return FloatingPointError(
        f"not finite at {place}: loss {figures['loss']:g}, norm of the gradients {figures['gradient_norm']:g}; "
        f"{which}: {', '.join(broken or batch.keys)}; "
        f"weights: {_shown(weights)}; gradients, the nearest to the loss first: {_shown(gradients[::-1])}. "
        f"Nothing was learnt from this step, {directory / 'state.pt'} stays as it was. What to do: {advice}"
    )


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _shown(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN_NAMES
    return ", ".join([*names[:SHOWN_NAMES], *([f"and {rest} more"] if rest > 0 else [])]) or "none"
