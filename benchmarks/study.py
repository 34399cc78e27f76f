"""The paper's two claims measured on the hard rendered set; run again after an interruption, it goes on where it was.

OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive python benchmarks/study.py --preset short
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
from claims.learning import VARIANTS, train_all, weights_path
from claims.measurement import PROTOCOL, TEST_SEED, Counted, measure, read_facts, render_test_set
from claims.page import page, write_picture
from claims.presets import PRESETS, Preset
from claims.summary import summarise
from origin import origin

from sum3dcam.contract import ONNXRUNTIME
from sum3dcam.evaluation.report import dumps
from sum3dcam.export.artefacts import export_pair
from sum3dcam.export.prepare import prepare
from sum3dcam.serving.engines import Engine, load_engine
from sum3dcam.training.clips import renderer_digest
from sum3dcam.training.machine import machine


@click.command()
@click.option("--preset", "name", type=click.Choice(list(PRESETS)), default="full", show_default=True)
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), help="[default: build/study-PRESET]")
@click.option("--results", type=click.Path(file_okay=False, path_type=Path), default=Path("benchmarks/results"))
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda:INDEX.")
def main(name: str, work: Path | None, results: Path, threads: int, device: str) -> None:
    """Train plain and gated networks alike, measure labels and maps, write study.json, study.png and STUDY.md."""
    preset, work = PRESETS[name], work or Path("build") / f"study-{name}"
    claim_work(work, preset)
    torch.set_num_threads(threads)
    test = work / "test"
    render_test_set(test, num_videos=preset.test_videos, num_frames=preset.test_frames, workers=threads)
    networks: dict[str, list[Counted]] = {variant: [] for variant in VARIANTS}
    with machine(device, precision=None, workers=threads) as here:
        for seed in preset.seeds:
            train_all(preset, work=work, seed=seed, machine=here)
            for variant in VARIANTS:
                weights = weights_path(work, variant=variant, seed=seed)
                engine = exported(weights, threads=threads, device=device)
                networks[variant].append(measure(engine, test, map_videos=preset.map_videos, folder=weights.parent))
            # After every seed: hours may lie between one and the next.
            report = {
                **origin(),
                "preset": facts(preset),
                "seeds": preset.seeds[: preset.seeds.index(seed) + 1],
                "test": {"seed": TEST_SEED, "difficulty": "hard", "protocol": asdict(PROTOCOL)},
                "threads": threads,
                "training_minutes": training_seconds(work) / 60,
                "results": summarise(networks, facts=read_facts(test)),
            }
            write_results(report, results)


def write_results(report: Mapping[str, Any], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "study.json").write_text(dumps(report) + "\n")
    (directory / "STUDY.md").write_text(page(report))
    write_picture(report["results"], directory / "study.png")


def facts(preset: Preset) -> dict[str, Any]:
    """The preset as plain values, with what the clips depend on beside it."""
    return json.loads(json.dumps({**asdict(preset), "renderer": renderer_digest()}, default=str))


def claim_work(work: Path, preset: Preset) -> None:
    """Marks the folder as this study's.

    Raises:
        click.UsageError: it is another's, whose networks would be taken for this one's.
    """
    mark, wanted = work / "preset.json", facts(preset)
    del wanted["takes"]
    if mark.exists() and json.loads(mark.read_text()) != wanted:
        raise click.UsageError(f"{work} holds a study of another preset or renderer; remove it, or give --work")
    work.mkdir(parents=True, exist_ok=True)
    mark.write_text(dumps(wanted) + "\n")


def exported(weights: Path, *, threads: int, device: str) -> Engine:
    """The weights' artefact, exported where it is not there yet."""
    artifact = weights.parent / "explain.onnx"
    if not artifact.exists():
        export_pair(prepare(weights=[weights]), artifact)
    # One engine for all networks: the fastest at the export may be another for each.
    return load_engine(artifact, device=device, num_threads=threads, engine=ONNXRUNTIME)


def training_seconds(work: Path) -> float:
    logs = [path.read_text().splitlines() for path in work.glob("*-seed*/log.jsonl")]
    return float(sum(json.loads(lines[-1])["seconds"] for lines in logs if lines))


if __name__ == "__main__":
    main()
