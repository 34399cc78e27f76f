"""The training loop on random clips: what must be exact is exact."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sum3dcam.errors import CheckpointError
from sum3dcam.models import NETWORKS, Classifier, build_network
from sum3dcam.training import loop
from sum3dcam.training.clips import ClipSet
from sum3dcam.training.loop import Run, train
from sum3dcam.training.stages import Stage

STAGES = (
    Stage("easy", num_videos=6, size_px=32, steps=3, batch_clips=4, peak_lr=1e-3),
    Stage("full", num_videos=6, size_px=48, steps=4, batch_clips=4, peak_lr=1e-3),
)


@pytest.fixture
def clip_set() -> ClipSet:
    rng = np.random.default_rng(0)
    return ClipSet(rng.integers(0, 256, (12, 16, 48, 48, 3)).astype(np.uint8), np.arange(12) % 10)


def classifier() -> Classifier:
    torch.manual_seed(0)
    spec = NETWORKS["resnext-mini"]
    network = build_network(spec, num_classes=10, num_frames=16, gates=("layer4",))
    return Classifier(network, mean=spec.mean, std=spec.std)


def run_in(directory: Path, *, clip_set: ClipSet, report: Any = lambda row: None) -> Run:
    return Run(
        directory=directory, seed=3, num_frames=16, clips=lambda stage: clip_set, held_out=clip_set, report=report
    )


@pytest.mark.parametrize("interrupted_after", [2, 5])
def test_an_interrupted_training_gives_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, clip_set: ClipSet, monkeypatch: pytest.MonkeyPatch, interrupted_after: int
) -> None:
    monkeypatch.setattr(loop, "CHECK_EVERY_STEPS", 1)

    def interrupt(row: Mapping[str, Any]) -> None:
        if row["step"] == interrupted_after:
            raise KeyboardInterrupt

    whole = classifier()
    (tmp_path / "whole").mkdir()
    train(whole, stages=STAGES, run=run_in(tmp_path / "whole", clip_set=clip_set))

    (tmp_path / "parts").mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(classifier(), stages=STAGES, run=run_in(tmp_path / "parts", clip_set=clip_set, report=interrupt))
    resumed = classifier()
    train(resumed, stages=STAGES, run=run_in(tmp_path / "parts", clip_set=clip_set))

    # Oracle: the uninterrupted run. The same operations on the same numbers, so nothing may differ.
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts/log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 7]


def test_a_loss_that_is_not_finite_stops_the_training_and_says_where(tmp_path: Path, clip_set: ClipSet) -> None:
    broken = classifier()
    torch.nn.init.constant_(broken.network.base.fc.weight, float("nan"))  # type: ignore[union-attr,arg-type]
    with pytest.raises(FloatingPointError, match=r"stage 0 \(easy\), step 0"):
        train(broken, stages=STAGES, run=run_in(tmp_path, clip_set=clip_set))


def test_the_state_of_another_training_is_refused(tmp_path: Path, clip_set: ClipSet) -> None:
    train(classifier(), stages=STAGES[:1], run=run_in(tmp_path, clip_set=clip_set))
    with pytest.raises(CheckpointError, match="another training"):
        train(classifier(), stages=STAGES, run=run_in(tmp_path, clip_set=clip_set))


def test_every_stage_sees_clips_of_its_own_size(tmp_path: Path, clip_set: ClipSet) -> None:
    sizes = []
    model = classifier()
    model.register_forward_pre_hook(
        lambda module, inputs: sizes.append(inputs[0].shape[2]) if module.training else None
    )
    train(model, stages=STAGES, run=run_in(tmp_path, clip_set=clip_set))
    assert sizes == [32] * 3 + [48] * 4
