"""Sends mutated files to real decoder processes: `python -m tests.fuzz.campaign --inputs 10000 --output fuzz.json`.

Exits with 1 if an input was answered with an error that is none of its own, or if a good file between them was not
answered as ever.
"""

import json
import logging
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
from rich.console import Console
from rich.table import Table
from tests.fuzz.mutants import mutant, seeds
from tqdm import tqdm

from sum3dcam.errors import RequestError
from sum3dcam.evaluation.provenance import machine, versions
from sum3dcam.video.decoder import InProcessDecoder
from sum3dcam.video.footage import DecodeLimits, FrameSpec
from sum3dcam.video.isolation import pool as pool_module
from sum3dcam.video.isolation.pool import DecoderPool

SPEC = FrameSpec(
    size_px=112, preprocessing="shorter-side-centre-crop", clip_length=16, streams=("rgb",), frames_per_second=None
)
LIMITS = DecodeLimits()
# A good file of some kind goes in after this many mutants.
CANARY_EVERY = 50
OK = "ok"


class Deaths(logging.Handler):
    """Counts the processes that files have killed, by exit code."""

    def __init__(self) -> None:
        super().__init__()
        self.codes: Counter[int] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.codes[record.args[1]] += 1  # type: ignore[index]


def run(*, num_inputs: int, seed: int, processes: int) -> dict[str, Any]:
    """The report: inputs by kind and code, deaths, the slowest, and what went wrong."""
    files = seeds()
    expected = {kind: InProcessDecoder(SPEC, limits=LIMITS).submit(data).result() for kind, data in files.items()}
    deaths = Deaths()
    pool_module.logger.addHandler(deaths)
    pool = DecoderPool(SPEC, limits=LIMITS, processes=processes)
    pool.wait_ready()

    def one(number: int) -> tuple[int, str, str, float, str]:
        kind, data = mutant(number, seed=seed, files=files)
        began = time.monotonic()
        error = pool.submit(data).exception()
        seconds = time.monotonic() - began
        code = OK if error is None else error.code if isinstance(error, RequestError) else "internal"
        said = repr(error) if code == "internal" else ""
        if number % CANARY_EVERY == 0:
            good = pool.submit(files[kind]).result()
            if not np.array_equal(good.frames_THWC, expected[kind].frames_THWC):
                said = f"a good {kind} was answered otherwise"
        return number, kind, code, seconds, said

    try:
        with ThreadPoolExecutor(processes) as threads:
            answers = list(tqdm(threads.map(one, range(num_inputs)), total=num_inputs, unit="input", disable=None))
    finally:
        pool.close()
        pool_module.logger.removeHandler(deaths)
    codes: dict[str, Counter[str]] = defaultdict(Counter)
    for _, kind, code, _, _ in answers:
        codes[kind][code] += 1
    slowest = sorted(answers, key=lambda answer: -answer[3])[:10]
    return {
        "seed": seed,
        "inputs": num_inputs,
        "codes": dict(sum(codes.values(), Counter()).most_common()),
        "codes_by_kind": {kind: dict(counts.most_common()) for kind, counts in codes.items()},
        "process_deaths_by_exit_code": {str(code): count for code, count in deaths.codes.items()},
        "slowest": [
            {"number": number, "kind": kind, "code": code, "seconds": round(seconds, 3)}
            for number, kind, code, seconds, _ in slowest
        ],
        "median_seconds": round(float(np.median([answer[3] for answer in answers])), 5),
        "wrong": [{"number": number, "kind": kind, "said": said} for number, kind, _, _, said in answers if said],
    }


@click.command()
@click.option("--inputs", "num_inputs", default=10000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=2026, show_default=True)
@click.option("--processes", default=2, show_default=True, type=click.IntRange(1))
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/fuzz.json"), show_default=True)
def main(num_inputs: int, seed: int, processes: int, output: Path) -> None:
    """Mutated videos, images and arrays; what they were answered with, by kind."""
    began = time.monotonic()
    report = {
        "command": f"python -m tests.fuzz.campaign --inputs {num_inputs} --seed {seed} --processes {processes}",
        "machine": machine(),
        "versions": versions() | {name: ".".join(map(str, number)) for name, number in av.library_versions.items()},
        **run(num_inputs=num_inputs, seed=seed, processes=processes),
    }
    report["seconds"] = round(time.monotonic() - began, 1)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    codes = list(report["codes"])
    table = Table(title=f"{num_inputs} mutated files, {report['seconds']} s", title_justify="left")
    table.add_column("kind")
    for code in codes:
        table.add_column(code, justify="right")
    for kind, counts in report["codes_by_kind"].items():
        table.add_row(kind, *(str(counts.get(code, 0)) for code in codes))
    console = Console(width=max(Console().width, 120))
    console.print(table)
    console.print(f"deaths by exit code: {report['process_deaths_by_exit_code']}; slowest: {report['slowest'][0]}")
    if report["wrong"]:
        console.print(report["wrong"][:10])
        sys.exit(1)


if __name__ == "__main__":
    main()
