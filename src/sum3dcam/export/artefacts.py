"""From a prepared network to the pair of files that is served: explain graph and labels graph, each past the gate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import nn

from sum3dcam.contract import CLIP, EXPLAIN_GRAPH, LABELS_GRAPH, TARGET, Card
from sum3dcam.export.archive import labels_path
from sum3dcam.export.joint import explain_graph, labels_graph
from sum3dcam.export.onnx import to_model, write_onnx
from sum3dcam.export.parity import Arrays, Engine, check_engine, reference
from sum3dcam.export.prepare import Prepared
from sum3dcam.export.pt2 import to_program, write_pt2
from sum3dcam.export.torchscript import trace, write_torchscript

Write = Callable[[Path, Card], None]


@dataclass(frozen=True)
class Candidate:
    """A graph in its format, not yet signed: how to run it and how to write it with its card."""

    engine: str
    versions: str
    run: Engine
    write: Write


def onnx_candidate(graph: nn.Module, *, card: Card, inputs: tuple[torch.Tensor, ...]) -> Candidate:
    """The graph as ONNX, run by onnxruntime on the CPU."""
    model = to_model(graph, card=card)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [info.name for info in session.get_inputs()]

    def run(clips_BTHWC: npt.NDArray[np.uint8], targets_B: npt.NDArray[np.int64]) -> Arrays:
        given = {CLIP: clips_BTHWC, TARGET: targets_B}
        return dict(zip(card.outputs, session.run(None, {name: given[name] for name in names}), strict=True))

    return Candidate(
        engine="onnxruntime CPUExecutionProvider",
        versions=f"onnxruntime {onnxruntime.__version__}",
        run=run,
        write=lambda path, signed: write_onnx(model, path, card=signed),
    )


def torchscript_candidate(graph: nn.Module, *, card: Card, inputs: tuple[torch.Tensor, ...]) -> Candidate:
    """The graph as TorchScript, run by torch on the CPU."""
    traced = trace(graph, inputs=inputs)
    return Candidate(
        engine="torchscript cpu",
        versions=f"torch {torch.__version__}",
        run=partial(_run_torch, traced, card),
        write=lambda path, signed: write_torchscript(traced, path, card=signed),
    )


def pt2_candidate(graph: nn.Module, *, card: Card, inputs: tuple[torch.Tensor, ...]) -> Candidate:
    """The graph as a program of torch.export, run by torch on the CPU, operator by operator."""
    program = to_program(graph, inputs=inputs)
    return Candidate(
        engine="torch.export cpu",
        versions=f"torch {torch.__version__}",
        run=partial(_run_torch, program.module(), card),
        write=lambda path, signed: write_pt2(program, path, card=signed),
    )


def _run_torch(
    module: Callable[..., Any], card: Card, clips_BTHWC: npt.NDArray[np.uint8], targets_B: npt.NDArray[np.int64]
) -> Arrays:
    given = [torch.from_numpy(clips_BTHWC), torch.from_numpy(targets_B)]
    with torch.inference_mode():
        values = module(*given[: 2 if card.graph == EXPLAIN_GRAPH else 1])
    return {name: tensor.numpy() for name, tensor in zip(card.outputs, values, strict=True)}


CANDIDATES: Mapping[str, Callable[..., Candidate]] = {
    ".onnx": onnx_candidate,
    ".pt": torchscript_candidate,
    ".pt2": pt2_candidate,
}


def export_pair(prepared: Prepared, output: Path, *, say: Callable[[str], None] = lambda line: None) -> list[Any]:
    """Writes the explain graph to `output` and the labels graph beside it; gives the two parity rows.

    The suffix of `output` chooses the format, a key of CANDIDATES. Nothing is written unless both pass the gate.

    Raises:
        ParityError: a graph differs from the float64 oracle beyond tolerance.
        KeyError: another suffix.
    """
    make = CANDIDATES[output.suffix]
    classifier, card = prepared.classifier, prepared.card
    clip = prepared.example_clip()
    target = torch.zeros(len(clip), dtype=torch.int64)
    say("oracle: float64 autograd, and the joint graph against it")
    oracle = reference(prepared)
    candidates = []
    for path, signed, graph, inputs in (
        (output, card, explain_graph(classifier, taps=card.taps, clip_BTHWC=clip), (clip, target)),
        (
            labels_path(output),
            replace(card, graph=LABELS_GRAPH),
            labels_graph(classifier, clip_BTHWC=clip),
            (clip,),
        ),
    ):
        say(f"parity: {path.name}")
        candidate = make(graph, card=signed, inputs=inputs)
        row = check_engine(candidate.engine, run=candidate.run, versions=candidate.versions, reference=oracle)
        candidates.append((candidate, path, replace(signed, parity=(row,))))
    for candidate, path, signed in candidates:
        candidate.write(path, signed)
    return [signed.parity[0] for _, _, signed in candidates]
