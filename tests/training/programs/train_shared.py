"""Trains a tiny network in float64 as one of torchrun's processes, or alone. Usage: train_shared.py DIRECTORY."""

import os
import sys
from pathlib import Path

import torch
from tests.training.tiny import SGD, classifier, run_in

from sum3dcam.training import journal
from sum3dcam.training.loop import predict, train
from sum3dcam.training.machine import machine


def main(directory: Path) -> None:
    torch.set_num_threads(1)
    journal.draw_curve = lambda *_, **__: None  # type: ignore[assignment]
    with machine("cpu", precision=None, workers=1) as here:
        model = classifier().double()
        # Each process would normalise by its own clips, and drop out its own features.
        model.network.base.requires_grad_(False)  # type: ignore[union-attr]
        model.network.base.conv.requires_grad_(True)  # type: ignore[union-attr]
        model.network.base.dropout.p = 0.0  # type: ignore[union-attr,assignment]
        run = run_in(directory, machine=here)
        train(model, recipe=SGD, run=run)
        predicted_N = predict(model, run.held_out, size_px=24, num_frames=4, machine=here)
        torch.save(
            {"model": model.state_dict(), "predicted_N": torch.from_numpy(predicted_N)},
            directory / f"rank{here.rank}of{here.processes}.pt",
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # DistributedDataParallel keeps gloo's threads beyond destroy_process_group; one of them may abort the interpreter
    # as it ends ("terminate called without an active exception", seen once), when all is written.
    os._exit(0)
