"""Attribution inside the graph: from a tap's activation and gradient to its grids, from the grids to the saliency.

A is a tap's activation, G = d logit / d A, both (B,c,t,h,w). Channels are summed before anything is upsampled.
"""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from sum3dcam.contract import EMPTY_MAX, GRIDS, SALIENCY, TOP_CLASS, Tap, grid_name, stream_name, streams_of

# METHOD.md section 1; the order is contract.GRIDS.
GRID_FORMULAS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "activation": lambda A, G: A.sum(1),
    "gradient": lambda A, G: G.sum(1),
    "gradcam": lambda A, G: (G.mean((2, 3, 4), keepdim=True) * A).sum(1),
    "layercam": lambda A, G: (torch.relu(G) * A).sum(1),
    "hirescam": lambda A, G: (G * A).sum(1),
}


def explained_class(logits_BK: Tensor, target_B: Tensor) -> Tensor:
    """int64 (B,): the class asked for, or the top class where `target` is TOP_CLASS."""
    return torch.where(target_B == TOP_CLASS, torch.argmax(logits_BK, 1), target_B)


class Saliency(nn.Module):
    """Sum3DCAM (eq. 3 to 6) over `taps`, and over each stream's where there are several, each divided by its own max.

    {grid name: (B,t,h,w)} -> {output name: (B,T,H,W) in [0,1]}.
    """

    def __init__(self, taps: tuple[Tap, ...], *, num_frames: int, size_px: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.taps = taps
        for tap in taps:
            for axis, in_size, out_size in zip("THW", tap.grid_thw, (num_frames, size_px, size_px), strict=True):
                matrix = interpolation_matrix(in_size, out_size).to(dtype)
                if axis == "W":
                    matrix = matrix.T.contiguous()
                self.register_buffer(f"{axis}_{tap.name}", matrix, persistent=False)

    def upsample(self, grid_Bthw: Tensor, *, tap: Tap) -> Tensor:
        """Trilinear, align_corners=False, as one small matrix product per axis: (B,t,h,w) -> (B,T,H,W)."""
        T_Tt, H_Hh, W_wW = (self.get_buffer(f"{axis}_{tap.name}") for axis in "THW")
        grid_BThw = torch.matmul(T_Tt, grid_Bthw.flatten(2)).unflatten(2, tap.grid_thw[1:])
        return torch.matmul(torch.matmul(H_Hh, grid_BThw), W_wW)

    def forward(self, grids: Mapping[str, Tensor]) -> dict[str, Tensor]:
        maps = {tap: self.tap_map(grids, tap=tap) for tap in self.taps}
        streams = streams_of(self.taps)
        sums = {stream: add_up([maps[tap] for tap in self.taps if tap.stream == stream]) for stream in streams}
        named = {SALIENCY: add_up(list(sums.values()))}
        if len(streams) > 1:
            named |= {stream_name(SALIENCY, stream): sums[stream] for stream in streams}
        return {name: normalise(map_BTHW) for name, map_BTHW in named.items()}

    def tap_map(self, grids: Mapping[str, Tensor], *, tap: Tap) -> Tensor:
        """3DCAM of one tap: n(up(gradient)) n(up(activation)), (B,T,H,W)."""
        gradient_BTHW, activation_BTHW = (
            normalise(self.upsample(grids[grid_name(grid, tap.name)], tap=tap)) for grid in ("gradient", "activation")
        )
        return gradient_BTHW * activation_BTHW


def add_up(terms: Sequence[Tensor]) -> Tensor:
    """The terms' sum; a single term is itself, without an operator."""
    return functools.reduce(operator.add, terms)


def normalise(map_BTHW: Tensor) -> Tensor:
    """n(x) = ReLU(x) / max ReLU(x) per sample; all zero where that max is <= EMPTY_MAX."""
    positive = torch.relu(map_BTHW)
    top_B111 = positive.amax((1, 2, 3), keepdim=True)
    # Divided by infinity, what is empty becomes zero: one choice per sample, not one per voxel.
    return positive / torch.where(top_B111 > EMPTY_MAX, top_B111, torch.inf)


def tap_grids(activation: Tensor, gradient: Tensor, *, tap: str) -> dict[str, Tensor]:
    """All of contract.GRIDS of one tap, by their wire names."""
    return {grid_name(grid, tap): GRID_FORMULAS[grid](activation, gradient) for grid in GRIDS}


def interpolation_matrix(in_size: int, out_size: int) -> Tensor:
    """float64 (out_size, in_size): linear interpolation, align_corners=False, clamped at the edges."""
    identity = torch.eye(in_size, dtype=torch.float64)[None]
    return nn.functional.interpolate(identity, size=out_size, mode="linear", align_corners=False)[0].T.contiguous()
