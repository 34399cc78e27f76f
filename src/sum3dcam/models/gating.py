"""Layer-wise gates: a small classifier on each gated tap, its logits fused with the base head's.

Per gated tap: ReLU -> AdaptiveAvgPool3d((max(1, t // 2), 1, 1)) -> flatten -> Linear to the classes. The ReLU is a
no-op behind a tap that ends in one, so it is left out. Heads start at zero: a fresh gate changes no logit.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Fuse = Callable[[list[Tensor]], Tensor]

FUSIONS: Mapping[str, Fuse] = {
    "sum": lambda logits: _total(logits),
    "mean": lambda logits: _total(logits) * (1 / len(logits)),
}


class Gate(nn.Module):
    """One tap's classifier: (B,c,t,h,w) -> (B,K)."""

    pool_tp: Tensor

    def __init__(self, channels: int, *, num_frames: int, num_classes: int) -> None:
        super().__init__()
        pooled_frames = max(1, num_frames // 2)
        # AdaptiveAvgPool3d((pooled_frames, 1, 1)) as a mean over h, w and a matrix over t: every exporter knows both.
        pool_tp = nn.functional.adaptive_avg_pool1d(torch.eye(num_frames), pooled_frames)
        self.register_buffer("pool_tp", pool_tp, persistent=False)
        self.fc = nn.Linear(channels * pooled_frames, num_classes)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, tap_Bcthw: Tensor) -> Tensor:
        pooled_Bcp = tap_Bcthw.mean((3, 4)) @ self.pool_tp
        logits: Tensor = self.fc(pooled_Bcp.flatten(1))
        return logits


class Gated(nn.Module):
    """A network with gates on some of its taps.

    Args:
        base: maps a clip to (logits, taps).
        gates: tap name -> its gate.
        fusion: a key of FUSIONS.
    """

    def __init__(self, base: nn.Module, *, gates: Mapping[str, Gate], fusion: str = "sum") -> None:
        super().__init__()
        self.base = base
        self.gates = nn.ModuleDict(dict(gates))
        self.fuse = FUSIONS[fusion]

    def forward(self, clip_BCTHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """As the base network, with the fused logits (B,K)."""
        logits, taps = self.base(clip_BCTHW)
        return self.fuse([logits, *(gate(taps[name]) for name, gate in self.gates.items())]), taps


def _total(logits: list[Tensor]) -> Tensor:
    total = logits[0]
    for more in logits[1:]:
        total = total + more
    return total
