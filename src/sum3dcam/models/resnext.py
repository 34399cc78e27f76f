"""3D ResNeXt (Hara, Kataoka, Satoh, CVPR 2018) with shortcut type B, and its small sibling.

Module names are those of the released checkpoints (conv1, bn1, layer1.0.conv2, layer1.0.downsample.0, ..., fc).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

TAPS = ("conv", "layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class ResNeXtShape:
    """What tells one member of the family from another.

    `widths` are the channels inside each stage's bottlenecks; a stage gives twice as many.
    """

    blocks: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    groups: int
    stem_channels: int
    stem_kernel_THW: tuple[int, int, int]


RESNEXT101 = ResNeXtShape(
    blocks=(3, 4, 23, 3), widths=(128, 256, 512, 1024), groups=32, stem_channels=64, stem_kernel_THW=(7, 7, 7)
)
# The 7x7x7 stem is a third of ResNeXt-101's work; a 3x5x5 one trains in hours on two cores and still sees motion.
RESNEXT_MINI = ResNeXtShape(
    blocks=(1, 2, 2, 1), widths=(32, 64, 128, 128), groups=8, stem_channels=16, stem_kernel_THW=(3, 5, 5)
)


class Bottleneck(nn.Module):
    """1x1x1 -> grouped 3x3x3 -> 1x1x1, each with batch norm, around a shortcut."""

    def __init__(self, in_channels: int, *, width: int, groups: int, stride: int) -> None:
        super().__init__()
        out_channels = 2 * width
        self.conv1 = nn.Conv3d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride=stride, padding=1, groups=groups, bias=False)
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


class ResNeXt(nn.Module):
    """The network up to its logits, giving its taps as well."""

    def __init__(self, shape: ResNeXtShape, *, num_classes: int) -> None:
        super().__init__()
        channels = shape.stem_channels
        kernel = kernel_t, kernel_h, kernel_w = shape.stem_kernel_THW
        padding = (kernel_t // 2, kernel_h // 2, kernel_w // 2)
        self.conv1 = nn.Conv3d(3, channels, kernel, stride=(1, 2, 2), padding=padding, bias=False)
        self.bn1 = nn.BatchNorm3d(channels)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        for index, (num_blocks, width) in enumerate(zip(shape.blocks, shape.widths, strict=True)):
            stage = nn.Sequential()
            for block in range(num_blocks):
                stride = 2 if index > 0 and block == 0 else 1
                stage.append(Bottleneck(channels, width=width, groups=shape.groups, stride=stride))
                channels = 2 * width
            self.add_module(TAPS[1 + index], stage)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, clip_BCTHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Normalised pixels (B,3,T,H,W) -> logits (B,K) and the taps, each (B,c,t,h,w) after its ReLU."""
        taps = {"conv": torch.relu(self.bn1(self.conv1(clip_BCTHW)))}
        x = self.maxpool(taps["conv"])
        for name in TAPS[1:]:
            x = taps[name] = self.get_submodule(name)(x)
        return self.fc(x.mean((2, 3, 4))), taps
