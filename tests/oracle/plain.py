"""ResNeXt-101 with Sum3DCAM in plain PyTorch autograd, written from METHOD.md alone: the oracle of the exports.

Nothing of sum3dcam is imported. Two checkpoints that agree with this file agree with METHOD.md sections 1 and 2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = ("conv", "layer1", "layer2", "layer3", "layer4")
BLOCKS = (3, 4, 23, 3)
GROUPS = 32
MEAN = (114.7748, 107.7354, 99.4750)
NUM_PARAMETERS_AT_51 = 47_625_715
GRIDS_AT_16_112 = {
    "conv": (64, 16, 56, 56),
    "layer1": (256, 8, 28, 28),
    "layer2": (512, 4, 14, 14),
    "layer3": (1024, 2, 7, 7),
    "layer4": (2048, 1, 4, 4),
}

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Explanation:
    """What METHOD.md asks for, as numpy in the dtype of the computation. `grids` are keyed "<grid>_<tap>"."""

    logits_BK: np.ndarray
    explained_B: np.ndarray
    saliency_BTHW: np.ndarray
    grids: Mapping[str, np.ndarray]
    tap_shapes: Mapping[str, tuple[int, ...]]

    def outputs(self) -> dict[str, np.ndarray]:
        """By the names of ARCHITECTURE.md's graph outputs."""
        return {
            "logits": self.logits_BK,
            "explained": self.explained_B,
            "saliency": self.saliency_BTHW,
            **self.grids,
        }


def load(path: Path, *, dtype: torch.dtype) -> dict[str, Tensor]:
    """The state of a checkpoint in the released layout, without its "module." prefix."""
    checkpoint = torch.load(path, weights_only=True)
    if checkpoint["arch"] != "resnext-101":
        raise ValueError(f"arch is {checkpoint['arch']!r}")
    return {key.removeprefix("module."): value.to(dtype) for key, value in checkpoint["state_dict"].items()}


def explain(state: State, clip_BTHWC: np.ndarray, *, target_B: np.ndarray) -> Explanation:
    """One forward and one backward per call, in the dtype of `state`; target -1 is the top class."""
    taps, logits_BK = _forward(state, torch.from_numpy(clip_BTHWC).to(state["fc.weight"].dtype))
    return attribute(logits_BK, taps, target_B=target_B, size_THW=clip_BTHWC.shape[1:4])


def attribute(
    logits_BK: Tensor, taps: Mapping[str, Tensor], *, target_B: np.ndarray, size_THW: tuple[int, ...]
) -> Explanation:
    """METHOD.md section 1 behind any forward pass that autograd has recorded."""
    target = torch.from_numpy(target_B)
    explained_B = torch.where(target < 0, logits_BK.argmax(1), target)
    # Items share no operator across the batch in eval mode, so the gradient of the sum is each item's own.
    chosen = logits_BK.gather(1, explained_B[:, None]).sum()
    gradients = dict(zip(taps, torch.autograd.grad(chosen, list(taps.values())), strict=True))
    with torch.no_grad():
        grids = {f"{name}_{tap}": grid for tap in taps for name, grid in _grids(taps[tap], gradients[tap]).items()}
        pairs = {tap: (grids[f"activation_{tap}"], grids[f"gradient_{tap}"]) for tap in taps}
        saliency = sum3dcam(pairs, size_THW=size_THW)
    return Explanation(
        logits_BK=logits_BK.detach().numpy(),
        explained_B=explained_B.numpy(),
        saliency_BTHW=saliency.numpy(),
        grids={name: grid.numpy() for name, grid in grids.items()},
        tap_shapes={tap: tuple(value.shape[1:]) for tap, value in taps.items()},
    )


def sum3dcam(pairs: Mapping[str, tuple[Tensor, Tensor]], *, size_THW: tuple[int, ...]) -> Tensor:
    """Equation 6 over (activation, gradient) grids (B,t,h,w), divided by its own max per item: (B,T,H,W)."""
    total = torch.stack([_part(up(a, size_THW)) * _part(up(g, size_THW)) for a, g in pairs.values()]).sum(0)
    return _part(total)


def up(grid_Bthw: Tensor, size_THW: tuple[int, ...]) -> Tensor:
    """METHOD.md's `up`: trilinear, align_corners=False."""
    return F.interpolate(grid_Bthw[:, None], size=tuple(size_THW), mode="trilinear", align_corners=False)[:, 0]


def _part(map_BTHW: Tensor) -> Tensor:
    """METHOD.md's n(x): ReLU over its own max per sample, all zero where that max is at most 1e-20."""
    positive = map_BTHW.relu()
    peak = positive.amax((1, 2, 3), keepdim=True)
    return torch.where(peak > 1e-20, positive / peak.clamp_min(1e-20), torch.zeros_like(positive))


def _grids(activation: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    return {
        "activation": activation.sum(1),
        "gradient": gradient.sum(1),
        "gradcam": (gradient.mean((2, 3, 4), keepdim=True) * activation).sum(1),
        "layercam": (gradient.relu() * activation).sum(1),
        "hirescam": (gradient * activation).sum(1),
    }


def batch_norm(
    x: Tensor, state: State, name: str, *, eps: float = 1e-5, statistics: dict[str, Tensor] | None = None
) -> Tensor:
    """Batch norm in eval mode. With `statistics`, the batch's own are used and written there (calibration)."""
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if statistics is not None:
        axes = (0, *range(2, x.ndim))
        mean, var = x.mean(axes), x.var(axes, unbiased=False)
        statistics[f"{name}.running_mean"], statistics[f"{name}.running_var"] = mean, var
    return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], training=False, eps=eps)


