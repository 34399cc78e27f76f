"""`sum3dcam train`: the small network from nothing on the rendered actions, or gates, or all, of a base fine-tuned."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import torch
from tqdm import tqdm

from sum3dcam.evaluation.datasets import READERS
from sum3dcam.export.commands import split_names
from sum3dcam.models import NETWORKS
from sum3dcam.models.checkpoints import DEFAULT_FUSION, WeightsCard, save_weights
from sum3dcam.models.gating import FUSIONS
from sum3dcam.synthetic import ACTIONS
from sum3dcam.training.clips import CLIP_FRAMES, CLIPS_PER_VIDEO, check_rendered
from sum3dcam.training.examples import Labels
from sum3dcam.training.loop import Run, predict, train
from sum3dcam.training.machine import PRECISIONS, Machine, machine
from sum3dcam.training.material import Material, Split, read_split, rendered, videos
from sum3dcam.training.origin import TRAINABLE, Origin, freeze, from_base, from_nothing
from sum3dcam.training.stages import PRESETS, FineTuning, Recipe

MODEL = "resnext-mini"
PAPER = FineTuning()

Command = Callable[..., Any]

OPTIONS: Sequence[Callable[[Command], Command]] = (
    click.option("--preset", type=click.Choice(sorted(PRESETS)), default="full", show_default=True),
    click.option(
        "--dataset", type=click.Choice(sorted(READERS)), help="What --data is [default: rendered on the fly]."
    ),
    click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="A data set's folder."),
    click.option("--split", default=1, show_default=True, type=click.IntRange(1, 3), help="The data set's."),
    click.option(
        "--held-out-data",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Measure on this folder, for a data set without splits.",
    ),
    click.option("--base", type=click.Path(path_type=Path), help="Fine-tune this checkpoint, of any layout."),
    click.option("--gates", callback=split_names, help="Gated taps, TAP,TAP or none [default: the base's, or all]."),
    click.option("--fusion", type=click.Choice(sorted(FUSIONS)), help="How new gates join the head [default: sum]."),
    click.option("--trainable", type=click.Choice(sorted(TRAINABLE)), default="all", show_default=True),
    click.option("--epochs", type=click.IntRange(1), help=f"With --base [default: {PAPER.epochs}]."),
    click.option("--batch", "batch_clips", type=click.IntRange(1), help=f"The same [default: {PAPER.batch_clips}]."),
    click.option(
        "--learning-rate",
        type=click.FloatRange(0, min_open=True),
        help=f"The same [default: {PAPER.learning_rate}]; a tenth of it after every {PAPER.drop_every_epochs} epochs.",
    ),
    click.option("--seed", default=0, show_default=True, help="Of weights, batches and rendered scenes."),
    click.option(
        "--frames",
        "num_frames",
        type=click.IntRange(1),
        help="Of each clip [default: the network's]; 1 is the control without motion.",
    ),
    click.option(
        "--size", "size_px", type=click.IntRange(32), help="Of a clip's side, with --base [default: its own]."
    ),
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda:INDEX, or under torchrun cuda."),
    click.option("--precision", type=click.Choice(PRECISIONS), help="[default: bf16 on a GPU, fp32 on a CPU]"),
    click.option("--cache", type=click.Path(path_type=Path), default=Path("build/clips"), show_default=True),
    click.option("--output", type=click.Path(path_type=Path), default=Path("build/train"), show_default=True),
    click.option(
        "--workers", default=os.cpu_count() or 1, show_default=True, help="Processes that render, threads that decode."
    ),
    click.option("--held-out", "num_held_out", default=500, show_default=True, help="Held-out videos."),
)


@dataclass(frozen=True)
class Options:
    """What the command line asks for, each field the option of that name."""

    preset: str
    dataset: str | None
    data: Path | None
    split: int
    held_out_data: Path | None
    base: Path | None
    gates: tuple[str, ...] | None
    fusion: str | None
    trainable: str
    epochs: int | None
    batch_clips: int | None
    learning_rate: float | None
    seed: int
    num_frames: int | None
    size_px: int | None
    device: str
    precision: str | None
    cache: Path
    output: Path
    workers: int
    num_held_out: int


def train_options(command: Command) -> Command:
    """Adds OPTIONS to a command, in their order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command("train")
