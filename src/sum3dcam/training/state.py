"""A training's state in one file, replaced whole: killed at any moment, it leaves the state before or the one after."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from sum3dcam.errors import CheckpointError


@dataclass(frozen=True)
class Progress:
    """How far a training has come: batches learnt, and the seconds of all its runs together."""

    steps: int = 0
    seconds: float = 0.0


def save_state(
    path: Path, *, classifier: nn.Module, optimizer: torch.optim.Optimizer, identity: str, progress: Progress
) -> None:
    """Weights, running statistics, the optimizer's moments and the progress. Schedule, order of examples and all
    randomness are functions of seed and step, so there is no more to it.
    """
    state = {
        "model": classifier.state_dict(),
        "optimizer": optimizer.state_dict(),
        "recipe": identity,
        "steps": progress.steps,
        "seconds": progress.seconds,
    }
    partial_path = path.with_suffix(".partial")
    with partial_path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial_path.replace(path)


def restore_state(path: Path, *, classifier: nn.Module, optimizer: torch.optim.Optimizer, identity: str) -> Progress:
    """Loads the state where there is one.

    Raises:
        CheckpointError: it is of another training.
    """
    if not path.exists():
        return Progress()
    state = torch.load(path, weights_only=True, map_location="cpu")
    if state["recipe"] != identity:
        raise CheckpointError(
            f"{path} is of another training; choose another --output, or remove it",
            got=state["recipe"],
            allowed=identity,
        )
    classifier.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(state["steps"], state["seconds"])
