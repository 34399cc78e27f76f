"""The networks by name, and what is done with any of them.

To add one: a file that defines its module and its spec, and an entry in NETWORKS.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sum3dcam.contract import Tap
from sum3dcam.models.gating import Gate, Gated
from sum3dcam.models.i3d import I3D_FLOW, I3D_RGB
from sum3dcam.models.resnet import RESNET50
from sum3dcam.models.resnext import RESNEXT101, RESNEXT_MINI
from sum3dcam.models.spec import NetworkSpec
from sum3dcam.models.two_stream import I3D_TWO_STREAM

NETWORKS: Mapping[str, NetworkSpec] = {
    "resnext101": RESNEXT101,
    "resnext-mini": RESNEXT_MINI,
    "i3d": I3D_RGB,
    "i3d-flow": I3D_FLOW,
    "i3d-two-stream": I3D_TWO_STREAM,
    "resnet50": RESNET50,
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
        logits, taps = self.network(self.normalise(clip_BTHWC))
        return logits, taps

    def normalise(self, clip_BTHWC: Tensor) -> Tensor:
        """uint8 (B,T,H,W,C) -> the network's input (B,C,T,H,W): (pixel - mean) / std, in the dtype of the weights."""
        pixels_BCTHW = clip_BTHWC.permute(0, 4, 1, 2, 3).to(self.mean_C111.dtype)
        return (pixels_BCTHW - self.mean_C111) * self.scale_C111


def build_network(
    spec: NetworkSpec, *, num_classes: int, num_frames: int, gates: Sequence[str] = (), fusion: str = "sum"
) -> nn.Module:
    """The bare network, or the gated one when `gates` names taps; `num_frames` sizes the heads."""
    base = spec.build(num_classes, num_frames)
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
        Tap(
            name=name,
            channels=taps[name].shape[1],
            grid_thw=tuple(taps[name].shape[2:]),
            stream=spec.stream_of(name),
        )
        for name in spec.taps
    )
