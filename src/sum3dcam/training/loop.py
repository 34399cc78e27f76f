"""The training loop: stages of batches, resumable after any step with the same result, in one process or several."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from sum3dcam.errors import CheckpointError
from sum3dcam.models import Classifier
from sum3dcam.training.examples import Batch, Labels, Source, batches, joined
from sum3dcam.training.faults import not_finite
from sum3dcam.training.journal import open_journal
from sum3dcam.training.machine import Machine
from sum3dcam.training.stages import Recipe, Stage
from sum3dcam.training.state import Progress, restore_state, save_state

CHECK_EVERY_STEPS = 100
CHECK_CLIPS = 400
SAVE_EVERY_SECONDS = 300.0
PREDICT_CLIPS = 32

OPTIMIZERS: Mapping[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, weight_decay=0.02),
    "sgd": partial(torch.optim.SGD, momentum=0.9, weight_decay=1e-5),
}

DEFAULT_MACHINE = Machine()

Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Run:
    """What a training needs besides its recipe.

    `clips(stage)` gives a stage's set; `held_out` is what accuracy is measured on; `directory` takes state.pt, from
    which an interrupted run goes on, log.jsonl, curve.png and events/. `origin` says what is trained from what, on
    what: a state of another origin is not gone on with.
    """

    directory: Path
    seed: int
    num_frames: int
    clips: Callable[[Stage], Source]
    held_out: Source
    report: Report
    machine: Machine = DEFAULT_MACHINE
    origin: str = ""


def train(classifier: Classifier, *, recipe: Recipe, run: Run) -> float:
    """Trains in place what requires gradients; returns the seconds spent, those of earlier interrupted runs included.

    Under torchrun every process calls it; batches are shared out, and the first process writes.

    Raises:
        CheckpointError: the directory holds the state of another training, or another one for each process.
        FloatingPointError: loss or gradients are no longer finite; names step, videos, parameter and what to do.
        ValueError: a stage's batch does not fit its set or the number of processes.
    """
    machine = run.machine
    # Twice as fast on a CPU. (The stubs of Module.to know 4D formats alone.)
    classifier.to(machine.device).network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = OPTIMIZERS[recipe.optimizer](
        [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    )
    identity = repr((recipe, run.seed, run.num_frames, machine.precision, run.origin))
    state_path = run.directory / "state.pt"
    done = restore_state(state_path, classifier=classifier, optimizer=optimizer, identity=identity)
    _check_agreed(done, path=state_path, machine=machine)
    save = partial(save_state, state_path, classifier=classifier, optimizer=optimizer, identity=identity)
    learner = machine.share(classifier)
    saved_at, seconds = time.monotonic(), done.seconds
    with open_journal(run.directory, stages=recipe.stages, done=done.steps, machine=machine) as journal:
        if not done.steps:
            accuracy = _check(classifier, stage=recipe.stages[0], run=run)
            if journal:
                journal.keep({"stage": 0, "step": 0, "held_out_accuracy": accuracy, "seconds": seconds})
        for place, batch in _course(recipe, run=run, done=done.steps):
            began = time.monotonic()
            figures = _learn(
                learner, optimizer, classifier=classifier, batch=batch, place=place, recipe=recipe, run=run
            )
            step_seconds = time.monotonic() - began
            seconds += step_seconds
            row = {
                "stage": place.stage_index,
                "step": place.step,
                **figures,
                "seconds": seconds,
                "clips_per_second": place.stage.batch_clips / step_seconds,
            }
            is_check = place.step_of_stage % CHECK_EVERY_STEPS == 0 or place.step_of_stage == place.stage.steps
            if is_check:
                row["held_out_accuracy"] = _check(classifier, stage=place.stage, run=run)
            if journal:
                (journal.keep if is_check else journal.note)(row)
                if is_check or time.monotonic() - saved_at > SAVE_EVERY_SECONDS:
                    # What is noted must be on the disk before the state says that it was learnt.
                    journal.flush()
                    save(progress=Progress(place.step, seconds))
                    saved_at = time.monotonic()
            run.report(row)
    return seconds


def predict(
    classifier: nn.Module,
    source: Source,
    *,
    size_px: int,
    num_frames: int,
    machine: Machine = DEFAULT_MACHINE,
    indices: npt.NDArray[np.int64] | None = None,
) -> Labels:
    """Top class (N,) of the clips' middle `num_frames` frames, in eval mode and float32, as a server computes them.

    Processes share the clips out, and each gets the whole; `indices` chooses clips, None takes all.
    """
    chosen_N = np.arange(len(source.labels_N)) if indices is None else indices
    predicted_N = np.full(len(chosen_N), -1)
    mine = range(machine.rank, len(chosen_N), machine.processes)
    classifier.eval()
    with torch.inference_mode(), ThreadPoolExecutor(machine.workers) as pool:
        for first in range(0, len(mine), PREDICT_CLIPS):
            places = mine[first : first + PREDICT_CLIPS]
            one = partial(source.plain, num_frames=num_frames, size_px=size_px)
            batch = joined(list(pool.map(one, (int(chosen_N[place]) for place in places))))
            logits_BK = classifier(torch.from_numpy(batch.clips_BTHWC).to(machine.device))[0]
            predicted_N[places] = logits_BK.argmax(1).cpu().numpy()
    return machine.gather(predicted_N)


@dataclass(frozen=True)
class _Place:
    """A batch's place in the recipe; steps count from 1, over all stages and within its own."""

    stage: Stage
    stage_index: int
    step: int
    step_of_stage: int

    def __str__(self) -> str:
        return f"step {self.step} (stage {self.stage_index}, {self.stage.difficulty}, its step {self.step_of_stage})"


