"""`sum3dcam train`: the small network on the rendered actions, from nothing to a committed weights file."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from tqdm import tqdm

from sum3dcam.models import NETWORKS, Classifier, build_network
from sum3dcam.models.checkpoints import WeightsCard, save_weights
from sum3dcam.synthetic import ACTIONS
from sum3dcam.training.clips import CLIP_FRAMES, ClipSet, accuracy_by_label, cached_clips
from sum3dcam.training.curve import draw_curve
from sum3dcam.training.loop import Run, predict, train
from sum3dcam.training.stages import HELD_OUT_DIFFICULTY, PRESETS, Stage

MODEL = "resnext-mini"
HELD_OUT_SEED_OFFSET = 1_000_003


@click.command("train")
@click.option("--preset", type=click.Choice(sorted(PRESETS)), default="full", show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of weights, batches and rendered scenes.")
@click.option(
    "--frames",
    "num_frames",
    type=click.IntRange(1, CLIP_FRAMES),
    default=CLIP_FRAMES,
    show_default=True,
    help="Frames of each clip the network sees; 1 is the control without motion.",
)
@click.option("--cache", type=click.Path(path_type=Path), default=Path("build/clips"), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/train"), show_default=True)
@click.option("--workers", default=os.cpu_count() or 1, show_default=True, help="Processes that render.")
@click.option("--held-out", "num_held_out", default=500, show_default=True, help="Held-out videos, two clips each.")
def train_command(
    preset: str, seed: int, num_frames: int, cache: Path, output: Path, workers: int, num_held_out: int
) -> None:
    """Train resnext-mini, gated on all taps, on the rendered actions.

    Run again after an interruption, the same command goes on where it was.
    """
    output.mkdir(parents=True, exist_ok=True)
    stages = PRESETS[preset]
    torch.manual_seed(seed)
    spec = NETWORKS[MODEL]
    network = build_network(spec, num_classes=len(ACTIONS), num_frames=num_frames, gates=spec.default_gates)
    classifier = Classifier(network, mean=spec.mean, std=spec.std)

    def clips(stage: Stage) -> ClipSet:
        return cached_clips(cache, difficulty=stage.difficulty, num_videos=stage.num_videos, seed=seed, workers=workers)

    held_out = cached_clips(
        cache,
        difficulty=HELD_OUT_DIFFICULTY[preset],
        num_videos=num_held_out,
        seed=seed + HELD_OUT_SEED_OFFSET,
        workers=workers,
    )
    with tqdm(total=sum(stage.steps for stage in stages), desc="train", unit="batch") as bar:
        run = Run(
            directory=output,
            seed=seed,
            num_frames=num_frames,
            clips=clips,
            held_out=held_out,
            report=partial(_show, bar),
        )
        seconds = train(classifier, stages=stages, run=run)
    size_px = stages[-1].size_px
    predicted_N = predict(classifier, held_out.clips_NTHWC, size_px=size_px, num_frames=num_frames)
    save_weights(
        output / "weights.safetensors",
        network=network,
        card=WeightsCard(model=MODEL, labels=ACTIONS, gates=spec.default_gates, num_frames=num_frames, size_px=size_px),
    )
    card = {
        "model": MODEL,
        "command": shlex.join(["sum3dcam", *sys.argv[1:]]),
        "preset": preset,
        "seed": seed,
        "held_out_seed": seed + HELD_OUT_SEED_OFFSET,
        "clips_seen": sum(stage.steps * stage.batch_clips for stage in stages),
        "training_minutes": round(seconds / 60, 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}",
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "held_out_clips": len(held_out.labels_N),
        "held_out_difficulty": HELD_OUT_DIFFICULTY[preset],
        "held_out_clip_accuracy": float(np.mean(predicted_N == held_out.labels_N)),
        "held_out_clip_accuracy_by_action": accuracy_by_label(predicted_N, held_out.labels_N),
    }
    (output / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    draw_curve(output / "log.jsonl", stages=stages, path=output / "curve.png")
    click.echo(json.dumps(card, indent=1))


def _show(bar: "tqdm[Any]", row: Mapping[str, Any]) -> None:
    bar.n = row["step"]
    bar.set_postfix({key: f"{row[key]:.3f}" for key in ("loss", "accuracy", "held_out_accuracy") if key in row})
