"""The networks of the study: for each seed a plain base, and from it a plain and a gated one at equal training."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from claims.presets import Preset
from sum3dcam.models import NETWORKS
from sum3dcam.models.checkpoints import WeightsCard, load_state, load_weights, save_weights
from sum3dcam.synthetic import ACTIONS
from sum3dcam.training.clips import ClipSet, cached_clips
from sum3dcam.training.loop import Run, train
from sum3dcam.training.machine import Machine
from sum3dcam.training.origin import Origin, from_base, from_nothing

VARIANTS = ("plain", "gated")
BASE = "base"
# Videos whose clips the learning curve is drawn of: neither trained on nor tested with.
CURVE_VIDEOS = 20
CURVE_SEED_OFFSET = 1_000_003
# Of the batches' order, so that the last recipe does not repeat the base's.
LAST_SEED_OFFSET = 50_000


def weights_path(work: Path, *, variant: str, seed: int) -> Path:
    return work / f"{variant}-seed{seed}" / "weights.safetensors"


def train_all(preset: Preset, *, work: Path, seed: int, machine: Machine) -> None:
    """Trains what is not there yet of the three networks of a seed; an interrupted training goes on where it was."""
    for variant in (BASE, *VARIANTS):
        path = weights_path(work, variant=variant, seed=seed)
        if not path.exists():
            _train(preset, variant, path=path, work=work, seed=seed, machine=machine)


def _train(preset: Preset, variant: str, *, path: Path, work: Path, seed: int, machine: Machine) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    if variant == BASE:
        recipe, batches_seed, origin = preset.base, seed, _base(preset)
    else:
        recipe, batches_seed = preset.last, seed + LAST_SEED_OFFSET
        gates = NETWORKS[preset.model].taps if variant == "gated" else None
        origin = from_base(weights_path(work, variant=BASE, seed=seed), labels=ACTIONS, gates=gates)

    def clips(difficulty: str, num_videos: int, seed: int) -> ClipSet:
        return cached_clips(
            work / "clips", difficulty=difficulty, num_videos=num_videos, seed=seed, workers=machine.workers
        )

    with tqdm(total=recipe.steps, desc=f"{variant}, seed {seed}", unit="batch") as bar:
        run = Run(
            directory=path.parent,
            seed=batches_seed,
            num_frames=origin.card.num_frames,
            clips=lambda stage: clips(stage.difficulty, stage.num_videos, seed),
            held_out=clips("hard", CURVE_VIDEOS, seed + CURVE_SEED_OFFSET),
            report=partial(_show, bar),
            machine=machine,
        )
        train(origin.classifier, recipe=recipe, run=run)
    save_weights(path, network=origin.classifier.network, card=origin.card)


def _base(preset: Preset) -> Origin:
    """The plain network before the first step: the initial weights' base, or what torch's seed gives."""
    spec = NETWORKS[preset.model]
    size_px = preset.base.stages[-1].size_px
    card = WeightsCard(model=preset.model, labels=ACTIONS, gates=(), num_frames=spec.num_frames, size_px=size_px)
    origin = from_nothing(card)
    if preset.initial is not None:
        load_state(origin.classifier.network, base_state(load_weights(preset.initial).state))
    return origin


def base_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The base network's part of a gated network's state, or all of a plain one's."""
    if not any(name.startswith("base.") for name in state):
        return dict(state)
    return {name.removeprefix("base."): tensor for name, tensor in state.items() if name.startswith("base.")}


def _show(bar: "tqdm[Any]", row: Mapping[str, Any]) -> None:
    bar.n = row["step"]
    bar.set_postfix({key: f"{row[key]:.3f}" for key in ("loss", "accuracy", "held_out_accuracy") if key in row})
