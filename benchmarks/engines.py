"""Times every engine at hand and the peers in one run, interleaved, after all of them have given the same answers."""

import json
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from report import engines_table
from rich.console import Console
from roof import measure_roof
from subjects import LABELS, MAPS, Answer, Subject, eager_subjects, engine_subjects, peer_subjects
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from sum3dcam.contract import EXPLAINED, LOGITS
from sum3dcam.evaluation.provenance import machine, versions
from sum3dcam.export.archive import labels_path
from sum3dcam.export.artefacts import CANDIDATES, export_pair
from sum3dcam.export.joint import explain_graph, labels_graph
from sum3dcam.export.parity import autograd_answers, reference
from sum3dcam.export.prepare import Prepared, prepare, random_clips
from sum3dcam.models import NETWORKS

LOGITS_TOLERANCE = 1e-4  # of the largest logit, METHOD.md section 4
# Mean over voxels or cells, of maps whose max is 1 and of grids over their max. One flipped ReLU moves a clip's map by
# 2e-3 and a grid by 6e-3; the certificate compares exactly, over 16 clips. A wrong program is off by more (OpenVINO's
# maps of ResNeXt-101: 4e-2; a grid under another name: 0.1 and more).
MAPS_TOLERANCE = 2e-2
CHECKED_CLIPS = 4
WARM_UP = 2
ARTIFACTS = Path("build/bench/artifacts")  # kept from run to run
SEED = 7


@dataclass(frozen=True)
class Timing:
    """Seconds per clip of one subject at one batch size, call by call."""

    subject: Subject
    batch: int
    samples: list[float]


@click.command()
@click.option("--model", default="resnext-mini", show_default=True, type=click.Choice(list(NETWORKS)))
@click.option("--frames", "num_frames", type=click.IntRange(1), help="Of a clip [default: the network's].")
@click.option("--size", "size_px", type=click.IntRange(32), help="Pixels of a clip's side [default: the network's].")
@click.option("--formats", default=".onnx", show_default=True, help=f"Some of {','.join(CANDIDATES)}.")
@click.option("--peers/--no-peers", default=False, help="Time pytorch-grad-cam and captum too (residual networks).")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1))
@click.option("--repeats", default=10, show_default=True, type=click.IntRange(3))
@click.option("--batch", "batch_sizes", multiple=True, default=(1, 4), show_default=True, type=click.IntRange(1))
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/bench/engines.json"), show_default=True)
def main(
    model: str,
    num_frames: int | None,
    size_px: int | None,
    formats: str,
    peers: bool,
    threads: int,
    repeats: int,
    batch_sizes: tuple[int, ...],
    output: Path,
) -> None:
    """Milliseconds per clip, and shares of this machine's peak, for labels and maps.

    The network has random weights, which cost what trained ones do.
    """
    torch.set_num_threads(threads)
    prepared = prepare(model, random_seed=0, num_frames=num_frames, size_px=size_px)
    card = prepared.card
    files = build_artifacts(prepared, formats=formats.split(","), folder=ARTIFACTS)
    subjects = [*engine_subjects(files, num_threads=threads), *eager_subjects(prepared)]
    if peers:
        subjects += peer_subjects(prepared)
    clips_NTHWC = random_clips(
        max(CHECKED_CLIPS, *batch_sizes),
        num_frames=card.num_frames,
        size_px=card.size_px,
        num_channels=card.num_channels,
        seed=SEED,
    )
    # The peers have no word for the top class.
    targets_N = np.random.default_rng(SEED).integers(0, len(card.labels), len(clips_NTHWC))
    subjects = same_answers(subjects, clips_NTHWC, targets_N, prepared=prepared)
    roofs = [measure_roof()]
    timings = time_interleaved(subjects, clips_NTHWC, targets_N, batch_sizes=batch_sizes, repeats=repeats)
    roofs.append(measure_roof())
    report = {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "model": card.model,
        "clip": list(card.clip_shape_THWC),
        "threads": threads,
        "roofs": [vars(roof) for roof in roofs],
        "flop_per_clip": count_flop(prepared),
        "seconds_per_clip": [
            {"name": timing.subject.name, "kind": timing.subject.kind, "batch": timing.batch, "samples": timing.samples}
            for timing in timings
        ],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    Console(width=max(Console().width, 120)).print(engines_table(report))


def build_artifacts(prepared: Prepared, *, formats: Iterable[str], folder: Path) -> list[Path]:
    """The network in each format, past the gate, whose oracle is computed once; those already there are kept."""
    card = prepared.card
    stem = f"{card.model}-{card.num_frames}x{card.size_px}"
    files = [folder / f"{stem}{suffix}" for suffix in formats]
    missing = [path for path in files if not (path.exists() and labels_path(path).exists())]
    if missing:
        oracle = reference(prepared)
        for path in missing:
            print(f"exporting {path.name}", file=sys.stderr)
            export_pair(prepared, path, oracle=oracle)
    return files


def same_answers(
    subjects: list[Subject], clips_NTHWC: NDArray[np.uint8], targets_N: NDArray[np.int64], *, prepared: Prepared
) -> list[Subject]:
    """The subjects whose answers are eager float32's: a fast wrong answer is no result, and is said aloud."""
    wanted = autograd_answers(
        prepared.classifier, torch.from_numpy(clips_NTHWC), torch.from_numpy(targets_N), card=prepared.card
    )
    right = []
    for subject in subjects:
        wrong = _difference(subject.run(clips_NTHWC, targets_N), wanted)
        if wrong:
            print(f"left out: {subject.name}, {subject.kind}: {wrong}", file=sys.stderr)
        else:
            right.append(subject)
    return right


def _difference(answer: Answer, wanted: Answer) -> str | None:
    for name, values in answer.items():
        if name == EXPLAINED:
            continue
        errors = np.abs(values - wanted[name]) / np.abs(wanted[name]).max()
        error, allowed = (errors.max(), LOGITS_TOLERANCE) if name == LOGITS else (errors.mean(), MAPS_TOLERANCE)
        if not error <= allowed:
            return f"{name} differs from eager's by {error:.1e}, allowed {allowed:.0e}"
    return None


def time_interleaved(
    subjects: list[Subject],
    clips_NTHWC: NDArray[np.uint8],
    targets_N: NDArray[np.int64],
    *,
    batch_sizes: Iterable[int],
    repeats: int,
) -> list[Timing]:
    """Every subject once at every batch size, then all again: what disturbs the machine disturbs all of them."""
    timings = [Timing(subject, batch, []) for subject in subjects for batch in batch_sizes]
    for repeat in tqdm(range(-WARM_UP, repeats), desc="rounds", unit="round"):
        for timing in timings:
            began = time.perf_counter()
            timing.subject.run(clips_NTHWC[: timing.batch], targets_N[: timing.batch])
            if repeat >= 0:
                timing.samples.append((time.perf_counter() - began) / timing.batch)
    return timings


def count_flop(prepared: Prepared) -> Mapping[str, int]:
    """FLOP (twice the multiply-adds) of one clip through each graph, as torch counts its convolutions and products."""
    clip, target = prepared.example_clip(), torch.zeros(2, dtype=torch.int64)
    counted = {}
    for kind, graph, inputs in (
        (LABELS, labels_graph(prepared.classifier, clip_BTHWC=clip), (clip[:1],)),
        (MAPS, explain_graph(prepared.classifier, taps=prepared.card.taps, clip_BTHWC=clip), (clip[:1], target[:1])),
    ):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            graph(*inputs)
        counted[kind] = counter.get_total_flops()
    return counted


if __name__ == "__main__":
    main()
