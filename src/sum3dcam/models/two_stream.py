"""Two I3D networks, one on RGB and one on flow; their logits are added with equal weight."""

from torch import Tensor, nn

from sum3dcam.contract import STREAM_CHANNELS
from sum3dcam.models.i3d import I3D_FLOW, I3D_RGB
from sum3dcam.models.spec import NetworkSpec

PARTS = {"rgb": I3D_RGB, "flow": I3D_FLOW}


class TwoStream(nn.Module):
    """Each stream's network on its own channels of the clip; taps carry their stream's name."""

    def __init__(self, networks: dict[str, nn.Module]) -> None:
        super().__init__()
        for stream, network in networks.items():
            self.add_module(stream, network)

    def forward(self, clip_BCTHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Normalised RGB and flow (B,5,T,H,W) -> logits (B,K) and the taps "rgb_conv", ..., "flow_layer3"."""
        logits: list[Tensor] = []
        taps: dict[str, Tensor] = {}
        first = 0
        for stream, network in self.named_children():
            channels = STREAM_CHANNELS[stream]
            part_logits, part_taps = network(clip_BCTHW[:, first : first + channels])
            logits.append(part_logits)
            taps |= {f"{stream}_{name}": tap for name, tap in part_taps.items()}
            first += channels
        return logits[0] + logits[1], taps


I3D_TWO_STREAM = NetworkSpec(
    build=lambda num_classes, num_frames: TwoStream(
        {stream: part.build(num_classes, num_frames) for stream, part in PARTS.items()}
    ),
    taps=tuple(f"{stream}_{tap}" for stream, part in PARTS.items() for tap in part.taps),
    mean=I3D_RGB.mean + I3D_FLOW.mean,
    std=I3D_RGB.std + I3D_FLOW.std,
    head=f"rgb.{I3D_RGB.head}",
    num_frames=I3D_RGB.num_frames,
    size_px=I3D_RGB.size_px,
    preprocessing=I3D_RGB.preprocessing,
    label_sets=I3D_RGB.label_sets,
    streams=tuple(PARTS),
    parts={"rgb": "i3d", "flow": "i3d-flow"},
)
