"""The joint graph as TorchScript, traced from plain operators, so that the batch stays dynamic."""

import warnings
from pathlib import Path

import torch
from torch import nn

from sum3dcam.contract import CARD_KEY, Card
from sum3dcam.export.joint import ExplainGraph, fold_weights


def trace(graph: nn.Module, *, inputs: tuple[torch.Tensor, ...]) -> torch.jit.ScriptModule:
    """Traces `graph`; the flipped weights of its backward are stored, not derived at each call.

    A trace keeps what cuDNN is allowed now, whoever runs it: exact float32, as it is certified.
    """
    folded = fold_weights(graph) if isinstance(graph, ExplainGraph) else graph
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.no_grad(), exact, warnings.catch_warnings():
        # TorchScript is deprecated upstream; it is exported because its users ask for it.
        warnings.simplefilter("ignore")
        # The parity gate checks the traced graph, on batch sizes it was not traced with.
        traced: torch.jit.ScriptModule = torch.jit.trace(folded.eval(), inputs, check_trace=False)
    return traced


def write_torchscript(traced: torch.jit.ScriptModule, path: Path, *, card: Card) -> None:
    """Writes the module with its card as an extra file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(traced, str(partial), _extra_files={CARD_KEY: card.to_json()})
    partial.replace(path)
