"""The training loop: stages of AdamW under a cosine, resumable after any step with the same result."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sum3dcam.errors import CheckpointError
from sum3dcam.models import Classifier
from sum3dcam.training.clips import Batch, Clips, ClipSet, Labels, augment, resize, window
from sum3dcam.training.stages import Stage

LABEL_SMOOTHING = 0.05
WEIGHT_DECAY = 0.02
WARM_UP_SHARE = 0.1
CHECK_EVERY_STEPS = 100
CHECK_CLIPS = 400

Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Run:
    """What a training needs besides its stages.

    `clips(stage)` gives a stage's set; `held_out` is what accuracy is measured on; `directory` takes state.pt, from
    which an interrupted run goes on, and log.jsonl.
    """

    directory: Path
    seed: int
    num_frames: int
    clips: Callable[[Stage], ClipSet]
    held_out: ClipSet
    report: Report


def train(classifier: Classifier, *, stages: Sequence[Stage], run: Run) -> float:
    """Trains in place; returns the seconds spent, those of earlier interrupted runs included.

    Raises:
        CheckpointError: the directory holds the state of another training.
        FloatingPointError: the loss is no longer finite; names stage and step.
    """
    # Twice as fast on a CPU. (The stubs of Module.to know 4D formats alone.)
    classifier.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=WEIGHT_DECAY)
    state_path = run.directory / "state.pt"
    done, seconds = 0, 0.0
    recipe = repr((tuple(stages), run.seed, run.num_frames))
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        if state["recipe"] != recipe:
            raise CheckpointError(
                f"{state_path} is of another training; choose another --output, or remove it",
                got=state["recipe"],
                allowed=recipe,
            )
        classifier.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done, seconds = state["steps"], state["seconds"]
    before = 0
    for index, stage in enumerate(stages):
        first_step = max(0, done - before)
        if first_step < stage.steps:
            clip_set = run.clips(stage)
            batches = _batches(clip_set, stage=stage, first_step=first_step, steps_before=before, run=run)
            for step, batch in enumerate(batches, first_step):
                began = time.monotonic()
                loss, accuracy = _learn(
                    classifier, optimizer, batch=batch, learning_rate=_learning_rate(stage, step=step)
                )
                seconds += time.monotonic() - began
                if not math.isfinite(loss):
                    raise FloatingPointError(f"the loss is {loss} in stage {index} ({stage.difficulty}), step {step}")
                row = {
                    "stage": index,
                    "step": before + step + 1,
                    "loss": loss,
                    "accuracy": accuracy,
                    "seconds": seconds,
                }
                if (step + 1) % CHECK_EVERY_STEPS == 0 or step + 1 == stage.steps:
                    row["held_out_accuracy"] = _check(classifier, stage=stage, run=run)
                    _append_log(run.directory / "log.jsonl", row)
                    progress = {"recipe": recipe, "steps": before + step + 1, "seconds": seconds}
                    _save(state_path, classifier, optimizer, progress=progress)
                run.report(row)
        before += stage.steps
    return seconds


def predict(classifier: nn.Module, clips_NTHWC: Clips, *, size_px: int, num_frames: int) -> Labels:
    """Top class (N,) of each clip's middle `num_frames` frames, in eval mode, in batches of 32."""
    classifier.eval()
    start = (clips_NTHWC.shape[1] - num_frames) // 2
    predicted = []
    with torch.inference_mode():
        for first in range(0, len(clips_NTHWC), 32):
            clips = clips_NTHWC[first : first + 32, start : start + num_frames]
            batch_BTHWC = torch.from_numpy(np.stack([resize(clip, size_px=size_px) for clip in clips]))
            predicted.append(classifier(batch_BTHWC)[0].argmax(1).numpy())
    classifier.train()
    return np.concatenate(predicted)


def _batches(clip_set: ClipSet, *, stage: Stage, first_step: int, steps_before: int, run: Run) -> Iterator[Batch]:
    """A stage's batches from `first_step` on, each prepared while the one before it is learnt."""

    def prepare(step: int) -> Batch:
        # All randomness comes from (seed, step), so a resumed run sees the same batches.
        rng = np.random.default_rng([run.seed, steps_before + step])
        chosen = np.sort(rng.choice(len(clip_set.labels_N), stage.batch_clips, replace=False))
        clips_BTHWC = window(clip_set.clips_NTHWC[chosen], num_frames=run.num_frames, rng=rng)
        return augment(clips_BTHWC, clip_set.labels_N[chosen], size_px=stage.size_px, rng=rng)

    with ThreadPoolExecutor(1) as loader:
        waiting = loader.submit(prepare, first_step)
        for step in range(first_step, stage.steps):
            batch = waiting.result()
            if step + 1 < stage.steps:
                waiting = loader.submit(prepare, step + 1)
            yield batch


def _learn(
    classifier: Classifier, optimizer: torch.optim.Optimizer, *, batch: Batch, learning_rate: float
) -> tuple[float, float]:
    """One step of the optimizer; loss and clip accuracy on the batch."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    gain, bias = (torch.from_numpy(light)[:, None, None, None] for light in (batch.gain_BC, batch.bias_BC))
    pixels_BTHWC = torch.from_numpy(batch.clips_BTHWC).float().mul_(gain).add_(bias).clamp_(0, 255)
    labels = torch.from_numpy(batch.labels_B)
    classifier.train()
    logits_BK, _ = classifier(pixels_BTHWC)
    loss = functional.cross_entropy(logits_BK, labels, label_smoothing=LABEL_SMOOTHING)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(classifier.parameters(), 2.0)
    optimizer.step()
    return float(loss.detach()), float((logits_BK.argmax(1) == labels).float().mean())


def _learning_rate(stage: Stage, *, step: int) -> float:
    warm_up = max(1, int(stage.steps * WARM_UP_SHARE))
    if step < warm_up:
        return stage.peak_lr * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, stage.steps - warm_up)
    return float(stage.peak_lr * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * progress))))


def _check(classifier: Classifier, *, stage: Stage, run: Run) -> float:
    clips_NTHWC = run.held_out.clips_NTHWC[:CHECK_CLIPS]
    predicted_N = predict(classifier, clips_NTHWC, size_px=stage.size_px, num_frames=run.num_frames)
    return float((predicted_N == run.held_out.labels_N[:CHECK_CLIPS]).mean())


def _append_log(path: Path, row: Mapping[str, Any]) -> None:
    with path.open("a") as log:
        log.write(json.dumps(row) + "\n")


def _save(path: Path, classifier: Classifier, optimizer: torch.optim.Optimizer, *, progress: Mapping[str, Any]) -> None:
    """Replaces the file whole: a session that ends while writing leaves the previous state."""
    partial_path = path.with_suffix(".partial")
    state = {
        "model": classifier.state_dict(),
        "optimizer": optimizer.state_dict(),
        **progress,
    }
    torch.save(state, partial_path)
    partial_path.replace(path)
