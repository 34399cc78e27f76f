"""Memory and start of the explain and labels graphs at full size, each in a process of its own.

The graphs are written without the parity gate, whose float64 oracle would take most of an hour for 64-frame I3D here;
random weights: neither memory nor time depends on what a network has learnt.
"""

import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from sum3dcam.contract import EXPLAIN_GRAPH, LABELS_GRAPH, TOP_CLASS
from sum3dcam.evaluation.provenance import machine, versions

# Network, frames and pixels of a clip: as published.
CASES = (("resnext101", 16, 112), ("i3d", 64, 224))
CHILD = "SUM3DCAM_MEASURE"
MIB = 2**20


@click.command()
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1), help="The engine's threads.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/bench/memory.json"), show_default=True)
def main(threads: int, output: Path) -> None:
    """MB of the file, MiB resident after loading and at the peak of one clip, seconds to load and per clip."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model, num_frames, size_px in CASES:
            for graph in (LABELS_GRAPH, EXPLAIN_GRAPH):
                path = Path(folder) / f"{model}.{graph}.onnx"
                subprocess.run(
                    [sys.executable, __file__],
                    env=os.environ | {CHILD: json.dumps(["write", str(path), model, graph, num_frames, size_px])},
                    check=True,
                )
                measured = subprocess.run(
                    [sys.executable, __file__],
                    env=os.environ | {CHILD: json.dumps(["measure", str(path), threads])},
                    check=True,
                    capture_output=True,
                    text=True,
                )
                clip = f"{num_frames}x{size_px}x{size_px}"
                rows.append({"model": model, "clip": clip, "graph": graph, **json.loads(measured.stdout)})
                Console(stderr=True).print(rows[-1], highlight=False)
                path.unlink()
    table = Table(title=f"memory and start, ONNX Runtime on the CPU, {threads} threads", title_justify="left")
    for column in ("network", "clip", "graph", "file MB", "loaded MiB", "peak MiB", "load s", "clip s"):
        table.add_column(column, justify="left" if column in ("network", "clip", "graph") else "right")
    for row in rows:
        figures = (f"{row['file_bytes'] / 1e6:.1f}", f"{row['loaded_mib']:.0f}", f"{row['peak_mib']:.0f}")
        times = (f"{row['load_seconds']:.2f}", f"{row['clip_seconds']:.2f}")
        table.add_row(row["model"], row["clip"], row["graph"], *figures, *times)
    Console(width=max(Console().width, 100)).print(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "unit": "MiB resident, above the interpreter with its modules imported",
        "graphs": rows,
    }
    output.write_text(json.dumps(report, indent=1) + "\n")


def write(path: str, model: str, graph: str, num_frames: int, size_px: int) -> None:
    """Writes one graph with its card."""
    from sum3dcam.export.joint import explain_graph, labels_graph
    from sum3dcam.export.onnx import to_model, write_onnx
    from sum3dcam.export.prepare import prepare

    made = prepare(model, random_seed=0, num_frames=num_frames, size_px=size_px)
    card = replace(made.card, graph=graph)
    clip = made.example_clip()
    built = (
        explain_graph(made.classifier, taps=card.taps, clip_BTHWC=clip)
        if graph == EXPLAIN_GRAPH
        else labels_graph(made.classifier, clip_BTHWC=clip)
    )
    write_onnx(to_model(built, card=card), Path(path), card=card)


def measure(path: str, threads: int) -> None:
    """Loads the file as a server does, runs one clip three times, prints what it took."""
    from sum3dcam.serving.engines import load_engine

    before = resident_mib()
    began = time.perf_counter()
    engine = load_engine(Path(path), device="cpu", num_threads=threads)
    load_seconds = time.perf_counter() - began
    loaded = resident_mib()
    clip = np.random.default_rng(0).integers(0, 256, (1, *engine.card.clip_shape_THWC), np.uint8)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        engine.run(clip, target_B=np.array([TOP_CLASS]))
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {
        "file_bytes": Path(path).stat().st_size,
        "loaded_mib": loaded - before,
        "peak_mib": peak - before,
        "load_seconds": load_seconds,
        "clip_seconds": min(seconds),
    }
    print(json.dumps(found))


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


if __name__ == "__main__":
    if CHILD in os.environ:
        step, *arguments = json.loads(os.environ[CHILD])
        {"write": write, "measure": measure}[step](*arguments)
    else:
        main()
