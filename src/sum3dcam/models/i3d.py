"""I3D, the inflated Inception-v1 (Carreira and Zisserman, CVPR 2017), for RGB or for flow.

Module names are those of the pytorch-i3d checkpoints (Conv3d_1a_7x7.conv3d, Mixed_3b.b1a.bn, ..., logits.conv3d).
Convolutions and pools keep TensorFlow's "SAME" sizes: an odd total of padding has its extra row at the end.
"""

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sum3dcam.contract import STREAM_CHANNELS
from sum3dcam.models.spec import Layout, NetworkSpec

# Tap -> the endpoint it reads.
ENDPOINTS = {"conv": "Conv3d_1a_7x7", "layer1": "Mixed_3c", "layer2": "Mixed_4f", "layer3": "Mixed_5c"}

# Inception modules in their order: channels of b0, b1a, b1b, b2a, b2b, b3b.
MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Pools before the module of that name: kernel and stride over (T,H,W).
POOLS = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
TIME_STRIDE = 8
HEAD_WINDOW_STEPS = 2


class Unit3D(nn.Module):
    """Convolution with "SAME" padding, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        padding = kernel // 2 if stride == 1 else 0
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm3d(out_channels, eps=1e-3)

    def forward(self, x_BCthw: Tensor) -> Tensor:
        if self.stride > 1:
            sides = [same_padding(size, kernel=self.kernel, stride=self.stride) for size in x_BCthw.shape[2:]]
            x_BCthw = F.pad(x_BCthw, [rows for side in reversed(sides) for rows in side])
        return torch.relu(self.bn(self.conv3d(x_BCthw)))


class Mixed(nn.Module):
    """Four branches side by side: 1x1x1; 1x1x1 -> 3x3x3, twice; 3x3x3 max pool -> 1x1x1."""

    def __init__(self, in_channels: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = channels
        self.b0 = Unit3D(in_channels, b0)
        self.b1a = Unit3D(in_channels, b1a)
        self.b1b = Unit3D(b1a, b1b, kernel=3)
        self.b2a = Unit3D(in_channels, b2a)
        self.b2b = Unit3D(b2a, b2b, kernel=3)
        self.b3b = Unit3D(in_channels, b3b)

    def forward(self, x_BCthw: Tensor) -> Tensor:
        pooled = max_pool_same(x_BCthw, kernel=(3, 3, 3), stride=(1, 1, 1))
        branches = [self.b0(x_BCthw), self.b1b(self.b1a(x_BCthw)), self.b2b(self.b2a(x_BCthw)), self.b3b(pooled)]
        return torch.cat(branches, 1)


class I3D(nn.Module):
    """The network up to its logits, giving its taps as well.

    The head averages over space and over two steps at a time, classifies each such window and takes the mean. All of
    that is linear, so it is one weighted mean over time before one classifier: weights 1/2, 1, ..., 1, 1/2.
    """

    pool_t1: Tensor

    def __init__(self, *, in_channels: int, num_classes: int, num_frames: int) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit3D(in_channels, 64, kernel=7, stride=2)
        self.Conv3d_2b_1x1 = Unit3D(64, 64)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, kernel=3)
        channels = 192
        for name, branches in MIXED.items():
            self.add_module(name, Mixed(channels, branches))
            channels = branches[0] + branches[2] + branches[4] + branches[5]
        self.logits = nn.ModuleDict({"conv3d": nn.Conv3d(channels, num_classes, 1)})
        steps = -(-num_frames // TIME_STRIDE)
        self.register_buffer("pool_t1", head_weights(steps)[:, None], persistent=False)

    def forward(self, clip_BCTHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Normalised pixels (B,C,T,H,W) -> logits (B,K) and the taps, each (B,c,t,h,w) after its ReLU."""
        x, endpoints = clip_BCTHW, {}
        for name, module in self.named_children():
            if name == "logits":
                continue
            if name in POOLS:
                kernel, stride = POOLS[name]
                x = max_pool_same(x, kernel=kernel, stride=stride)
            x = endpoints[name] = module(x)
        pooled_BC = (x.mean((3, 4)) @ self.pool_t1).flatten(1)
        weight, bias = (self.logits.get_parameter(f"conv3d.{name}") for name in ("weight", "bias"))
        logits = F.linear(pooled_BC, weight.flatten(1), bias)
        return logits, {tap: endpoints[name] for tap, name in ENDPOINTS.items()}


def same_padding(size: int, *, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "SAME": rows before and behind, such that ceil(size / stride) outputs come.

    >>> same_padding(224, kernel=7, stride=2), same_padding(15, kernel=7, stride=2), same_padding(8, kernel=3, stride=1)
    ((2, 3), (3, 3), (1, 1))
    """
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def max_pool_same(x_BCthw: Tensor, *, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Max pool with "SAME" padding, which never wins: where the total is odd, the last window is cut instead."""
    sides = [
        same_padding(size, kernel=k, stride=s) for size, k, s in zip(x_BCthw.shape[2:], kernel, stride, strict=True)
    ]
    cut = any(before != behind for before, behind in sides)
    return F.max_pool3d(x_BCthw, kernel, stride, padding=[before for before, _ in sides], ceil_mode=cut)


def head_weights(steps: int) -> Tensor:
    """What each step counts in the mean over windows of HEAD_WINDOW_STEPS, a single step where there is no more.

    >>> head_weights(4).tolist()
    [0.1666666716337204, 0.3333333432674408, 0.3333333432674408, 0.1666666716337204]
    """
    window = min(HEAD_WINDOW_STEPS, steps)
    counts_t = torch.zeros(steps)
    for start in range(steps - window + 1):
        counts_t[start : start + window] += 1
    return counts_t / counts_t.sum()


# The second layout's names, piece by piece, where they differ.
_RENAMED = (
    (r"^conv3d_0c_1x1\.", "logits."),
    (r"^conv3d_", "Conv3d_"),
    (r"^mixed_", "Mixed_"),
    (r"\.branch_0\.", ".b0."),
    (r"\.branch_1\.0\.", ".b1a."),
    (r"\.branch_1\.1\.", ".b1b."),
    (r"\.branch_2\.0\.", ".b2a."),
    (r"\.branch_2\.1\.", ".b2b."),
    (r"\.branch_3\.1\.", ".b3b."),
    (r"\.batch3d\.", ".bn."),
)


def _from_kinetics_i3d(key: str) -> str:
    """mixed_3b.branch_1.0.batch3d.weight -> Mixed_3b.b1a.bn.weight."""
    for pattern, replacement in _RENAMED:
        key = re.sub(pattern, replacement, key)
    return key


def _spec(*, stream: str, in_channels: int) -> NetworkSpec:
    return NetworkSpec(
        build=lambda num_classes, num_frames: I3D(
            in_channels=in_channels, num_classes=num_classes, num_frames=num_frames
        ),
        taps=tuple(ENDPOINTS),
        mean=(127.5,) * in_channels,  # to [-1, 1]
        std=(127.5,) * in_channels,
        head="logits.conv3d.weight",
        num_frames=64,
        size_px=224,
        preprocessing="shorter-side-256-crop-224",
        label_sets={400: "Kinetics-400", 157: "Charades", 101: "UCF101", 51: "HMDB51"},
        layouts=(Layout("pytorch-i3d"), Layout("kinetics_i3d_pytorch", own_key=_from_kinetics_i3d)),
        streams=(stream,),
    )


I3D_RGB = _spec(stream="rgb", in_channels=STREAM_CHANNELS["rgb"])
I3D_FLOW = _spec(stream="flow", in_channels=STREAM_CHANNELS["flow"])
