"""Bottleneck residual networks, 3D and 2D: what ResNeXt-101, its small sibling and ResNet-50 share.

Module names are those of the released checkpoints (conv1, bn1, layer1.0.conv2, layer1.0.downsample.0, ..., fc).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

TAPS = ("conv", "layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class ResidualShape:
    """What tells one member of the family from another.

    `widths` are the channels inside each stage's bottlenecks; a stage gives `expansion` times as many. `kernel_frames`
    is 3, or 1 for a network that looks at single frames.
    """

    blocks: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    expansion: int
    groups: int
    stem_channels: int
    stem_kernel_THW: tuple[int, int, int]
    kernel_frames: int = 3


class Bottleneck(nn.Module):
    """1x1x1 -> grouped (kernel_frames)x3x3 -> 1x1x1, each with batch norm, around a shortcut of type B."""

    def __init__(self, in_channels: int, *, width: int, shape: ResidualShape, stride: int) -> None:
        super().__init__()
        out_channels = shape.expansion * width
        kernel = (shape.kernel_frames, 3, 3)
        self.conv1 = nn.Conv3d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(
            width, width, kernel, stride=stride, padding=same_padding(kernel), groups=shape.groups, bias=False
        )
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out_channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv3d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm3d(out_channels)
            )

    def forward(self, x_BCthw: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x_BCthw)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = x_BCthw if self.downsample is None else self.downsample(x_BCthw)
        return torch.relu(out + shortcut)


class ResidualNetwork(nn.Module):
    """The network up to its logits, giving its taps as well."""

    def __init__(self, shape: ResidualShape, *, num_classes: int) -> None:
        super().__init__()
        channels, kernel = shape.stem_channels, shape.stem_kernel_THW
        self.conv1 = nn.Conv3d(3, channels, kernel, stride=(1, 2, 2), padding=same_padding(kernel), bias=False)
        self.bn1 = nn.BatchNorm3d(channels)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        for index, (num_blocks, width) in enumerate(zip(shape.blocks, shape.widths, strict=True)):
            stage = nn.Sequential()
            for block in range(num_blocks):
                stride = 2 if index > 0 and block == 0 else 1
                stage.append(Bottleneck(channels, width=width, shape=shape, stride=stride))
                channels = shape.expansion * width
            self.add_module(TAPS[1 + index], stage)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, clip_BCTHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Normalised pixels (B,3,T,H,W) -> logits (B,K) and the taps, each (B,c,t,h,w) after its ReLU."""
        taps = {"conv": torch.relu(self.bn1(self.conv1(clip_BCTHW)))}
        x = self.maxpool(taps["conv"])
        for name in TAPS[1:]:
            x = taps[name] = self.get_submodule(name)(x)
        return self.fc(x.mean((2, 3, 4))), taps


def same_padding(kernel_THW: tuple[int, int, int]) -> tuple[int, int, int]:
    """What keeps the size at stride 1, for odd kernels.

    >>> same_padding((1, 7, 7))
    (0, 3, 3)
    """
    t, h, w = kernel_THW
    return (t // 2, h // 2, w // 2)
