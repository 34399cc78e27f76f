"""Memory and start of the explain and labels graphs at full size, each in a process of its own.

The graphs are written without the parity gate, whose float64 oracle would take most of an hour for 64-frame I3D here;
random weights: neither memory nor time depends on what a network has learnt.
"""

import ctypes
import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from origin import origin
from rich.console import Console
from rich.table import Table

from sum3dcam.contract import DEFAULT_METHOD, EXPLAIN_GRAPH, LABELS_GRAPH, LOGITS, TOP_CLASS

# Network, frames and pixels of a clip: as published.
CASES = (("resnext101", 16, 112), ("i3d", 64, 224))
ENGINES = ("onnxruntime", "openvino")
BATCH = 3
CHILD = "SUM3DCAM_MEASURE"
MIB = 2**20


@click.command()
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1), help="The engine's threads.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/bench/memory.json"), show_default=True)
def main(threads: int, output: Path) -> None:
    """MB of the file, MiB resident after loading, at the peak of one clip and for each clip more, seconds to load."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model, num_frames, size_px in CASES:
            shape = [model, num_frames, size_px]
            for graph in (LABELS_GRAPH, EXPLAIN_GRAPH):
                path = Path(folder) / f"{model}.{graph}.onnx"
                _child("write", str(path), graph, *shape)
                measured = [_child("measure", str(path), engine, threads) for engine in ENGINES]
                for row in (*measured, _child("measure_eager", graph, threads, *shape)):
                    clip = f"{num_frames}x{size_px}x{size_px}"
                    rows.append({"model": model, "clip": clip, "graph": graph, **json.loads(row)})
                    Console(stderr=True).print(rows[-1], highlight=False)
                path.unlink()
    table = Table(title=f"memory and start on the CPU, {threads} threads", title_justify="left")
    texts = ("network", "clip", "graph", "program")
    for column in (*texts, "file MB", "loaded MiB", "peak MiB", "MiB per clip", "load s"):
        table.add_column(column, justify="left" if column in texts else "right")
    for row in rows:
        figures = (f"{row[name]:.0f}" for name in ("loaded_mib", "peak_mib", "mib_per_clip"))
        file_mb = f"{row['file_bytes'] / 1e6:.1f}" if row["file_bytes"] else ""
        names = (row["model"], row["clip"], row["graph"], row["program"])
        table.add_row(*names, file_mb, *figures, f"{row['load_seconds']:.2f}")
    Console(width=max(Console().width, 100)).print(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    report = {
        **origin(),
        "unit": "MiB resident, above the interpreter with its modules; per clip: between batches of 1 and of 3",
        "graphs": rows,
    }
    output.write_text(json.dumps(report, indent=1) + "\n")


def _child(*step: str | int) -> str:
    """What a process of its own prints."""
    environment = os.environ | {CHILD: json.dumps(step)}
    done = subprocess.run([sys.executable, __file__], env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def write(path: str, graph: str, model: str, num_frames: int, size_px: int) -> None:
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


def measure(path: str, engine_name: str, threads: int) -> None:
    """Loads the file as a server does and runs clips; prints what it took."""
    from sum3dcam.artefact import read_card
    from sum3dcam.attribution.maps import grids_read
    from sum3dcam.serving.engines import load_engine

    card = read_card(Path(path))
    wanted = grids_read(DEFAULT_METHOD, taps=card.tap_names) if card.graph == EXPLAIN_GRAPH else (LOGITS,)
    before = resident_mib()
    began = time.perf_counter()
    engine = load_engine(Path(path), device="cpu", num_threads=threads, engine=engine_name, wanted=wanted)
    load_seconds = time.perf_counter() - began

    def run(clips: NDArray[np.uint8]) -> None:
        engine.run(clips, target_B=np.full(len(clips), TOP_CLASS), outputs=wanted)

    _tell(run, card.clip_shape_THWC, before, program=engine.name, load_seconds=load_seconds, file=Path(path))


def measure_eager(graph: str, threads: int, model: str, num_frames: int, size_px: int) -> None:
    """The same of eager torch with batch norms folded: its forward, or that and one backward to all taps."""
    import torch
    from subjects import LABELS, MAPS, eager_subjects

    from sum3dcam.export.prepare import prepare

    before = resident_mib()
    began = time.perf_counter()
    torch.set_num_threads(threads)
    made = prepare(model, random_seed=0, num_frames=num_frames, size_px=size_px)
    kind = MAPS if graph == EXPLAIN_GRAPH else LABELS
    (subject,) = [one for one in eager_subjects(made, device="cpu", precision="fp32") if one.kind == kind]
    del made
    load_seconds = time.perf_counter() - began

    def run(clips: NDArray[np.uint8]) -> None:
        subject.run(clips, np.zeros(len(clips), np.int64))

    _tell(run, (num_frames, size_px, size_px, 3), before, program=subject.name, load_seconds=load_seconds)


def _tell(
    run: Callable[[NDArray[np.uint8]], None],
    clip_shape: Sequence[int],
    before: float,
    *,
    program: str,
    load_seconds: float,
    file: Path | None = None,
) -> None:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what making the program has left behind would hide what running it takes
    loaded = resident_mib()
    peaks = {}
    for batch in (1, BATCH):
        clips = np.random.default_rng(0).integers(0, 256, (batch, *clip_shape), np.uint8)
        run(clips)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        run(clips)
        peaks[batch] = _status_mib("VmHWM") - before
    found = {
        "program": program,
        "file_bytes": 0 if file is None else file.stat().st_size,
        "loaded_mib": loaded - before,
        "peak_mib": peaks[1],
        "mib_per_clip": (peaks[BATCH] - peaks[1]) / (BATCH - 1),
        "load_seconds": load_seconds,
    }
    print(json.dumps(found))


def _status_mib(key: str) -> float:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) / 1024


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


if __name__ == "__main__":
    if CHILD in os.environ:
        step, *arguments = json.loads(os.environ[CHILD])
        {"write": write, "measure": measure, "measure_eager": measure_eager}[step](*arguments)
    else:
        main()
