"""The joint graph as a .pt2 file: a program of torch.export, of plain operators and a dynamic batch.

As in ONNX, each weight is stored once; the flipped weights of the backward are derived by operators of the program,
which the engine folds when it loads the file.
"""

from pathlib import Path

import torch
from torch import nn
from torch.export import ExportedProgram

from sum3dcam.contract import CARD_KEY, Card


def to_program(graph: nn.Module, *, inputs: tuple[torch.Tensor, ...]) -> ExportedProgram:
    """Captures `graph` (LabelsGraph or ExplainGraph) for batches of one and more."""
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(graph.eval(), inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
    program.example_inputs = None  # they would be stored, a clip's worth of zeros each
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # would be stored too, with the paths of this machine
    return program


def write_pt2(program: ExportedProgram, path: Path, *, card: Card) -> None:
    """Writes the program with its card as an extra file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    with partial.open("wb") as file:
        torch.export.save(program, file, extra_files={CARD_KEY: card.to_json()})
    partial.replace(path)
