"""What every comparator starts from and ends with: a forward that keeps its graph, and a map in [0,1]."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sum3dcam.attribution.grids import explained_class
from sum3dcam.attribution.interpolation import upsample
from sum3dcam.attribution.maps import Array, normalise
from sum3dcam.errors import BadOptionError
from sum3dcam.models import Classifier


@dataclass(frozen=True)
class Forward:
    """`logits_BK`, `explained_B` int64 and {tap: (B,c,t,h,w)}, all in one autograd graph over `input_BCTHW`."""

    input_BCTHW: Tensor
    logits_BK: Tensor
    explained_B: Tensor
    taps: Mapping[str, Tensor]

    def tap(self, name: str) -> Tensor:
        """Raises BadOptionError where the network has no such tap."""
        if name not in self.taps:
            raise BadOptionError("no such tap in this network", got=name, allowed=list(self.taps))
        return self.taps[name]

    def logit_B(self) -> Tensor:
        """The explained class's."""
        return self.logits_BK.gather(1, self.explained_B[:, None])[:, 0]


def run_forward(classifier: Classifier, *, clip_BTHWC: Tensor, target_B: Tensor) -> Forward:
    """One forward in eval mode, which is what is explained.

    Args:
        clip_BTHWC: uint8.
        target_B: int64, classes or contract.TOP_CLASS.

    Raises:
        BadOptionError: a target that is no class.
    """
    with torch.enable_grad():
        input_BCTHW = classifier.eval().normalise(clip_BTHWC).requires_grad_()
        logits_BK, taps = classifier.network(input_BCTHW)
    explained_B = explained_class(logits_BK.detach(), target_B)
    num_classes = logits_BK.shape[1]
    if not bool(((explained_B >= 0) & (explained_B < num_classes)).all()):
        raise BadOptionError("no such class", got=target_B.tolist(), allowed=f"-1 (the top class) .. {num_classes - 1}")
    return Forward(input_BCTHW, logits_BK, explained_B, taps)


def to_maps(grid_Bthw: Tensor, *, num_frames: int, size_px: int) -> Array:
    """n(up(grid)) of each item, as in attribution.maps: float32 (B,num_frames,size_px,size_px) in [0,1], an empty one
    all zero."""
    grids: Array = np.asarray(grid_Bthw.detach().to("cpu", torch.float32).numpy())
    maps_BTHW = np.zeros((len(grids), num_frames, size_px, size_px), np.float32)
    for item, grid_thw in enumerate(grids):
        map_THW = normalise(upsample(grid_thw, num_frames=num_frames, size_px=size_px))
        if map_THW is not None:
            maps_BTHW[item] = map_THW
    return maps_BTHW