def _course(recipe: Recipe, *, run: Run, done: int) -> Iterator[tuple[_Place, Batch]]:
    """Every batch behind the first `done`, with its place."""
    before = 0
    for index, stage in enumerate(recipe.stages):
        first_step = max(0, done - before)
        if first_step < stage.steps:
            coming = batches(
                run.clips(stage),
                stage=stage,
                first_step=first_step,
                steps_before=before,
                seed=run.seed,
                num_frames=run.num_frames,
                machine=run.machine,
            )
            for step, batch in enumerate(coming, first_step + 1):
                yield _Place(stage, index, before + step, step), batch
        before += stage.steps


def _check_agreed(done: Progress, *, path: Path, machine: Machine) -> None:
    most, least = machine.gather(np.array([done.steps, -done.steps])) * (1, -1)
    if most != least:
        raise CheckpointError(
            f"the processes have come to different steps; give an --output that all of them see: {path}",
            got=f"{least} and {most}",
        )


def _learn(
    learner: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    classifier: Classifier,
    batch: Batch,
    place: _Place,
    recipe: Recipe,
    run: Run,
) -> dict[str, float]:
    """One step of the optimizer; the figures of this process's share of the batch."""
    device = run.machine.device
    # For whatever in a network is random, such as dropout; each process's own.
    rng = np.random.default_rng([run.seed, place.step, run.machine.rank])
    torch.manual_seed(int(rng.integers(2**63)))
    rate = place.stage.rate.at(place.step_of_stage - 1, steps=place.stage.steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
    gain, bias, clips_BTHWC, labels_B = (
        torch.from_numpy(array).to(device)
        for array in (batch.gain_BC, batch.bias_BC, batch.clips_BTHWC, batch.labels_B)
    )
    light = (slice(None), None, None, None)
    pixels_BTHWC = clips_BTHWC.float().mul_(gain[light]).add_(bias[light]).clamp_(0, 255)
    _set_modes(classifier)
    with torch.autocast(device.type, torch.bfloat16, enabled=run.machine.precision == "bf16"):
        logits_BK, _ = learner(pixels_BTHWC)
    logits_BK = logits_BK.to(classifier.mean_C111.dtype)
    loss = functional.cross_entropy(logits_BK, labels_B, label_smoothing=recipe.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    learnt = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in learnt if parameter.grad is not None])
    accuracy = (logits_BK.argmax(1) == labels_B).float().mean()
    figures = dict(
        zip(("loss", "gradient_norm", "accuracy"), torch.stack([loss.detach(), norm, accuracy]).tolist(), strict=True)
    )
    if not all(map(math.isfinite, figures.values())):
        raise not_finite(
            str(place),
            figures=figures,
            logits_BK=logits_BK,
            batch=batch,
            classifier=classifier,
            directory=run.directory,
        )
    if recipe.max_gradient_norm is not None:
        nn.utils.clip_grads_with_norm_(learnt, recipe.max_gradient_norm, norm)
    optimizer.step()
    return {**figures, "learning_rate": rate}


def _set_modes(classifier: nn.Module) -> None:
    """Training mode for what learns; what is frozen stays in eval mode, or its running statistics would move."""
    classifier.train()
    for module in classifier.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def _check(classifier: Classifier, *, stage: Stage, run: Run) -> float:
    """Accuracy on held-out clips, evenly spread over the set."""
    num_clips = len(run.held_out.labels_N)
    chosen_N = np.linspace(0, num_clips - 1, min(num_clips, CHECK_CLIPS)).astype(np.int64)
    predicted_N = predict(
        classifier,
        run.held_out,
        size_px=stage.size_px,
        num_frames=run.num_frames,
        machine=run.machine,
        indices=chosen_N,
    )
    return float((predicted_N == run.held_out.labels_N[chosen_N]).mean())
