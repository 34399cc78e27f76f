"""The networks by name, each with what only it knows: taps, pixel statistics, default gates.

To add one: a file that defines the module, an entry in NETWORKS.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from sum3dcam.contract import Tap
from sum3dcam.models import resnext
from sum3dcam.models.gating import Gate, Gated


@dataclass(frozen=True)
class NetworkSpec:
    """A network as the outside needs it.

    `build(num_classes=...)` gives a module: normalised (B,C,T,H,W) -> (logits, {tap: activation}).
    `mean` and `std` are per channel, in units of the uint8 pixel (0..255).
    """

    build: Callable[..., nn.Module]
    taps: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preprocessing: str
    streams: tuple[str, ...] = ("rgb",)
    default_gates: tuple[str, ...] = ()


# Kinetics' channel means, as the 2018 release subtracts them (std stays 1).
KINETICS_MEAN = (114.7748, 107.7354, 99.4750)

NETWORKS: Mapping[str, NetworkSpec] = {
    "resnext101": NetworkSpec(
        build=partial(resnext.ResNeXt, resnext.RESNEXT101),
        taps=resnext.TAPS,
        mean=KINETICS_MEAN,
        std=(1.0, 1.0, 1.0),
        preprocessing="shorter-side-centre-crop",
    ),
    "resnext-mini": NetworkSpec(
        build=partial(resnext.ResNeXt, resnext.RESNEXT_MINI),
        taps=resnext.TAPS,
        mean=(127.5, 127.5, 127.5),
        std=(63.75, 63.75, 63.75),
        preprocessing="shorter-side-centre-crop",
        default_gates=resnext.TAPS,
    ),
}


class Classifier(nn.Module):
    """Decoded pixels to logits: the one place where mean and std are applied."""

    mean_C111: Tensor
    scale_C111: Tensor

    def __init__(self, network: nn.Module, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean_C111", torch.tensor(mean).view(-1, 1, 1, 1))
        self.register_buffer("scale_C111", 1 / torch.tensor(std).view(-1, 1, 1, 1))

    def forward(self, clip_BTHWC: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """uint8 (B,T,H,W,C) -> logits (B,K) and {tap: (B,c,t,h,w)}, in the dtype of the weights."""
        pixels_BCTHW = clip_BTHWC.permute(0, 4, 1, 2, 3).to(self.mean_C111.dtype)
        logits, taps = self.network((pixels_BCTHW - self.mean_C111) * self.scale_C111)
        return logits, taps


def build_network(
    spec: NetworkSpec, *, num_classes: int, num_frames: int, gates: Sequence[str] = (), fusion: str = "sum"
) -> nn.Module:
    """The bare network, or the gated one when `gates` names taps; `num_frames` sizes the gates' heads."""
    base = spec.build(num_classes=num_classes)
    if not gates:
        return base
    shapes = {tap.name: tap for tap in measure_taps(base, spec=spec, num_frames=num_frames, size_px=64)}
    heads = {
        name: Gate(shapes[name].channels, num_frames=shapes[name].grid_thw[0], num_classes=num_classes)
        for name in spec.taps
        if name in gates
    }
    return Gated(base, gates=heads, fusion=fusion)


def measure_taps(network: nn.Module, *, spec: NetworkSpec, num_frames: int, size_px: int) -> tuple[Tap, ...]:
    """Channels and grid of every tap for clips of this shape, in the order of the spec."""
    training = network.training
    parameter = next(network.parameters())
    clip_BCTHW = torch.zeros(
        1, len(spec.mean), num_frames, size_px, size_px, dtype=parameter.dtype, device=parameter.device
    )
    with torch.no_grad():
        _, taps = network.eval()(clip_BCTHW)
    network.train(training)
    return tuple(
        Tap(name=name, channels=taps[name].shape[1], grid_thw=tuple(taps[name].shape[2:])) for name in spec.taps
    )
