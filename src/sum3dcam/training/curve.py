"""The learning curve as a picture."""

import json
from collections.abc import Sequence
from pathlib import Path

from sum3dcam.training.stages import Stage


def draw_curve(log: Path, *, stages: Sequence[Stage], path: Path) -> None:
    """Loss and accuracy over batches from a training's log.jsonl, one band per stage, as a PNG."""
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [row["step"] for row in rows]
    learnt = [row for row in rows if "loss" in row]  # the row before the first batch has none
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    batches = [row["step"] for row in learnt]
    axes.plot(batches, [row["accuracy"] for row in learnt], color="tab:blue", alpha=0.35, label="last training batch")
    axes.plot(steps, [row["held_out_accuracy"] for row in rows], color="tab:blue", label="held-out clips")
    axes.axhline(0.95, color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="batches", ylabel="clip accuracy", ylim=(0, 1.02), xlim=(0, sum(stage.steps for stage in stages)))
    first = 0
    for index, stage in enumerate(stages):
        if index % 2:
            axes.axvspan(first, first + stage.steps, color="grey", alpha=0.08)
        axes.text(first + stage.steps / 2, 0.02, f"{stage.difficulty}\n{stage.size_px} px", ha="center", fontsize=8)
        first += stage.steps
    loss_axes = axes.twinx()
    loss_axes.plot(batches, [row["loss"] for row in learnt], color="tab:orange", alpha=0.6, label="training loss")
    loss_axes.set_ylabel("loss")
    loss_axes.set_ylim(bottom=0)
    lines = [*axes.get_lines()[:2], *loss_axes.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="center right")
    figure.savefig(path, dpi=120)