def calibrated(state: State, statistics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the statistics of a small sample, widened for the channels that were all but silent in it."""
    widened = {name: v.clamp_min(1e-3) if name.endswith("running_var") else v for name, v in statistics.items()}
    return {**state, **widened}


def random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """What a training may leave under `name`: He-scaled kernels, batch-norm scales near one; neutral statistics."""
    if name.endswith(".running_mean"):
        return torch.zeros(shape)
    if name.endswith(".running_var"):
        return torch.ones(shape)
    if len(shape) > 1:
        return torch.randn(shape, generator=generator) * (2 / math.prod(shape[1:])) ** 0.5
    if name.endswith(".weight"):
        return 0.5 + torch.rand(shape, generator=generator)
    return 0.2 * torch.randn(shape, generator=generator)


def _forward(
    state: State, clip_BTHWC: Tensor, *, statistics: dict[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    x = (clip_BTHWC - torch.tensor(MEAN, dtype=clip_BTHWC.dtype)).permute(0, 4, 1, 2, 3)
    x = F.conv3d(x, state["conv1.weight"], stride=(1, 2, 2), padding=3)
    x = batch_norm(x, state, "bn1", statistics=statistics).relu()
    if statistics is None:
        x.requires_grad_()  # nothing below the lowest tap is ever differentiated
    taps = {"conv": x}
    x = F.max_pool3d(x, 3, stride=2, padding=1)
    for stage, blocks in enumerate(BLOCKS, start=1):
        for index in range(blocks):
            stride = 2 if index == 0 and stage > 1 else 1
            x = _bottleneck(x, state, f"layer{stage}.{index}", stride=stride, statistics=statistics)
        taps[f"layer{stage}"] = x
    return taps, F.linear(x.mean((2, 3, 4)), state["fc.weight"], state["fc.bias"])


def _bottleneck(x: Tensor, state: State, name: str, *, stride: int, statistics: dict[str, Tensor] | None) -> Tensor:
    y = batch_norm(F.conv3d(x, state[f"{name}.conv1.weight"]), state, f"{name}.bn1", statistics=statistics).relu()
    y = F.conv3d(y, state[f"{name}.conv2.weight"], stride=stride, padding=1, groups=GROUPS)
    y = batch_norm(y, state, f"{name}.bn2", statistics=statistics).relu()
    y = batch_norm(F.conv3d(y, state[f"{name}.conv3.weight"]), state, f"{name}.bn3", statistics=statistics)
    if f"{name}.downsample.0.weight" in state:
        x = F.conv3d(x, state[f"{name}.downsample.0.weight"], stride=stride)
        x = batch_norm(x, state, f"{name}.downsample.1", statistics=statistics)
    return (y + x).relu()


def write_checkpoint(path: Path, *, num_classes: int, seed: int, legacy: bool = False) -> None:
    """Writes random weights in the released layout: what a training would have left, as far as conditioning goes.

    `legacy` is the container of the released files themselves, a bare pickle, as torch wrote before 1.6.

    Batch-norm statistics are those of a calibration pass, so activations stay of order one through 33 blocks.
    """
    state = _random_state(torch.Generator().manual_seed(seed), num_classes=num_classes)
    with torch.no_grad():
        statistics: dict[str, Tensor] = {}
        clip_BTHWC = torch.from_numpy(random_clips(2, size_px=64, seed=seed)).float()
        _forward(state, clip_BTHWC, statistics=statistics)
        state = calibrated(state, statistics)
    torch.save(
        {
            "epoch": 200,
            "arch": "resnext-101",
            "state_dict": {f"module.{name}": value for name, value in state.items()},
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.001, "momentum": 0.9, "params": [0]}]},
        },
        path,
        _use_new_zipfile_serialization=not legacy,
    )


def random_clips(num_clips: int, *, size_px: int, seed: int, num_frames: int = 16) -> np.ndarray:
    """Smooth moving colour fields with grain: uint8 (N,T,H,W,3), with the low frequencies of real footage."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num_clips, 3, 5, 6, 6, generator=generator)
    smooth = F.interpolate(coarse, size=(num_frames, size_px, size_px), mode="trilinear", align_corners=True)
    grain = torch.rand(smooth.shape, generator=generator)
    return (255 * (0.75 * smooth + 0.25 * grain)).to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous().numpy()


def _random_state(generator: torch.Generator, *, num_classes: int) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}

    def conv(name: str, *shape: int) -> None:
        state[f"{name}.weight"] = random_tensor(f"{name}.weight", shape, generator)

    def bn(name: str, channels: int, *, gain: float = 1.0) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = random_tensor(f"{name}.{part}", (channels,), generator)
        state[f"{name}.weight"] *= gain

    conv("conv1", 64, 3, 7, 7, 7)
    bn("bn1", 64)
    channels_in = 64
    for stage, blocks in enumerate(BLOCKS, start=1):
        width, channels_out = 64 * 2**stage, 128 * 2**stage
        for index in range(blocks):
            name = f"layer{stage}.{index}"
            conv(f"{name}.conv1", width, channels_in, 1, 1, 1)
            bn(f"{name}.bn1", width)
            conv(f"{name}.conv2", width, width // GROUPS, 3, 3, 3)
            bn(f"{name}.bn2", width)
            conv(f"{name}.conv3", channels_out, width, 1, 1, 1)
            bn(f"{name}.bn3", channels_out, gain=0.3)  # small residuals: the depth adds up, it does not blow up
            if index == 0:
                conv(f"{name}.downsample.0", channels_out, channels_in, 1, 1, 1)
                bn(f"{name}.downsample.1", channels_out)
            channels_in = channels_out
    state["fc.weight"] = torch.randn(num_classes, channels_in, generator=generator) * channels_in**-0.5
    state["fc.bias"] = 0.1 * torch.randn(num_classes, generator=generator)
    return state
