"""Trainings in processes of their own: killed at any moment, and several that share the batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.programs import train_shared
from tests.training.tiny import SGD, classifier, run_in

from sum3dcam.training import journal, loop
from sum3dcam.training.loop import train

ROOT = Path(__file__).parents[2]


def run_program(*words: str) -> str:
    """What the program printed; its working directory is where `tests` is imported from."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_training_killed_again_and_again_gives_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = np.random.default_rng().integers(10_000)
    print("seed", seed)
    printed = run_program("tests/training/programs/train_and_die.py", str(tmp_path / "parts"), str(seed))
    *killed, last = printed.splitlines()
    assert set(killed) == {"ended with 9"}
    assert last == "ended with 0"

    monkeypatch.setattr(loop, "CHECK_EVERY_STEPS", 2)
    monkeypatch.setattr(journal, "draw_curve", lambda *_, **__: None)
    whole = classifier()
    train(whole, recipe=SGD, run=run_in(tmp_path / "whole"))
    survivor = torch.load(tmp_path / "parts/final.pt", weights_only=True)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, survivor[name]), name
    logs = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("whole", "parts")]
    kept = [[(row["step"], row.get("loss"), row["held_out_accuracy"]) for row in map(json.loads, log)] for log in logs]
    assert kept[0] == kept[1]


def test_two_processes_under_torchrun_give_the_weights_of_one_with_the_whole_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    run_program(*launcher, "tests/training/programs/train_shared.py", str(tmp_path / "two"))
    monkeypatch.setattr(journal, "draw_curve", lambda *_, **__: None)
    train_shared.main(tmp_path / "one")

    alone = torch.load(tmp_path / "one/rank0of1.pt", weights_only=True)
    moved = 0.0
    for rank in (0, 1):
        shared = torch.load(tmp_path / f"two/rank{rank}of2.pt", weights_only=True)
        assert torch.equal(shared["predicted_N"], alone["predicted_N"])
        for name, tensor in alone["model"].items():
            # Oracle: one process. In float64 the same terms are added in another order, which is worth some 1e-16 of
            # the largest in each of 11 steps; a gradient summed in place of averaged, a clip learnt twice or another
            # augmentation is worth percents of a step, and steps move weights by some 1e-3.
            torch.testing.assert_close(shared["model"][name], tensor, rtol=1e-11, atol=1e-12)
            moved = max(moved, float((tensor - classifier().double().state_dict()[name]).abs().max()))
    assert moved > 1e-4
