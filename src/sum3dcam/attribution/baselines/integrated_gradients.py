"""Integrated gradients (Sundararajan, Taly, Yan, ICML 2017) of the pixels of a clip."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sum3dcam.attribution.baselines.explained import run_forward, to_maps
from sum3dcam.attribution.maps import Array
from sum3dcam.errors import BadOptionError
from sum3dcam.models import Classifier

# Where the path starts, as normalised pixels (B,C,T,H,W). Zero there is the mean pixel of the network's training.
START_CLIPS: Mapping[str, Callable[[Classifier, Tensor], Tensor]] = {
    "mean-pixel": lambda classifier, clip_BTHWC: torch.zeros_like(classifier.normalise(clip_BTHWC)),
    "black": lambda classifier, clip_BTHWC: classifier.normalise(torch.zeros_like(clip_BTHWC)),
}
DEFAULT_STEPS = 16


@dataclass(frozen=True)
class IntegratedGradients:
    """`attribution_BTHW`: signed, summed over channels, in units of the logit. `gap_B`: what its sum lacks of the
    logit's change along the path, zero for infinitely many steps. `maps_BTHW`: n(attribution), float32 in [0,1]."""

    attribution_BTHW: Tensor
    gap_B: Tensor
    maps_BTHW: Array


def integrated_gradients(
    classifier: Classifier,
    *,
    clip_BTHWC: Tensor,
    target_B: Tensor,
    start: str = "mean-pixel",
    num_steps: int = DEFAULT_STEPS,
) -> IntegratedGradients:
    """(x - x') times the mean over k of dy/dx at x' + (k + 1/2) / num_steps (x - x'), k = 0 .. num_steps - 1.

    x is the normalised clip, x' that of `START_CLIPS[start]`, y the logit. The top class is that of x.

    Raises:
        BadOptionError: an unknown start or target, or fewer than one step.
    """
    if start not in START_CLIPS:
        raise BadOptionError("unknown start of the path", got=start, allowed=list(START_CLIPS))
    if num_steps < 1:
        raise BadOptionError("the path needs a step", got=num_steps, allowed="1 or more")
    end = run_forward(classifier, clip_BTHWC=clip_BTHWC, target_B=target_B)
    start_BCTHW = START_CLIPS[start](classifier, clip_BTHWC)

    def logit_B(input_BCTHW: Tensor) -> Tensor:
        logits_BK: Tensor = classifier.network(input_BCTHW)[0]
        return logits_BK.gather(1, end.explained_B[:, None])[:, 0]

    way_BCTHW = end.input_BCTHW.detach() - start_BCTHW
    total_BCTHW = torch.zeros_like(way_BCTHW)
    for step in range(num_steps):
        with torch.enable_grad():
            point_BCTHW = (start_BCTHW + (step + 0.5) / num_steps * way_BCTHW).requires_grad_()
            (gradient_BCTHW,) = torch.autograd.grad(logit_B(point_BCTHW).sum(), point_BCTHW)
        total_BCTHW += gradient_BCTHW
    attribution_BTHW = (way_BCTHW * total_BCTHW / num_steps).sum(1)
    with torch.no_grad():
        change_B = end.logit_B() - logit_B(start_BCTHW)
    num_frames, size_px = clip_BTHWC.shape[1:3]
    return IntegratedGradients(
        attribution_BTHW=attribution_BTHW,
        gap_B=change_B - attribution_BTHW.sum((1, 2, 3)),
        maps_BTHW=to_maps(attribution_BTHW, num_frames=num_frames, size_px=size_px),
    )
