"""torchvision's ResNet-50 (v1.5) with Sum 2DCAM in plain PyTorch autograd, written from METHOD.md alone.

Nothing of sum3dcam or torchvision is imported. An image is a clip of one frame, a map of it has one frame too.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tests.oracle import plain
from tests.oracle.plain import Explanation, State
from torch import Tensor

TAPS = ("conv", "layer1", "layer2", "layer3", "layer4")
BLOCKS = (3, 4, 6, 3)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_PARAMETERS_AT_1000 = 25_557_032
GRIDS_AT_224 = {
    "conv": (64, 1, 112, 112),
    "layer1": (256, 1, 56, 56),
    "layer2": (512, 1, 28, 28),
    "layer3": (1024, 1, 14, 14),
    "layer4": (2048, 1, 7, 7),
}


def explain(state: State, clip_BTHWC: np.ndarray, *, target_B: np.ndarray, taps: Sequence[str] = TAPS) -> Explanation:
    """One forward and one backward per call, in the dtype of `state`; target -1 is the top class.

    The clip (B,1,H,W,3) holds 0..255; the saliency (B,1,H,W) sums over `taps`, the grids are (B,1,h,w).
    """
    found, logits_BK = forward(state, torch.from_numpy(clip_BTHWC).to(state["fc.weight"].dtype))
    chosen = {tap: found[tap] for tap in taps}
    return plain.attribute(logits_BK, chosen, target_B=target_B, size_THW=clip_BTHWC.shape[1:4])


def forward(
    state: State, clip_BTHWC: Tensor, *, statistics: dict[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """The taps (B,c,1,h,w) after ReLU, recorded by autograd from `conv` upward, and the logits (B,K).

    The clip is of the state's dtype, has one frame and holds 0..255. With `statistics`, see `plain.batch_norm`.
    """
    x = normalised(clip_BTHWC)
    x = F.conv2d(x, state["conv1.weight"], stride=2, padding=3)
    x = plain.batch_norm(x, state, "bn1", statistics=statistics).relu()
    if statistics is None:
        x.requires_grad_()  # nothing below the lowest tap is ever differentiated
    taps = {"conv": x[:, :, None]}
    for tap in TAPS[1:]:
        x = _stage(taps[TAPS[len(taps) - 1]][:, :, 0], state, tap, statistics=statistics)
        taps[tap] = x[:, :, None]
    return taps, _head(taps["layer4"][:, :, 0], state)


def logits_behind(tap: str, activation: Tensor, state: State) -> Tensor:
    """The logits (B,K), were the output of `tap` this activation (B,c,1,h,w)."""
    x = activation[:, :, 0]
    for stage in TAPS[TAPS.index(tap) + 1 :]:
        x = _stage(x, state, stage)
    return _head(x, state)


def normalised(clip_BTHWC: Tensor) -> Tensor:
    """The one frame of each clip, 0..255, as the network's input (B,3,H,W)."""
    if clip_BTHWC.shape[1] != 1:
        raise ValueError(f"{clip_BTHWC.shape[1]} frames, not one")
    mean, std = (torch.tensor(v, dtype=clip_BTHWC.dtype, device=clip_BTHWC.device) for v in (MEAN, STD))
    return ((clip_BTHWC[:, 0] / 255 - mean) / std).permute(0, 3, 1, 2)


def _stage(x: Tensor, state: State, stage: str, *, statistics: dict[str, Tensor] | None = None) -> Tensor:
    if stage == "layer1":
        x = F.max_pool2d(x, 3, stride=2, padding=1)
    for index in range(BLOCKS[int(stage[-1]) - 1]):
        stride = 2 if index == 0 and stage != "layer1" else 1
        x = _bottleneck(x, state, f"{stage}.{index}", stride=stride, statistics=statistics)
    return x


def _bottleneck(x: Tensor, state: State, name: str, *, stride: int, statistics: dict[str, Tensor] | None) -> Tensor:
    def bn(y: Tensor, part: str) -> Tensor:
        return plain.batch_norm(y, state, f"{name}.{part}", statistics=statistics)

    y = bn(F.conv2d(x, state[f"{name}.conv1.weight"]), "bn1").relu()
    y = bn(F.conv2d(y, state[f"{name}.conv2.weight"], stride=stride, padding=1), "bn2").relu()
    y = bn(F.conv2d(y, state[f"{name}.conv3.weight"]), "bn3")
    if f"{name}.downsample.0.weight" in state:
        x = bn(F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride), "downsample.1")
    return (y + x).relu()


def _head(x: Tensor, state: State) -> Tensor:
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def shapes(*, num_classes: int) -> dict[str, tuple[int, ...]]:
    """The shape of every float tensor by torchvision's name, in the order of its files."""
    table: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), **_bn_shapes("bn1", 64)}
    channels_in = 64
    for stage, blocks in enumerate(BLOCKS, start=1):
        for index in range(blocks):
            table |= _bottleneck_shapes(f"layer{stage}.{index}", channels_in, 32 * 2**stage, first=index == 0)
            channels_in = 128 * 2**stage
    return table | {"fc.weight": (num_classes, channels_in), "fc.bias": (num_classes,)}


def _bottleneck_shapes(name: str, channels_in: int, width: int, *, first: bool) -> dict[str, tuple[int, ...]]:
    channels_out = 4 * width
    table: dict[str, tuple[int, ...]] = {f"{name}.conv1.weight": (width, channels_in, 1, 1)}
    table |= _bn_shapes(f"{name}.bn1", width)
    table |= {f"{name}.conv2.weight": (width, width, 3, 3), **_bn_shapes(f"{name}.bn2", width)}
    table |= {f"{name}.conv3.weight": (channels_out, width, 1, 1), **_bn_shapes(f"{name}.bn3", channels_out)}
    if first:
        table[f"{name}.downsample.0.weight"] = (channels_out, channels_in, 1, 1)
        table |= _bn_shapes(f"{name}.downsample.1", channels_out)
    return table


def _bn_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def random_state(*, num_classes: int, seed: int) -> dict[str, Tensor]:
    """Random float32 weights by torchvision's names, as far as conditioning goes what a training would have left.

    Batch-norm statistics are those of a calibration pass, so activations stay of order one through the network.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes(num_classes=num_classes).items():
        state[name] = plain.random_tensor(name, shape, generator)
        if name.endswith("bn3.weight"):
            state[name] *= 0.3  # small residuals: the depth adds up, it does not blow up
    statistics: dict[str, Tensor] = {}
    with torch.no_grad():
        images_BTHWC = torch.from_numpy(plain.random_clips(8, size_px=64, num_frames=1, seed=seed))
        forward(state, images_BTHWC.float(), statistics=statistics)
    return plain.calibrated(state, statistics)


def write_checkpoint(path: Path, state: State, *, tracked: bool = True, legacy: bool = False) -> None:
    """Writes `state` as torchvision does: a bare state dict, with num_batches_tracked in every batch norm."""
    named: OrderedDict[str, Tensor] = OrderedDict()
    for name, value in state.items():
        named[name] = value
        if tracked and name.endswith(".running_var"):  # the last of a batch norm's float tensors
            named[name.replace("running_var", "num_batches_tracked")] = torch.tensor(1000)
    torch.save(named, path, _use_new_zipfile_serialization=not legacy)


def load(path: Path, *, dtype: torch.dtype) -> dict[str, Tensor]:
    """The state of a file in torchvision's layout, without batch counters."""
    content = torch.load(path, weights_only=True)
    return {name: value.to(dtype) for name, value in content.items() if not name.endswith(".num_batches_tracked")}
