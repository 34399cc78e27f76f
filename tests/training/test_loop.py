"""The training loop on random clips: what must be exact is exact."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.tiny import ADAMW, NUM_FRAMES, SGD, STAGES, classifier, clip_set, run_in

from sum3dcam.errors import CheckpointError
from sum3dcam.models import Classifier
from sum3dcam.training import journal, loop
from sum3dcam.training.loop import predict, train
from sum3dcam.training.machine import Machine
from sum3dcam.training.stages import Drops, FineTuning, Recipe


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take far longer than all the rest."""
    monkeypatch.setattr(journal, "draw_curve", lambda *_, **__: None)


def logged_steps(directory: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (directory / "log.jsonl").read_text().splitlines()]


def assert_equal_states(one: torch.nn.Module, other: torch.nn.Module) -> None:
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


@pytest.mark.parametrize("recipe", [ADAMW, SGD], ids=["adamw", "sgd"])
@pytest.mark.parametrize("save_every", [1, 3])
def test_a_training_interrupted_at_random_steps_gives_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe, save_every: int
) -> None:
    monkeypatch.setattr(loop, "CHECK_EVERY_STEPS", save_every)
    whole = classifier()
    train(whole, recipe=recipe, run=run_in(tmp_path / "whole"))

    seed = np.random.default_rng().integers(1000)
    interrupted_after = sorted(np.random.default_rng(seed).choice(np.arange(1, recipe.steps), 4, replace=False))
    for last in interrupted_after:

        def interrupt(row: Mapping[str, Any], last: int = last) -> None:
            if row["step"] == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(classifier(), recipe=recipe, run=run_in(tmp_path / "parts", report=interrupt))
    resumed = classifier()
    train(resumed, recipe=recipe, run=run_in(tmp_path / "parts"))

    # Oracle: the uninterrupted run. The same operations on the same numbers, so nothing may differ.
    print(f"seed {seed}, interrupted after {interrupted_after}")
    assert_equal_states(whole, resumed)
    steps = [logged_steps(tmp_path / run) for run in ("whole", "parts")]
    assert steps[0] == steps[1]
    assert steps[0][0] == 0
    assert steps[0][-1] == recipe.steps


def test_rows_and_events_that_an_interruption_left_behind_the_state_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr(loop, "CHECK_EVERY_STEPS", 2)

    def dies(*_: Any, progress: Any, **__: Any) -> None:
        if progress.steps == 4:
            raise KeyboardInterrupt
        saved(*_, progress=progress, **__)

    saved = loop.save_state
    monkeypatch.setattr(loop, "save_state", dies)
    with pytest.raises(KeyboardInterrupt):
        train(classifier(), recipe=SGD, run=run_in(tmp_path))
    monkeypatch.setattr(loop, "save_state", saved)
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 5, "lo')
    train(classifier(), recipe=SGD, run=run_in(tmp_path))
    assert logged_steps(tmp_path) == [0, 2, 4, 5, 7, 9, 11]
    # Oracle: TensorBoard's own reader of the files.
    events = accumulator.EventAccumulator(str(tmp_path / "events")).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 12))
    assert [event.step for event in events.Scalars("held_out_accuracy")] == [0, 2, 4, 5, 7, 9, 11]
    rates = [event.value for event in events.Scalars("learning_rate")][5:]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4])


def test_the_state_of_another_training_is_refused(tmp_path: Path) -> None:
    train(classifier(), recipe=SGD, run=run_in(tmp_path))
    with pytest.raises(CheckpointError, match="another training"):
        train(classifier(), recipe=ADAMW, run=run_in(tmp_path))
    with pytest.raises(CheckpointError, match="another training"):
        train(classifier(), recipe=SGD, run=replace(run_in(tmp_path), origin="another base"))


def test_every_stage_sees_clips_of_its_own_size(tmp_path: Path) -> None:
    sizes = []
    model = classifier()
    model.register_forward_pre_hook(
        lambda module, inputs: sizes.append(inputs[0].shape[2]) if module.training else None
    )
    train(model, recipe=SGD, run=run_in(tmp_path))
    assert sizes == [16] * 5 + [24] * 6


