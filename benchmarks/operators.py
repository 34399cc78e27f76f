"""Where a clip's time goes in OpenVINO: by kind of operator, from its own clocks, for labels and for Sum3DCAM's grids.

Of each operator the shortest time counts, over all repeats and with both graphs in turn: what it costs when nothing
disturbs it. So the sums say what the graphs would take at best, and which part of that is convolutions.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from engines import ARTIFACTS, SEED, build_artifacts, count_flop
from origin import origin
from rich.console import Console
from rich.table import Table
from roof import measure_roof
from subjects import LABELS, MAPS, outputs_of
from tqdm import tqdm

from sum3dcam.contract import TOP_CLASS
from sum3dcam.export.archive import labels_path
from sum3dcam.export.prepare import prepare, random_clips
from sum3dcam.models import NETWORKS
from sum3dcam.openvino_graph import compile_graph, read_graph
from sum3dcam.parts import part_outputs

KINDS = (LABELS, MAPS)
TABLE_WIDTH = 100


@click.command()
@click.option("--model", default="resnext101", show_default=True, type=click.Choice(list(NETWORKS)))
@click.option("--frames", "num_frames", type=click.IntRange(1), help="Of a clip [default: the network's].")
@click.option("--size", "size_px", type=click.IntRange(32), help="Pixels of a clip's side [default: the network's].")
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1))
@click.option("--repeats", default=20, show_default=True, type=click.IntRange(1))
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("build/bench/operators.json"), show_default=True
)
def main(model: str, num_frames: int | None, size_px: int | None, threads: int, repeats: int, output: Path) -> None:
    """Milliseconds of one clip by kind of operator. The network has random weights, which cost what trained ones do."""
    torch.set_num_threads(threads)
    prepared = prepare(model, random_seed=0, num_frames=num_frames, size_px=size_px)
    card = prepared.card
    (path,) = build_artifacts(prepared, formats=[".onnx"], folder=ARTIFACTS)
    outputs = {LABELS: outputs_of(card)[LABELS], MAPS: part_outputs(card, outputs_of(card)[MAPS])}
    requests = {
        kind: compile_graph(
            read_graph(file), outputs=outputs[kind], one_clip=True, num_threads=threads, clocks=True
        ).create_infer_request()
        for kind, file in ((LABELS, labels_path(path)), (MAPS, path))
    }
    clip = random_clips(1, num_frames=card.num_frames, size_px=card.size_px, num_channels=card.num_channels, seed=SEED)
    given = {LABELS: [clip], MAPS: [clip, np.array([TOP_CLASS])]}
    roof = measure_roof("cpu")
    shortest: dict[str, dict[str, tuple[str, timedelta]]] = {kind: {} for kind in KINDS}
    for _ in tqdm(range(repeats), desc="rounds", unit="round"):
        for kind in KINDS:
            requests[kind].infer(given[kind])
            for operator in requests[kind].get_profiling_info():
                _, before = shortest[kind].get(operator.node_name, ("", timedelta.max))
                shortest[kind][operator.node_name] = (operator.node_type, min(before, operator.real_time))
    report = {
        **origin(),
        "model": card.model,
        "clip": list(card.clip_shape_THWC),
        "threads": threads,
        "roof_flop_per_second": roof.flop_per_second,
        "flop_per_clip": count_flop(prepared),
        "operators": {kind: _by_kind(shortest[kind]) for kind in KINDS},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    Console(width=max(Console().width, TABLE_WIDTH)).print(operators_table(report))


def _by_kind(operators: Mapping[str, tuple[str, timedelta]]) -> Mapping[str, Mapping[str, float]]:
    """Number and seconds by kind, the longest first; of those that took any time at all."""
    times: dict[str, list[float]] = defaultdict(list)
    for kind, took in operators.values():
        if took:
            times[kind].append(took.total_seconds())
    longest_first = sorted(times, key=lambda kind: -sum(times[kind]))
    return {kind: {"count": len(times[kind]), "seconds": sum(times[kind])} for kind in longest_first}


def operators_table(report: Mapping[str, Any]) -> Table:
    """Milliseconds and number by kind of operator; their sums; and what the convolutions alone would take."""
    labels, maps = (report["operators"][kind] for kind in KINDS)
    table = Table(
        title=f"{report['model']} {'x'.join(str(size) for size in report['clip'][:3])} in OpenVINO, "
        f"{report['threads']} threads of {report['machine']['processor']}",
        title_justify="left",
    )
    for column in ("operators", "labels ms", "number", "maps ms", "number", "maps / labels"):
        table.add_column(column, justify="left" if column == "operators" else "right")
    kinds = {kind: [kind] for kind in maps}
    sums = {
        "convolutions": [kind for kind in maps if "Convolution" in kind],
        "all the others": [kind for kind in maps if "Convolution" not in kind],
        "all": list(maps),
    }
    for name, group in (kinds | sums).items():
        cells, totals = [], []
        for found in (labels, maps):
            rows = [found[kind] for kind in group if kind in found]
            totals.append(sum(row["seconds"] for row in rows))
            cells += [f"{1e3 * totals[-1]:.2f}", str(sum(row["count"] for row in rows))]
        ratio = f"{totals[1] / totals[0]:.2f}" if totals[0] else ""
        table.add_row(name, *cells, ratio, end_section=name == [*kinds][-1])
    return table


if __name__ == "__main__":
    main()
