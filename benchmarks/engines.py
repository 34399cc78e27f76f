"""Times labels and maps of an artefact in this process: engines interleaved, answers compared first."""

import json
import os
import platform
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from sum3dcam import __version__
from sum3dcam.contract import LOGITS, SALIENCY, TOP_CLASS
from sum3dcam.export.archive import labels_path
from sum3dcam.export.prepare import random_clips
from sum3dcam.serving.engines import load_engine

LOGITS_TOLERANCE = 1e-4  # of the largest logit, METHOD.md section 4
MAPS_TOLERANCE = 1e-3  # mean over voxels of maps whose max is 1: twice what float32 costs a full-size network
SEED = 7


@click.command()
@click.option("--artifact", "artifacts", multiple=True, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--repeats", default=20, show_default=True, type=click.IntRange(3))
@click.option("--batch", "batch_sizes", multiple=True, default=(1, 4), show_default=True, type=click.IntRange(1))
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/bench"), show_default=True)
def main(artifacts: tuple[Path, ...], repeats: int, batch_sizes: tuple[int, ...], output: Path) -> None:
    """Seconds per clip, median with min and max, for every engine, graph and batch size."""
    if len({path.suffix for path in artifacts}) < len(artifacts):
        raise click.BadParameter("give one file of each format", param_hint="--artifact")
    engines = {
        (path.suffix[1:], kind): load_engine(file, device="cpu", num_threads=os.cpu_count() or 1)
        for path in artifacts
        for kind, file in (("labels", labels_path(path)), ("maps", path))
    }
    card = next(iter(engines.values())).card
    if len({engine.card.weights_sha256 for engine in engines.values()}) > 1:
        raise click.BadParameter("the files are of different weights", param_hint="--artifact")
    clips_NTHWC = random_clips(
        max(batch_sizes), num_frames=card.num_frames, size_px=card.size_px, num_channels=card.num_channels, seed=SEED
    )
    targets_N = np.full(len(clips_NTHWC), TOP_CLASS, np.int64)
    answers = {key: engine.run(clips_NTHWC, target_B=targets_N) for key, engine in engines.items()}
    _check(answers)
    seconds: dict[tuple[str, str, int], list[float]] = {(*key, size): [] for key in engines for size in batch_sizes}
    for repeat in range(repeats + 2):
        for (name, kind, size), samples in seconds.items():
            began = time.perf_counter()
            engines[name, kind].run(clips_NTHWC[:size], target_B=targets_N[:size])
            if repeat >= 2:  # the first two warm up
                samples.append((time.perf_counter() - began) / size)
    table = Table(title=f"{card.model}, {os.cpu_count()} cores, milliseconds per clip", title_justify="left")
    for column in ("engine", "graph", "batch", "median", "min..max", "maps / labels"):
        table.add_column(column, justify="right")
    for (name, kind, size), samples in seconds.items():
        median = statistics.median(samples)
        ratio = median / statistics.median(seconds[name, "labels", size])
        spread = f"{min(samples) * 1e3:.1f}..{max(samples) * 1e3:.1f}"
        table.add_row(name, kind, str(size), f"{median * 1e3:.1f}", spread, f"{ratio:.2f}")
    Console().print(table)
    output.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "system": platform.platform()},
        "sum3dcam": __version__,
        "engines": {f"{name}-{kind}": f"{engine.name} {engine.provider}" for (name, kind), engine in engines.items()},
        "model": card.model,
        "seconds_per_clip": [
            {"engine": name, "graph": kind, "batch": size, "samples": samples}
            for (name, kind, size), samples in seconds.items()
        ],
    }
    (output / "engines.json").write_text(json.dumps(report, indent=1) + "\n")


def _check(answers: dict[tuple[str, str], Any]) -> None:
    """Ends the run where two engines disagree on logits: a fast wrong answer is no result."""
    (first, reference), *others = answers.items()
    scale = np.abs(reference[LOGITS]).max()
    for key, answer in others:
        error = float(np.abs(answer[LOGITS] - reference[LOGITS]).max() / scale)
        if not error <= LOGITS_TOLERANCE:
            sys.exit(f"{key} and {first} differ in their logits by {error:.1e} of the largest")
    maps = {key: answer[SALIENCY] for key, answer in answers.items() if SALIENCY in answer}
    (first, reference), *others = maps.items()
    for key, answer in [(first, reference), *others]:
        error = float(np.abs(answer - reference).mean())
        if not error <= MAPS_TOLERANCE:
            sys.exit(f"{key} and {first} differ in their maps by {error:.1e} on average")


if __name__ == "__main__":
    main()