@train_options
def train_command(**given: Any) -> None:
    """Train resnext-mini from nothing on the rendered actions, or fine-tune a base's gates, or all of it.

    Run again after an interruption, the same command goes on where it was. Under torchrun it trains in several
    processes, each with a GPU of its own.
    """
    options = Options(**given)
    if find_spec("tensorboard") is None:
        click.echo("no events for TensorBoard: its package is not installed (pip install 'sum3dcam[train]')", err=True)
    try:
        with machine(options.device, precision=options.precision, workers=options.workers) as here:
            run_training(options, here=here)
    except (FloatingPointError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


def run_training(options: Options, *, here: Machine) -> None:
    """Trains as the command line asks, and leaves weights.safetensors, card.json and the rest in its --output.

    Raises:
        Sum3DCamError, ValueError, OSError: what is asked for does not fit together, or is not there.
        FloatingPointError: as `train`.
    """
    torch.manual_seed(options.seed)
    split = _split(options)
    origin = _origin(options, labels=ACTIONS if split is None else split.training.labels)
    freeze(origin, trainable=options.trainable)
    material, recipe = _lesson(options, origin=origin, split=split, here=here)
    options.output.mkdir(parents=True, exist_ok=True)
    card, classifier = origin.card, origin.classifier
    facts = {
        "model": card.model,
        "gates": list(card.gates),
        "base_sha256": origin.base_sha256,
        "trainable": options.trainable,
        **material.provenance,
    }
    with tqdm(total=recipe.steps, desc="train", unit="batch", disable=not here.is_first) as bar:
        run = Run(
            directory=options.output,
            seed=options.seed,
            num_frames=card.num_frames,
            clips=material.clips,
            held_out=material.held_out,
            report=partial(_show, bar),
            machine=here,
            origin=repr(facts),
        )
        seconds = train(classifier, recipe=recipe, run=run)
    predicted_N = predict(classifier, material.held_out, size_px=card.size_px, num_frames=card.num_frames, machine=here)
    if not here.is_first:
        return
    labels_N = material.held_out.labels_N
    save_weights(options.output / "weights.safetensors", network=classifier.network, card=card)
    written = {
        **facts,
        "command": shlex.join(["sum3dcam", *sys.argv[1:]]),
        "seed": options.seed,
        "recipe": asdict(recipe),
        "clips_seen": sum(stage.steps * stage.batch_clips for stage in recipe.stages),
        "training_minutes": round(seconds / 60, 1),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}",
        "processes": here.processes,
        "device": str(here.device),
        "precision": here.precision,
        "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "parameters_trained": sum(p.numel() for p in classifier.parameters() if p.requires_grad),
        "held_out_clips": len(labels_N),
        "held_out_clip_accuracy": float((predicted_N == labels_N).mean()),
        "held_out_clip_accuracy_by_action": _accuracy_by_label(predicted_N, labels_N, labels=card.labels),
    }
    (options.output / "card.json").write_text(json.dumps(written, indent=1) + "\n")
    click.echo(json.dumps(written, indent=1))


def _split(options: Options) -> Split | None:
    if options.dataset is None and options.data is None and options.held_out_data is None:
        return None
    if options.dataset is None or options.data is None or options.base is None:
        raise ValueError("a data set is fine-tuned on: give --dataset, --data and --base together")
    return read_split(
        options.dataset,
        options.data,
        split=options.split,
        held_out=options.held_out_data,
        num_held_out=options.num_held_out,
    )


def _origin(options: Options, *, labels: tuple[str, ...]) -> Origin:
    if options.base is not None:
        return from_base(
            options.base,
            labels=labels,
            gates=options.gates,
            fusion=options.fusion,
            num_frames=options.num_frames,
            size_px=options.size_px,
        )
    return from_nothing(
        WeightsCard(
            model=MODEL,
            labels=labels,
            gates=NETWORKS[MODEL].default_gates if options.gates is None else options.gates,
            num_frames=options.num_frames or CLIP_FRAMES,
            size_px=PRESETS[options.preset].stages[-1].size_px,
            fusion=options.fusion or DEFAULT_FUSION,
        )
    )


def _lesson(options: Options, *, origin: Origin, split: Split | None, here: Machine) -> tuple[Material, Recipe]:
    """What is learnt from, and how: the preset without a base, else the paper's schedule."""
    names = ("epochs", "batch_clips", "learning_rate")
    asked = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.base is None and (asked or options.size_px is not None):
        raise ValueError("--epochs, --batch, --learning-rate and --size are for fine-tuning: give --base as well")
    fine_tuning = replace(PAPER, **asked)
    size_px = origin.card.size_px
    if split is not None:
        num_videos = len(split.training.videos)
        recipe = fine_tuning.recipe(
            name=str(options.dataset), num_videos=num_videos, num_clips=num_videos, size_px=size_px
        )
        return videos(split, card=origin.card), recipe
    check_rendered(origin.card)
    recipe = PRESETS[options.preset]
    if options.base is not None:
        last = recipe.stages[-1]
        recipe = fine_tuning.recipe(
            name=last.difficulty,
            num_videos=last.num_videos,
            num_clips=last.num_videos * CLIPS_PER_VIDEO,
            size_px=size_px,
        )
    material = rendered(
        options.cache,
        preset=options.preset,
        num_held_out=options.num_held_out,
        seed=options.seed,
        machine=here,
    )
    return material, recipe


def _show(bar: "tqdm[Any]", row: Mapping[str, Any]) -> None:
    bar.n = row["step"]
    bar.set_postfix({key: f"{row[key]:.3f}" for key in ("loss", "accuracy", "held_out_accuracy") if key in row})


def _accuracy_by_label(predicted_N: Labels, labels_N: Labels, *, labels: Sequence[str]) -> Mapping[str, float]:
    """Share of right answers for each label that occurs."""
    return {
        label: float((predicted_N[labels_N == index] == index).mean())
        for index, label in enumerate(labels)
        if (labels_N == index).any()
    }
