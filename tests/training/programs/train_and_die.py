"""Trains the tiny network in processes that are killed with SIGKILL at random moments, until one gets to the end.

Usage: train_and_die.py DIRECTORY SEED; writes DIRECTORY/final.pt and prints how each process ended.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # which the optimizer imports: here, once, as what follows
import torch.utils.tensorboard
from tests.training.tiny import SGD, classifier, run_in

from sum3dcam.training import journal, loop, state
from sum3dcam.training.loop import train


def train_here(directory: Path, *, pipe: int) -> None:
    """Writes a byte to the pipe after each step."""

    def tell(row: Mapping[str, Any]) -> None:
        os.write(pipe, b".")

    torch.set_num_threads(1)
    loop.CHECK_EVERY_STEPS = 2
    journal.draw_curve = lambda *_, **__: None  # type: ignore[assignment]
    # The file is written and not yet in its place for long enough to be killed there.
    state.os.fsync = lambda file: time.sleep(0.01)  # type: ignore[attr-defined]
    model = classifier()
    train(model, recipe=SGD, run=run_in(directory, report=tell))
    torch.save(model.state_dict(), directory / "final.pt")


def start(directory: Path) -> tuple[int, int]:
    """The process and the pipe it writes to. A fork, before which nothing has been computed: torch is imported once."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        train_here(directory, pipe=writer)
        os._exit(0)
    os.close(writer)
    return process, reader


def main(directory: Path, *, seed: int) -> None:
    rng = random.Random(seed)
    status = None
    while status != 0:
        process, pipe = start(directory)
        for _ in range(rng.randint(1, 3)):
            os.read(pipe, 1)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        os.close(pipe)
        print(f"ended with {status}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), seed=int(sys.argv[2]))
