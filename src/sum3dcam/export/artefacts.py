"""From a prepared network to the pair of files that is served: explain graph and labels graph, each past the gate."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from sum3dcam.contract import BF16, FP32, LABELS_GRAPH, Card
from sum3dcam.errors import ArtifactError, ParityError
from sum3dcam.export.aoti import compile_package, write_aoti
from sum3dcam.export.archive import labels_path
from sum3dcam.export.certificate import Row, certify
from sum3dcam.export.joint import explain_graph, labels_graph
from sum3dcam.export.onnx import to_model, write_onnx
from sum3dcam.export.parity import Reference, reference
from sum3dcam.export.precision import lower_precision
from sum3dcam.export.prepare import Prepared
from sum3dcam.export.pt2 import to_program, write_pt2
from sum3dcam.export.runners import Runner, aoti_runners, onnx_runners, pt2_runners, torchscript_runners
from sum3dcam.export.torchscript import trace, write_torchscript


@dataclass(frozen=True)
class Candidate:
    """A graph in its format, not yet signed: what can run it here, and how to write it with its card.

    The first runner is the format's own engine, without which there is no file.
    """

    runners: Iterable[Runner]
    write: Callable[[Path, Card], None]


def onnx_candidate(graph: nn.Module, *, card: Card, inputs: tuple[torch.Tensor, ...]) -> Candidate:
    """The graph as ONNX."""
    model = to_model(graph, card=card)
    return Candidate(onnx_runners(model, card=card), lambda path, signed: write_onnx(model, path, card=signed))


def torchscript_candidate(graph: nn.Module, *, card: Card, inputs: tuple[torch.Tensor, ...]) -> Candidate:
    """The graph as TorchScript."""
    traced = trace(graph, inputs=inputs)
    return Candidate(
        torchscript_runners(traced, card=card), lambda path, signed: write_torchscript(traced, path, card=signed)
    )


def pt2_candidate(graph: nn.Module, *, card: Card, inputs: tuple[torch.Tensor, ...]) -> Candidate:
    """The graph as a program of torch.export."""
    program = to_program(graph, inputs=inputs)
    return Candidate(pt2_runners(program, card=card), lambda path, signed: write_pt2(program, path, card=signed))


def aoti_candidate(graph: nn.Module, *, card: Card, inputs: tuple[torch.Tensor, ...]) -> Candidate:
    """The graph compiled for this machine's processor."""
    package = compile_package(graph, inputs=inputs)
    return Candidate(aoti_runners(package, card=card), lambda path, signed: write_aoti(package, path, card=signed))


CANDIDATES: Mapping[str, Callable[..., Candidate]] = {
    ".onnx": onnx_candidate,
    ".pt": torchscript_candidate,
    ".pt2": pt2_candidate,
    ".aoti": aoti_candidate,
}


def export_pair(
    prepared: Prepared,
    output: Path,
    *,
    oracle: Reference | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[tuple[Row, ...]]:
    """Writes the explain graph to `output` and the labels graph beside it; gives the two certificates.

    The suffix of `output` chooses the format, a key of CANDIDATES. Nothing is written unless both graphs pass the gate
    in the format's own engine, which is the first row; what another engine made of them is in its row.

    Args:
        oracle: of this very network, from its export to another format: half of an export's time.

    Raises:
        ArtifactError: a precision that the format's engines do not have.
        ParityError: a graph differs from the float64 oracle beyond tolerance.
        KeyError: another suffix.
    """
    make = CANDIDATES[output.suffix]
    classifier, card = prepared.classifier, prepared.card
    if output.suffix == ".onnx" and card.precision != FP32:
        raise ArtifactError(
            "ONNX Runtime has no convolution in bfloat16; export to .pt, .pt2 or .aoti",
            got=card.precision,
            allowed=FP32,
        )
    clip = prepared.example_clip()
    target = torch.zeros(len(clip), dtype=torch.int64)
    say("oracle: float64 autograd, and the joint graph against it")
    oracle = oracle or reference(prepared)
    candidates = []
    for path, unsigned, graph, inputs in (
        (output, card, explain_graph(classifier, taps=card.taps, clip_BTHWC=clip), (clip, target)),
        (
            labels_path(output),
            replace(card, graph=LABELS_GRAPH),
            labels_graph(classifier, clip_BTHWC=clip),
            (clip,),
        ),
    ):
        say(f"parity: {path.name}")
        if card.precision == BF16:
            lower_precision(graph, torch.bfloat16)
        candidate = make(graph, card=unsigned, inputs=inputs)
        rows = certify(candidate.runners, card=unsigned, reference=oracle)
        own = rows[0]
        if not own["passed"]:
            raise ParityError(f"{path.name} in {own['engine']} {own['provider']}: {own['reason']}")
        candidates.append((candidate, path, replace(unsigned, parity=rows)))
    for candidate, path, signed in candidates:
        candidate.write(path, signed)
    return [signed.parity for _, _, signed in candidates]
