"""The programs that are timed against each other: this package's engines, eager torch, and its peers."""

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import LayerGradCam
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sum3dcam.contract import LOGITS, TOP_CLASS, grid_name
from sum3dcam.errors import ArtifactError
from sum3dcam.export.archive import labels_path
from sum3dcam.export.parity import autograd_answers
from sum3dcam.export.prepare import Prepared
from sum3dcam.models import Classifier
from sum3dcam.serving.engines import LOADERS, load_engine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.oracle import grad_cam

LABELS, MAPS = "labels", "maps"
# What the peers are asked for: Grad-CAM of each of these taps, which they compute one by one or at once.
PEER_TAPS = ("layer1", "layer2", "layer3", "layer4")
Answer = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Subject:
    """A program that answers (clips uint8 (B,T,H,W,C), targets int64 (B,)) with some of the graph's outputs.

    `kind` is LABELS or MAPS.
    """

    name: str
    kind: str
    run: Callable[[NDArray[np.uint8], NDArray[np.int64]], Answer]


def engine_subjects(artifacts: list[Path], *, num_threads: int) -> Iterator[Subject]:
    """Every engine that runs one of the files and passed its gate, labels graph and explain graph."""
    for path in artifacts:
        for engine_name in LOADERS[path.suffix]:
            for kind, file in ((LABELS, labels_path(path)), (MAPS, path)):
                try:
                    engine = load_engine(file, device="cpu", num_threads=num_threads, engine=engine_name)
                except ArtifactError as error:
                    print(f"left out: {engine_name} {kind}: {error}", file=sys.stderr)
                    continue
                run = engine.run
                yield Subject(engine.name, kind, lambda clips, targets, run=run: run(clips, target_B=targets))


def eager_subjects(prepared: Prepared) -> Iterator[Subject]:
    """Eager float32 torch with batch norms folded: forward; and forward with one backward to all taps at once."""
    card, folded = prepared.card, fold(prepared)

    def labels(clips: NDArray[np.uint8], targets: NDArray[np.int64]) -> Answer:
        with torch.inference_mode():
            return {LOGITS: folded(torch.from_numpy(clips))[0].numpy()}

    def maps(clips: NDArray[np.uint8], targets: NDArray[np.int64]) -> Answer:
        return autograd_answers(folded, torch.from_numpy(clips), torch.from_numpy(targets), card=card)

    yield Subject("eager", LABELS, labels)
    yield Subject("eager, one backward", MAPS, maps)


def peer_subjects(prepared: Prepared) -> Iterator[Subject]:
    """pytorch-grad-cam and captum over layers 1 to 4, as their manuals use them, on the same folded network."""
    folded = fold(prepared)
    base = getattr(folded.network, "base", folded.network)
    layers = {tap: base.get_submodule(tap) for tap in PEER_TAPS}

    def pytorch_grad_cam(clips: NDArray[np.uint8], targets: NDArray[np.int64]) -> Answer:
        classes = _classes(folded, clips, targets)
        found = grad_cam.grids(
            grad_cam.METHOD_OF_GRID["gradcam"],
            folded,
            layers=list(layers.values()),
            clips_BTHWC=torch.from_numpy(clips),
            classes=classes.tolist(),
        )
        return {grid_name("gradcam", tap): grid for tap, grid in zip(layers, found, strict=True)}

    def captum(clips: NDArray[np.uint8], targets: NDArray[np.int64]) -> Answer:
        classes = _classes(folded, clips, targets)
        pixels = torch.from_numpy(clips).float()
        return {
            grid_name("gradcam", tap): LayerGradCam(lambda given: folded(given)[0], layer)
            .attribute(pixels, classes, relu_attributions=False)[:, 0]
            .detach()
            .numpy()
            for tap, layer in layers.items()
        }

    yield Subject("pytorch-grad-cam, layers 1-4", MAPS, pytorch_grad_cam)
    yield Subject("captum, layers 1-4", MAPS, captum)


def _classes(folded: Classifier, clips: NDArray[np.uint8], targets: NDArray[np.int64]) -> torch.Tensor:
    if (targets == TOP_CLASS).any():
        raise ValueError("the peers have no word for the top class; ask for classes")
    return torch.from_numpy(targets)


def fold(prepared: Prepared) -> Classifier:
    """A copy of the classifier with each batch norm folded into the convolution before it, by torch's own function."""
    folded = copy.deepcopy(prepared.classifier).eval()
    pairs: list[tuple[str, str]] = []
    made_by: dict[int, str] = {}  # a convolution's output, which its batch norm takes as it is

    def watch(name: str, module: nn.Module) -> None:
        if isinstance(module, nn.Conv3d):
            module.register_forward_hook(lambda _, inputs, output: made_by.update({id(output): name}))
        if isinstance(module, nn.BatchNorm3d):
            module.register_forward_pre_hook(lambda _, inputs: pairs.append((made_by[id(inputs[0])], name)))

    watched = copy.deepcopy(folded)
    for name, module in watched.named_modules():
        watch(name, module)
    with torch.no_grad():
        watched(prepared.example_clip(1))
    modules = dict(folded.named_modules())
    for conv, norm in pairs:
        folded.set_submodule(conv, fuse_conv_bn_eval(modules[conv], modules[norm]))
        folded.set_submodule(norm, nn.Identity())
    return folded
