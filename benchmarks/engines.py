"""Times every engine at hand and the peers in one run, interleaved, after all of them have given the same answers."""

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from origin import origin
from report import engines_table
from rich.console import Console
from roof import Roof, measure_roof
from subjects import (
    LABELS,
    LAYERS,
    MAPS,
    PEER_TAPS,
    PRECISIONS,
    Answer,
    Subject,
    compiled_subjects,
    eager_subjects,
    engine_subjects,
    outputs_of,
    peer_subjects,
)
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from sum3dcam import attribution, contract, export, models
from sum3dcam.contract import FP32, LOGITS
from sum3dcam.export.archive import labels_path
from sum3dcam.export.artefacts import CANDIDATES, export_pair
from sum3dcam.export.joint import explain_graph, labels_graph
from sum3dcam.export.parity import autograd_answers, reference
from sum3dcam.export.prepare import Prepared, prepare, random_clips
from sum3dcam.models import NETWORKS

LOGITS_TOLERANCE = 1e-4  # of the largest logit, METHOD.md section 4
# Of half precision, whose ReLUs flip everywhere: a program that is wrong altogether is off by a half.
HALF_TOLERANCE = 0.2
# Mean over voxels or cells, of maps whose max is 1 and of grids over their max. One flipped ReLU moves a clip's map by
# 2e-3 and a grid by 6e-3; the certificate compares exactly, over 16 clips. A wrong program is off by more (OpenVINO's
# maps of ResNeXt-101: 4e-2; a grid under another name: 0.1 and more).
MAPS_TOLERANCE = 2e-2
CHECKED_CLIPS = 4
SETTLE_SECONDS = 0.05  # the threads of the program before still spin, in case there is more to do
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
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda:0.")
@click.option(
    "--precisions",
    default="fp32",
    show_default=True,
    help=f"Of {','.join(PRECISIONS)}; of files those in which the format can be exported.",
)
@click.option("--compiled/--no-compiled", default=False, help="Time the joint graph compiled by inductor too.")
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
    device: str,
    precisions: str,
    compiled: bool,
    threads: int,
    repeats: int,
    batch_sizes: tuple[int, ...],
    output: Path,
) -> None:
    """Milliseconds per clip, and shares of this machine's peak, for labels and maps.

    The network has random weights, which cost what trained ones do.
    """
    if device != "cpu" and not torch.cuda.is_available():
        print("no GPU: nothing was measured", file=sys.stderr)
        sys.exit(1 if os.environ.get("REQUIRE_GPU") == "1" else 0)
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False
    prepared = prepare(model, random_seed=0, num_frames=num_frames, size_px=size_px)
    card = prepared.card
    chosen = [precision for precision in precisions.split(",") if precision in contract.PRECISIONS]
    files = build_artifacts(prepared, formats=formats.split(","), precisions=chosen, folder=ARTIFACTS)
    recorded = {CHECKED_CLIPS, *batch_sizes}
    subjects = list(engine_subjects(files, device=device, num_threads=threads, cuda_graph_batches=recorded))
    for precision in precisions.split(","):
        subjects += eager_subjects(prepared, device=device, precision=precision)
        if compiled:
            subjects += compiled_subjects(prepared, device=device, precision=precision)
    if peers:
        subjects += peer_subjects(prepared, device=device)
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
    timings, roofs = time_interleaved(
        subjects, clips_NTHWC, targets_N, batch_sizes=batch_sizes, repeats=repeats, device=device
    )
    report = {
        **origin(),
        "model": card.model,
        "clip": list(card.clip_shape_THWC),
        "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
        "threads": threads,
        "roofs": [vars(roof) for roof in roofs],
        "flop_per_clip": count_flop(prepared),
        "seconds_per_clip": [
            {
                "name": timing.subject.name,
                "kind": timing.subject.kind,
                "precision": timing.subject.precision,
                "batch": timing.batch,
                "samples": timing.samples,
            }
            for timing in timings
        ],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    Console(width=max(Console().width, 120)).print(engines_table(report))


def build_artifacts(
    prepared: Prepared, *, formats: Iterable[str], folder: Path, precisions: Iterable[str] = (FP32,)
) -> list[Path]:
    """The network in each format and precision there is, past the gate, whose oracle is computed once; kept until its
    code changes."""
    sources = [path for package in (attribution, export, models) for path in Path(package.__path__[0]).rglob("*.py")]
    code = max(path.stat().st_mtime for path in sources)
    files = []
    for precision in precisions:
        card = replace(prepared.card, precision=precision)
        in_precision = replace(prepared, card=card)
        stem = f"{card.model}-{card.num_frames}x{card.size_px}" + (f"-{precision}" if precision != FP32 else "")
        paths = [folder / f"{stem}{suffix}" for suffix in formats if suffix != ".onnx" or precision == FP32]
        missing = [path for path in paths if not all(_is_newer(file, than=code) for file in (path, labels_path(path)))]
        oracle = reference(in_precision) if missing else None
        for path in missing:
            print(f"exporting {path.name}", file=sys.stderr)
            export_pair(in_precision, path, oracle=oracle)
        files += paths
    return files


def _is_newer(path: Path, *, than: float) -> bool:
    return path.exists() and path.stat().st_mtime > than


def same_answers(
    subjects: list[Subject], clips_NTHWC: NDArray[np.uint8], targets_N: NDArray[np.int64], *, prepared: Prepared
) -> list[Subject]:
    """The subjects whose answers are eager float32's: a fast wrong answer is no result, and is said aloud."""
    wanted = autograd_answers(
        prepared.classifier, torch.from_numpy(clips_NTHWC), torch.from_numpy(targets_N), card=prepared.card
    )
    right = []
    for subject in subjects:
        wrong = _difference(subject.run(clips_NTHWC, targets_N), wanted, exact=subject.precision == "fp32")
        if wrong:
            print(f"left out: {subject.name}, {subject.kind}: {wrong}", file=sys.stderr)
        else:
            right.append(subject)
    return right


def _difference(answer: Answer, wanted: Answer, *, exact: bool) -> str | None:
    for name, values in answer.items():
        errors = np.abs(values - wanted[name]) / np.abs(wanted[name]).max()
        error, allowed = (errors.max(), LOGITS_TOLERANCE) if name == LOGITS else (errors.mean(), MAPS_TOLERANCE)
        if not exact:
            error, allowed = errors.mean(), HALF_TOLERANCE
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
    device: str,
) -> tuple[list[Timing], list[Roof]]:
    """The roofs, then every subject once at every batch size, then all again: what disturbs the machine disturbs all.

    Each has a call before the one that counts: the first after a pause takes a quarter longer.
    """
    timings = [Timing(subject, batch, []) for subject in subjects for batch in batch_sizes]
    roofs = []
    for _ in tqdm(range(repeats), desc="rounds", unit="round"):
        roofs.append(measure_roof(device))
        for timing in timings:
            given = clips_NTHWC[: timing.batch], targets_N[: timing.batch]
            time.sleep(SETTLE_SECONDS)
            timing.subject.run(*given)
            began = time.perf_counter()
            timing.subject.run(*given)
            timing.samples.append((time.perf_counter() - began) / timing.batch)
    return timings, roofs


def count_flop(prepared: Prepared) -> Mapping[str, int]:
    """FLOP (twice the multiply-adds) of one clip in each kind, as torch counts its convolutions and products."""
    clip, target = prepared.example_clip(), torch.zeros(2, dtype=torch.int64)
    counted = {}
    for kind in outputs_of(prepared.card):
        taps = {LABELS: (), MAPS: prepared.card.tap_names, LAYERS: PEER_TAPS}[kind]
        chosen = tuple(tap for tap in prepared.card.taps if tap.name in taps)
        graph = (
            explain_graph(prepared.classifier, taps=chosen, clip_BTHWC=clip).joint
            if chosen
            else labels_graph(prepared.classifier, clip_BTHWC=clip)
        )
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            graph(*(clip[:1], target[:1])[: 2 if chosen else 1])
        counted[kind] = int(counter.get_total_flops())
    return counted


if __name__ == "__main__":
    main()
