"""I3D (Inception-v1 inflated) with Sum3DCAM in plain PyTorch autograd, written from METHOD.md alone.

Nothing of sum3dcam is imported. A state is keyed as METHOD.md's layout (a), whatever the file's layout was.
"""

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from tests.oracle import plain
from tests.oracle.plain import Explanation, State
from torch import Tensor

TAPS = ("conv", "layer1", "layer2", "layer3")
ENDPOINT_OF_TAP = {"conv": "Conv3d_1a_7x7", "layer1": "Mixed_3c", "layer2": "Mixed_4f", "layer3": "Mixed_5c"}
EPS = 1e-3
NUM_PARAMETERS_AT_400 = {"rgb": 12_697_264, "flow": 12_675_312}
NUM_CHANNELS = {"rgb": 3, "flow": 2}
GRIDS_AT_64_224 = {
    "conv": (64, 32, 112, 112),
    "layer1": (480, 32, 28, 28),
    "layer2": (832, 16, 14, 14),
    "layer3": (1024, 8, 7, 7),
}

# Output channels and kernel (the same along T, H and W) of the plain convolutions.
CONVOLUTIONS = {"Conv3d_1a_7x7": (64, 7), "Conv3d_2b_1x1": (64, 1), "Conv3d_2c_3x3": (192, 3)}
# Output channels of b0, b1a, b1b, b2a, b2b, b3b; the module's output is b0, b1b, b2b, b3b.
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
# Kernel and stride along T, H, W.
POOLS = {
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
ENDPOINTS = (
    "Conv3d_1a_7x7",
    "MaxPool3d_2a_3x3",
    "Conv3d_2b_1x1",
    "Conv3d_2c_3x3",
    "MaxPool3d_3a_3x3",
    "Mixed_3b",
    "Mixed_3c",
    "MaxPool3d_4a_3x3",
    "Mixed_4b",
    "Mixed_4c",
    "Mixed_4d",
    "Mixed_4e",
    "Mixed_4f",
    "MaxPool3d_5a_2x2",
    "Mixed_5b",
    "Mixed_5c",
)
# Layout (b)'s word for a part of layout (a)'s names; a module's own name is in lower case there.
WORDS_OF_B = {
    "bn": "batch3d",
    "b0": "branch_0",
    "b1a": "branch_1.0",
    "b1b": "branch_1.1",
    "b2a": "branch_2.0",
    "b2b": "branch_2.1",
    "b3b": "branch_3.1",  # branch_3.0 is the pool
}


def explain(state: State, clip_BTHWC: np.ndarray, *, target_B: np.ndarray, taps: Sequence[str] = TAPS) -> Explanation:
    """One forward and one backward per call, in the dtype of `state`; target -1 is the top class.

    The clip holds 0..255, rgb (C=3) or flow (C=2), as `state` expects. The saliency sums over `taps`.
    """
    found, logits_BK = forward(state, _tensor(clip_BTHWC, state))
    chosen = {tap: found[tap] for tap in taps}
    return plain.attribute(logits_BK, chosen, target_B=target_B, size_THW=clip_BTHWC.shape[1:4])


def explain_two_streams(
    states: tuple[State, State],
    clips_BTHWC: tuple[np.ndarray, np.ndarray],
    *,
    target_B: np.ndarray,
    taps: Sequence[str] = TAPS,
) -> tuple[Explanation, Explanation]:
    """The rgb stream's and the flow stream's explanation of one class: both carry the summed logits (B,K).

    Target -1 is the top class of the sum. Each saliency sums over the `taps` of its own stream.
    """
    streams = [forward(state, _tensor(clip, state)) for state, clip in zip(states, clips_BTHWC, strict=True)]
    logits_BK = streams[0][1] + streams[1][1]
    rgb, flow = (
        plain.attribute(logits_BK, {tap: found[tap] for tap in taps}, target_B=target_B, size_THW=clip_BTHWC.shape[1:4])
        for (found, _), clip_BTHWC in zip(streams, clips_BTHWC, strict=True)
    )
    return rgb, flow


def forward(
    state: State, clip_BTHWC: Tensor, *, statistics: dict[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """The taps (B,c,t,h,w) after ReLU, recorded by autograd from `conv` upward, and the logits (B,K).

    The clip is of the state's dtype and holds 0..255. With `statistics`, see `plain.batch_norm`.
    """
    x = _endpoint(normalised(clip_BTHWC), state, "Conv3d_1a_7x7", statistics=statistics)
    if statistics is None:
        x.requires_grad_()  # nothing below the lowest tap is ever differentiated
    outputs = {"Conv3d_1a_7x7": x}
    for name in ENDPOINTS[1:]:
        x = outputs[name] = _endpoint(x, state, name, statistics=statistics)
    return {tap: outputs[name] for tap, name in ENDPOINT_OF_TAP.items()}, head(x, state)


def logits_behind(tap: str, activation: Tensor, state: State) -> Tensor:
    """The logits (B,K), were the output of `tap` this activation (B,c,t,h,w)."""
    x = activation
    for name in ENDPOINTS[ENDPOINTS.index(ENDPOINT_OF_TAP[tap]) + 1 :]:
        x = _endpoint(x, state, name)
    return head(x, state)


def normalised(clip_BTHWC: Tensor) -> Tensor:
    """0..255, rgb or flow, as the network's input (B,C,T,H,W) in -1..1."""
    return ((clip_BTHWC / 255) * 2 - 1).permute(0, 4, 1, 2, 3)


def head(x: Tensor, state: State) -> Tensor:
    """Mixed_5c (B,1024,t,h,w) to logits (B,K): means of all pixels of 2 steps (1 if alone), convolved, their mean."""
    steps, height, width = x.shape[2:]
    pooled = F.avg_pool3d(x, (min(2, steps), height, width), stride=1)
    return F.conv3d(pooled, state["logits.conv3d.weight"], state["logits.conv3d.bias"]).mean((2, 3, 4))


def same_padding(size: int, *, kernel: int, stride: int) -> tuple[int, int]:
    """TF's "SAME" along one axis, before and after: ceil(size / stride) outputs, an odd excess goes to the end."""
    outputs = -(-size // stride)
    total = max(0, (outputs - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def conv_same(x: Tensor, weight: Tensor, *, stride: int) -> Tensor:
    """Convolution without bias of x (B,c,t,h,w), padded with zeros to "SAME"."""
    return F.conv3d(_pad(x, weight.shape[2:], (stride,) * 3, value=0.0), weight, stride=stride)


def max_pool_same(x: Tensor, kernel_THW: tuple[int, ...], stride_THW: tuple[int, ...]) -> Tensor:
    """Maximum over windows of x (B,c,t,h,w), padded to "SAME" with what never wins."""
    return F.max_pool3d(_pad(x, kernel_THW, stride_THW, value=float("-inf")), kernel_THW, stride_THW)


def _pad(x: Tensor, kernel_THW: Iterable[int], stride_THW: Iterable[int], *, value: float) -> Tensor:
    axes = list(zip(x.shape[2:], kernel_THW, stride_THW, strict=True))
    pads = [same_padding(size, kernel=kernel, stride=stride) for size, kernel, stride in axes]
    return F.pad(x, tuple(itertools.chain(*reversed(pads))), value=value)  # torch counts from the last axis


def _endpoint(x: Tensor, state: State, name: str, *, statistics: dict[str, Tensor] | None = None) -> Tensor:
    if name in POOLS:
        return max_pool_same(x, *POOLS[name])
    if name in MIXED:
        return _mixed(x, state, name, statistics=statistics)
    return _unit(x, state, name, stride=2 if name == "Conv3d_1a_7x7" else 1, statistics=statistics)


def _mixed(x: Tensor, state: State, name: str, *, statistics: dict[str, Tensor] | None) -> Tensor:
    def unit(y: Tensor, branch: str) -> Tensor:
        return _unit(y, state, f"{name}.{branch}", stride=1, statistics=statistics)

    pooled = max_pool_same(x, (3, 3, 3), (1, 1, 1))
    return torch.cat([unit(x, "b0"), unit(unit(x, "b1a"), "b1b"), unit(unit(x, "b2a"), "b2b"), unit(pooled, "b3b")], 1)


def _unit(x: Tensor, state: State, name: str, *, stride: int, statistics: dict[str, Tensor] | None) -> Tensor:
    y = conv_same(x, state[f"{name}.conv3d.weight"], stride=stride)
    return plain.batch_norm(y, state, f"{name}.bn", eps=EPS, statistics=statistics).relu()


def _tensor(clip_BTHWC: np.ndarray, state: State) -> Tensor:
    return torch.from_numpy(clip_BTHWC).to(state["logits.conv3d.weight"].dtype)


def shapes(*, num_classes: int, num_channels: int) -> dict[str, tuple[int, ...]]:
    """Layout (a): the shape of every float tensor by its name, in the order of its files (logits first)."""
    table: dict[str, tuple[int, ...]] = {
        "logits.conv3d.weight": (num_classes, 1024, 1, 1, 1),
        "logits.conv3d.bias": (num_classes,),
    }
    channels = num_channels
    for name in ENDPOINTS:
        if name in CONVOLUTIONS:
            channels_out, kernel = CONVOLUTIONS[name]
            table |= _unit_shapes(name, channels, channels_out, kernel)
            channels = channels_out
        elif name in MIXED:
            b0, b1a, b1b, b2a, b2b, b3b = MIXED[name]
            table |= _unit_shapes(f"{name}.b0", channels, b0, 1)
            table |= _unit_shapes(f"{name}.b1a", channels, b1a, 1) | _unit_shapes(f"{name}.b1b", b1a, b1b, 3)
            table |= _unit_shapes(f"{name}.b2a", channels, b2a, 1) | _unit_shapes(f"{name}.b2b", b2a, b2b, 3)
            table |= _unit_shapes(f"{name}.b3b", channels, b3b, 1)
            channels = b0 + b1b + b2b + b3b
    return table


def _unit_shapes(name: str, channels_in: int, channels_out: int, kernel: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {
        f"{name}.conv3d.weight": (channels_out, channels_in, kernel, kernel, kernel),
        **{f"{name}.bn.{part}": (channels_out,) for part in parts},
    }


def random_state(*, num_classes: int, num_channels: int = 3, seed: int) -> dict[str, Tensor]:
    """Random float32 weights by layout (a)'s names, as far as conditioning goes what a training would have left.

    Batch-norm statistics are those of a calibration pass, so activations stay of order one through the network.
    """
    generator = torch.Generator().manual_seed(seed)
    table = shapes(num_classes=num_classes, num_channels=num_channels)
    state = {name: plain.random_tensor(name, shape, generator) for name, shape in table.items()}
    statistics: dict[str, Tensor] = {}
    with torch.no_grad():
        clip_BTHWC = plain.random_clips(2, size_px=112, num_frames=32, seed=seed)[..., :num_channels]
        forward(state, torch.from_numpy(clip_BTHWC).float(), statistics=statistics)
    return plain.calibrated(state, statistics)


def name_in_b(name: str) -> str:
    """Layout (b)'s name of what layout (a) calls `name`."""
    module, *parts = name.split(".")
    module = "conv3d_0c_1x1" if module == "logits" else module.lower()
    return ".".join([module, *(WORDS_OF_B.get(part, part) for part in parts)])


def write_checkpoint(
    path: Path,
    state: State,
    *,
    layout: Literal["a", "b"] = "a",
    tracked: bool = False,
    prefix: str = "",
    wrapped: bool = False,
    legacy: bool = False,
) -> None:
    """Writes `state` (layout (a)'s names) as a file of either public layout.

    `tracked` adds num_batches_tracked to every batch norm, `prefix` (as "module.") precedes every name, `wrapped` puts
    the whole into {"state_dict": ...}, `legacy` chooses the pickle container of before torch 1.6 over the zip file.
    """
    named = OrderedDict(_with_counters(state) if tracked else state)
    if layout == "b":
        named = OrderedDict((name_in_b(name), value) for name, value in named.items())
        for name in ("conv3d_0c_1x1.conv3d.weight", "conv3d_0c_1x1.conv3d.bias"):
            named.move_to_end(name)  # the head comes last in (b)
    named = OrderedDict((prefix + name, value) for name, value in named.items())
    content = {"state_dict": named} if wrapped else named
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def _with_counters(state: State) -> dict[str, Tensor]:
    counted = {}
    for name, value in state.items():
        counted[name] = value
        if name.endswith(".running_var"):  # the last of a batch norm's float tensors
            counted[name.replace("running_var", "num_batches_tracked")] = torch.tensor(1000)
    return counted


def load(path: Path, *, dtype: torch.dtype) -> dict[str, Tensor]:
    """The state of any file `write_checkpoint` writes, by layout (a)'s names, without batch counters."""
    content: Mapping[str, Any] = torch.load(path, weights_only=True)
    content = content.get("state_dict", content)
    found = {name.removeprefix("module."): value for name, value in content.items()}
    names = shapes(num_classes=1, num_channels=3)
    in_a = "logits.conv3d.weight" in found
    return {name: found[name if in_a else name_in_b(name)].to(dtype) for name in names}
