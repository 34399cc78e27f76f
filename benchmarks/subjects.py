"""The programs that are timed against each other: this package's engines, eager torch, and its peers."""

import copy
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from captum.attr import LayerGradCam
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sum3dcam.artefact import read_card
from sum3dcam.attribution.grids import GRID_FORMULAS
from sum3dcam.attribution.maps import grids_read
from sum3dcam.contract import (
    DEFAULT_METHOD,
    EXPLAIN_GRAPH,
    FP32,
    LABELS_GRAPH,
    LOGITS,
    TOP_CLASS,
    Card,
    grid_name,
    output_names,
)
from sum3dcam.errors import ArtifactError
from sum3dcam.export.archive import labels_path
from sum3dcam.export.joint import ExplainGraph, LabelsGraph, explain_graph, fold_weights, labels_graph
from sum3dcam.export.precision import lower_precision
from sum3dcam.export.prepare import Prepared
from sum3dcam.models import Classifier
from sum3dcam.serving.engines import LOADERS, Engine, load_engine
from sum3dcam.serving.engines.torch_engine import put_channels_last

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.oracle import grad_cam

# What is asked for: logits; the two grids of all taps that Sum3DCAM is made of; Grad-CAM of layers 1 to 4, as of peers.
LABELS, MAPS, LAYERS = "labels", "maps", "maps, layers 1-4"
PEER_TAPS = ("layer1", "layer2", "layer3", "layer4")
Answer = Mapping[str, NDArray[Any]]
Module = TypeVar("Module", bound=nn.Module)
PRECISIONS: Mapping[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Subject:
    """A program that answers (clips uint8 (B,T,H,W,C), targets int64 (B,)) with the outputs of its kind."""

    name: str
    kind: str
    run: Callable[[NDArray[np.uint8], NDArray[np.int64]], Answer]
    precision: str = "fp32"


def outputs_of(card: Card) -> Mapping[str, tuple[str, ...]]:
    """The outputs of each kind that the card's network can be asked for."""
    grids = {MAPS: grids_read(DEFAULT_METHOD, taps=card.tap_names)}
    if set(PEER_TAPS) <= set(card.tap_names):
        grids[LAYERS] = grids_read("sum-gradcam", taps=PEER_TAPS)
    return {LABELS: (LOGITS,), **grids}


def engine_subjects(
    artifacts: list[Path], *, device: str, num_threads: int, cuda_graph_batches: Collection[int] = ()
) -> Iterator[Subject]:
    """Every engine that runs one of the files and passed its gate, in each kind; on a GPU torch's also as CUDA graphs
    of these sizes of batches."""
    for path in artifacts:
        on_gpu = device != "cpu" and path.suffix in (".pt", ".pt2")
        for name, batches in product(LOADERS[path.suffix], ((), cuda_graph_batches) if on_gpu else ((),)):
            shown = f"{name}, CUDA graph" if batches else name
            kinds = dict(outputs_of(read_card(path)))
            for file, wanted in ((labels_path(path), {LABELS: kinds.pop(LABELS)}), (path, kinds)):
                load = partial(load_engine, file, device=device, num_threads=num_threads, engine=name)
                try:
                    engine = load(wanted=next(iter(wanted.values())), cuda_graph_batches=batches)
                except ArtifactError as error:
                    print(f"left out: {shown} {', '.join(wanted)}: {error}", file=sys.stderr)
                    continue
                for kind, outputs in wanted.items():
                    yield Subject(shown, kind, partial(_engine_answer, engine, outputs), engine.card.precision)


def _engine_answer(
    engine: Engine, wanted: tuple[str, ...], clips: NDArray[np.uint8], targets: NDArray[np.int64]
) -> Answer:
    found = engine.run(clips, target_B=targets, outputs=wanted)
    return {name: found[name] for name in wanted}


def eager_subjects(prepared: Prepared, *, device: str, precision: str) -> Iterator[Subject]:
    """Eager torch, batch norms folded: the forward; and the forward with one backward to the taps."""
    folded = _channels_last(fold(prepared).to(device, PRECISIONS[precision]), device=device)

    def labels(clips: NDArray[np.uint8], targets: NDArray[np.int64]) -> Answer:
        with torch.inference_mode():
            return {LOGITS: _numpy(folded(torch.from_numpy(clips).to(device))[0])}

    def maps(wanted: tuple[str, ...], clips: NDArray[np.uint8], targets: NDArray[np.int64]) -> Answer:
        logits, activations = folded(torch.from_numpy(clips).to(device))
        names = [name for name in activations if any(grid.endswith(f"_{name}") for grid in wanted)]
        explained = logits.gather(1, torch.from_numpy(targets).to(device)[:, None]).sum()
        gradients = torch.autograd.grad(explained, [activations[name] for name in names])
        grids = {
            grid_name(grid, name): formula(activations[name].detach(), gradient)
            for name, gradient in zip(names, gradients, strict=True)
            for grid, formula in GRID_FORMULAS.items()
            if grid_name(grid, name) in wanted
        }
        return {name: _numpy(grids[name]) for name in wanted}

    for kind, wanted in outputs_of(prepared.card).items():
        run = labels if kind == LABELS else partial(maps, wanted)
        yield Subject("eager" if kind == LABELS else "eager, one backward", kind, run, precision)


def compiled_subjects(prepared: Prepared, *, device: str, precision: str) -> Iterator[Subject]:
    """The joint graph compiled by inductor, weights folded; on CUDA with CUDA graphs."""
    torch._dynamo.config.recompile_limit = 64  # programs, kinds and batch sizes share the code of _Chosen
    mode = "max-autotune" if device.startswith("cuda") else "default"
    for kind, wanted in outputs_of(prepared.card).items():
        taps = tuple(tap for tap in prepared.card.taps if any(name.endswith(f"_{tap.name}") for name in wanted))
        clip = prepared.example_clip()
        graph: LabelsGraph | ExplainGraph
        if kind == LABELS:
            graph = labels_graph(prepared.classifier, clip_BTHWC=clip)
        else:
            graph = explain_graph(prepared.classifier, taps=taps, clip_BTHWC=clip)
        if precision != FP32:
            lower_precision(graph, PRECISIONS[precision])
        if isinstance(graph, ExplainGraph):
            graph = fold_weights(graph)
        names = output_names(LABELS_GRAPH if kind == LABELS else EXPLAIN_GRAPH, taps)
        _channels_last(graph.to(device), device=device)
        chosen = torch.compile(_Chosen(graph, [names.index(name) for name in wanted]), mode=mode)
        yield Subject("inductor", kind, partial(_compiled_answer, chosen, wanted, device), precision)


class _Chosen(nn.Module):
    """A graph of which only some outputs are wanted: the compiler leaves the rest out."""

    def __init__(self, graph: nn.Module, places: list[int]) -> None:
        super().__init__()
        self.graph = graph
        self.places = places

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.graph(*inputs)
        return tuple(outputs[place] for place in self.places)


def _compiled_answer(
    chosen: Callable[..., Any],
    wanted: tuple[str, ...],
    device: str,
    clips: NDArray[np.uint8],
    targets: NDArray[np.int64],
) -> Answer:
    inputs = (torch.from_numpy(clips).to(device), torch.from_numpy(targets).to(device))
    with torch.no_grad():
        values = chosen(*inputs[: 1 if wanted == (LOGITS,) else 2])
    return {name: _numpy(value) for name, value in zip(wanted, values, strict=True)}


def _channels_last(module: Module, *, device: str) -> Module:
    """The same module, with the weights that a GPU's convolutions like; on the CPU as it is."""
    if device != "cpu":
        put_channels_last(module)
    return module


def _numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = tensor.detach().float().cpu().numpy()
    return found


def peer_subjects(prepared: Prepared, *, device: str) -> Iterator[Subject]:
    """pytorch-grad-cam and captum over layers 1 to 4, as their manuals use them, on the same folded network."""
    folded = fold(prepared).to(device)
    base = getattr(folded.network, "base", folded.network)
    layers = {tap: base.get_submodule(tap) for tap in PEER_TAPS}

    def pytorch_grad_cam(clips: NDArray[np.uint8], targets: NDArray[np.int64]) -> Answer:
        classes = _classes(targets)
        found = grad_cam.grids(
            grad_cam.METHOD_OF_GRID["gradcam"],
            folded,
            layers=list(layers.values()),
            clips_BTHWC=torch.from_numpy(clips).to(device),
            classes=classes.tolist(),
        )
        return {grid_name("gradcam", tap): grid for tap, grid in zip(layers, found, strict=True)}

    def captum(clips: NDArray[np.uint8], targets: NDArray[np.int64]) -> Answer:
        classes = _classes(targets).to(device)
        pixels = torch.from_numpy(clips).to(device).float()
        return {
            grid_name("gradcam", tap): LayerGradCam(lambda given: folded(given)[0], layer)
            .attribute(pixels, classes, relu_attributions=False)[:, 0]
            .detach()
            .cpu()
            .numpy()
            for tap, layer in layers.items()
        }

    yield Subject("pytorch-grad-cam", LAYERS, pytorch_grad_cam)
    yield Subject("captum", LAYERS, captum)


def _classes(targets: NDArray[np.int64]) -> torch.Tensor:
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
