"""A network of some hundred weights with batch norm, dropout and a gate, and random clips for it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sum3dcam.models import Classifier
from sum3dcam.models.gating import Gate, Gated
from sum3dcam.training.clips import ClipSet
from sum3dcam.training.loop import Run
from sum3dcam.training.machine import Machine
from sum3dcam.training.stages import Cosine, Drops, Recipe, Stage

NUM_CLASSES = 10
NUM_FRAMES = 4

STAGES = (
    Stage("easy", num_videos=6, size_px=16, steps=5, batch_clips=4, rate=Cosine(1e-2)),
    Stage("full", num_videos=6, size_px=24, steps=6, batch_clips=4, rate=Drops(1e-2, every_steps=2)),
)
ADAMW = Recipe(STAGES)
SGD = Recipe(STAGES, optimizer="sgd", label_smoothing=0.0)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 6, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm3d(6)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(6, NUM_CLASSES)

    def forward(self, clip_BCTHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        tap = torch.relu(self.bn(self.conv(clip_BCTHW)))
        return self.fc(self.dropout(tap.mean((2, 3, 4)))), {"conv": tap}


def classifier() -> Classifier:
    torch.manual_seed(0)
    network = Gated(Tiny(), gates={"conv": Gate(6, num_frames=2, num_classes=NUM_CLASSES)})
    return Classifier(network, mean=(127.5,) * 3, std=(63.75,) * 3)


def clip_set() -> ClipSet:
    rng = np.random.default_rng(0)
    return ClipSet(rng.integers(0, 256, (12, 6, 24, 24, 3)).astype(np.uint8), np.arange(12) % NUM_CLASSES)


def run_in(
    directory: Path, *, report: Callable[[Mapping[str, Any]], None] = lambda row: None, machine: Machine | None = None
) -> Run:
    directory.mkdir(exist_ok=True)
    clips = clip_set()
    return Run(
        directory=directory,
        seed=3,
        num_frames=NUM_FRAMES,
        clips=lambda stage: clips,
        held_out=clips,
        report=report,
        machine=machine or Machine(),
    )