def test_what_is_frozen_stays_bit_for_bit_running_statistics_included(tmp_path: Path) -> None:
    model, before = classifier(), classifier()
    model.requires_grad_(False)
    model.network.gates.requires_grad_(True)  # type: ignore[union-attr]
    train(model, recipe=SGD, run=run_in(tmp_path))
    for name, tensor in before.state_dict().items():
        changed = not torch.equal(tensor, model.state_dict()[name])
        assert changed == name.startswith("network.gates."), name


def broken_weight(model: Classifier) -> None:
    with torch.no_grad():
        model.network.base.fc.weight[0, 0] = math.nan  # type: ignore[union-attr,index]


def infinite_gradient(model: Classifier) -> None:
    """Finite logits and loss, but one gradient beyond float32."""
    model.network.base.conv.weight.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (broken_weight, r"loss nan.*weights: network\.base\.fc\.weight;.*give another --base"),
        (infinite_gradient, r"nearest to the loss first: network\.base\.conv\.weight\. .*--learning-rate"),
    ],
)
def test_a_loss_or_gradient_that_is_not_finite_stops_the_training_and_says_where_and_what_to_do(
    tmp_path: Path, damage: Any, found: str
) -> None:
    model = classifier()
    damage(model)
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    with pytest.raises(FloatingPointError, match=found) as raised:
        train(model, recipe=SGD, run=run_in(tmp_path))
    assert "step 1 (stage 0, easy, its step 1)" in str(raised.value)
    assert len([key for key in str(raised.value).split() if key.startswith("rendered/")]) == 4  # the batch's videos
    for name, tensor in model.named_parameters():
        assert torch.equal(tensor.nan_to_num(), before[name].nan_to_num()), name
    assert not (tmp_path / "state.pt").exists()


def test_one_video_that_breaks_the_logits_is_named_alone(tmp_path: Path) -> None:
    model = classifier()
    model.network.requires_grad_(False)
    model.network.gates.requires_grad_(True)  # type: ignore[union-attr]

    def break_second(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        logits, taps = output
        return torch.cat([logits[:1], logits[1:2] * math.nan, logits[2:]]), taps

    model.register_forward_hook(break_second)
    with pytest.raises(FloatingPointError, match=r"with such logits: rendered/\w+ clip \d; ") as raised:
        train(model, recipe=SGD, run=run_in(tmp_path))
    assert "look at these videos" in str(raised.value)


def test_mixed_precision_computes_the_forward_in_bfloat16_and_keeps_weights_and_accuracy_in_float32(
    tmp_path: Path,
) -> None:
    model = classifier()
    dtypes: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    model.network.base.conv.register_forward_hook(  # type: ignore[union-attr]
        lambda module, inputs, output: dtypes[module.training].add(output.dtype)
    )
    train(model, recipe=SGD, run=run_in(tmp_path, machine=Machine(precision="bf16")))
    assert dtypes == {True: {torch.bfloat16}, False: {torch.float32}}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_predictions_are_those_of_the_clips_asked_for() -> None:
    model, clips = classifier(), clip_set()
    whole_N = predict(model, clips, size_px=24, num_frames=NUM_FRAMES)
    chosen_N = np.array([11, 2, 5])
    part_N = predict(model, clips, size_px=24, num_frames=NUM_FRAMES, indices=chosen_N)
    assert part_N.tolist() == whole_N[chosen_N].tolist()
    with torch.inference_mode():
        logits_NK, _ = model.eval()(torch.from_numpy(clips.clips_NTHWC[:, 1:5]))
    assert whole_N.tolist() == logits_NK.argmax(1).tolist()


def test_the_papers_schedule_drops_to_a_tenth_after_every_fifty_epochs() -> None:
    recipe = FineTuning(epochs=120, batch_clips=8).recipe(name="hmdb51", num_videos=20, num_clips=20, size_px=32)
    (stage,) = recipe.stages
    assert (recipe.optimizer, stage.steps, stage.rate) == ("sgd", 240, Drops(0.001, every_steps=100))
    rates = [stage.rate.at(step, steps=stage.steps) for step in (0, 99, 100, 199, 200, 239)]
    assert rates == [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5]
    (group,) = loop.OPTIMIZERS["sgd"]([torch.nn.Parameter(torch.zeros(1))]).param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.9, 1e-5)
    assert sum(stage.steps for stage in STAGES) == ADAMW.steps == 11


def test_a_set_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 7 clips.*batch of 8; lower --batch"):
        FineTuning(batch_clips=8).recipe(name="hmdb51", num_videos=7, num_clips=7, size_px=32)
