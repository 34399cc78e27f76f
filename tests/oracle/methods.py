"""Every method's map by float64 autograd, one clip at a time, and METHOD.md section 1's formulas written out.

Of the package it uses nothing but the network. The run side works in float32, so each formula carries the distance by
which float32 may move its map, `Estimate.slack`; it is large only where a map's max is small beside the values that
cancel in it.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sum3dcam.attribution.maps import MapsResult, build_maps
from sum3dcam.contract import SALIENCY, TOP_CLASS
from sum3dcam.export.joint import explain_graph
from sum3dcam.export.prepare import Prepared

# Float32 rounds at eps / 2, and from a grid to n(x) at most eleven times: the grid itself, weight, product and sum of
# each of three interpolations, the division.
ROUNDING = 6 * float(np.finfo(np.float32).eps)
EMPTY_MAX = 1e-20
ALIGN_CORNERS = {"half-pixel": False, "corners": True}


@dataclass(frozen=True)
class Estimate:
    """A map and how far float32 may be from it at any voxel."""

    map_THW: np.ndarray
    slack: float


Up = Callable[[Tensor], np.ndarray]  # (t,h,w) -> (T,H,W)


def n(map_THW: np.ndarray) -> Estimate | None:
    """ReLU(x) / max ReLU(x); None where that max is at most 1e-20. A rounding is relative to the largest |x|."""
    top = float(map_THW.max())
    if top <= EMPTY_MAX:
        return None
    return Estimate(np.maximum(map_THW, 0) / top, 2 * ROUNDING * float(np.abs(map_THW).max()) / top)


def product(first: Estimate | None, second: Estimate | None) -> Estimate | None:
    if first is None or second is None:
        return None
    map_THW = first.map_THW * second.map_THW
    return Estimate(map_THW, first.slack + second.slack) if map_THW.any() else None


def gated_by(slope: Tensor, map_: Estimate | None) -> Estimate | None:
    """n of a positive scalar is 1."""
    return map_ if float(slope) > EMPTY_MAX else None


def mean_thw(gradient: Tensor) -> Tensor:
    return gradient.mean((1, 2, 3), keepdim=True)


# METHOD.md section 1: one tap's map from its activation A and gradient G, both (c,t,h,w).
OF_TAP: Mapping[str, Callable[[Tensor, Tensor, Up], Estimate | None]] = {
    "sum3dcam": lambda A, G, up: product(n(up(G.sum(0))), n(up(A.sum(0)))),
    "counterfactual": lambda A, G, up: product(n(up(-G.sum(0))), n(up(A.sum(0)))),
    "sum3dcam-elementwise": lambda A, G, up: n(up((G.clamp_min(0) * A).sum(0))),
    "layercam": lambda A, G, up: n(up((G.clamp_min(0) * A).sum(0))),
    "hirescam": lambda A, G, up: n(up((G * A).sum(0))),
    "sum-gradcam": lambda A, G, up: n(up((mean_thw(G) * A).sum(0))),
    "gradcam": lambda A, G, up: n(up((mean_thw(G) * A).sum(0).clamp_min(0))),
    "avgpool-3dcam": lambda A, G, up: gated_by(G.sum(), n(up(A.sum(0)))),
}
ONE_TAP_ONLY = ("gradcam", "avgpool-3dcam")


@dataclass(frozen=True)
class Differentiated:
    """Autograd's answer to one clip: {tap: (c,t,h,w)} of activations and of d logit / d activation, in float64."""

    explained: int
    activations: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]
    size_THW: tuple[int, int, int]

    def map(self, method: str, *, taps: Sequence[str], coordinates: str) -> tuple[Estimate, tuple[str, ...]]:
        """The taps' maps summed and divided by their max, and the taps that were empty."""

        def up(grid_thw: Tensor) -> np.ndarray:
            return trilinear(grid_thw[None], self.size_THW, coordinates=coordinates)[0]

        parts = {tap: OF_TAP[method](self.activations[tap], self.gradients[tap], up) for tap in taps}
        lit = [part for part in parts.values() if part is not None]
        empty = tuple(tap for tap, part in parts.items() if part is None)
        total_THW = sum((part.map_THW for part in lit), np.zeros(self.size_THW))
        top = float(total_THW.max())
        if top <= EMPTY_MAX:
            return Estimate(np.zeros(self.size_THW), 0.0), empty
        return Estimate(total_THW / top, 2 * (sum(part.slack for part in lit) + ROUNDING) / top), empty


def trilinear(values_cthw: Tensor, size_THW: tuple[int, int, int], *, coordinates: str) -> np.ndarray:
    corners = ALIGN_CORNERS[coordinates]
    return F.interpolate(values_cthw[None], size=size_THW, mode="trilinear", align_corners=corners)[0].numpy()


def differentiate(made: Prepared, clip_THWC: np.ndarray, target: int) -> Differentiated:
    logits, taps = made.classifier(torch.from_numpy(clip_THWC[None]))
    explained = int(logits[0].argmax()) if target == TOP_CLASS else target
    chosen = {tap: taps[tap] for tap in made.card.tap_names}
    gradients = torch.autograd.grad(logits[0, explained], list(chosen.values()))
    return Differentiated(
        explained=explained,
        activations={tap: value[0].detach() for tap, value in chosen.items()},
        gradients={tap: gradient[0] for tap, gradient in zip(chosen, gradients, strict=True)},
        size_THW=clip_THWC.shape[:3],
    )


@dataclass(frozen=True)
class Explainer:
    """A network's joint graph in float64."""

    prepared: Prepared

    @property
    def tap_names(self) -> tuple[str, ...]:
        return self.prepared.card.tap_names

    @functools.cached_property
    def graph(self) -> nn.Module:
        return explain_graph(
            self.prepared.classifier, taps=self.prepared.card.taps, clip_BTHWC=self.prepared.example_clip()
        )

    def outputs(self, clips_BTHWC: np.ndarray, target_B: Iterable[int]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            values = self.graph(torch.from_numpy(clips_BTHWC), torch.tensor(list(target_B)))
        return {name: value.numpy() for name, value in zip(self.prepared.card.outputs, values, strict=True)}


def served(
    outputs: Mapping[str, np.ndarray], *, taps: Sequence[str], method: str, coordinates: str = "half-pixel"
) -> MapsResult:
    """The run side's maps of what the graph gave, in the float32 that a server has."""
    _, num_frames, size_px, _ = outputs[SALIENCY].shape
    grids = {name: value.astype(np.float32) for name, value in outputs.items() if value.ndim == 4 and name != SALIENCY}
    return build_maps(grids, taps=taps, method=method, num_frames=num_frames, size_px=size_px, coordinates=coordinates)


def drawn_taps(method: str, *, available: Sequence[str], seed: int) -> tuple[str, ...]:
    """Some of the taps, in any order; one for a method that takes no more."""
    rng = np.random.default_rng(seed)
    count = 1 if method in ONE_TAP_ONLY else int(rng.integers(1, len(available) + 1))
    return tuple(rng.permutation(available)[:count].tolist())
