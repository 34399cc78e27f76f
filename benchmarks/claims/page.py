"""The study's results as a page of Markdown and a picture."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from claims.measurement import ELEMENTWISE, FULL_SUM, PAPERS_SUM
from claims.summary import BETTER, UNDECIDED, WORSE

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = {"plain": "#0072B2", "gated": "#D55E00"}
CLAIMS = {FULL_SUM: "all taps", PAPERS_SUM: "the paper's advice, conv + layer1"}


def percent(figure: Mapping[str, Any]) -> str:
    """The mean over seeds, the interval over videos, and each seed's value, in per cent.

    >>> percent({"value": 0.5, "low": 0.401, "high": 0.6, "by_seed": [0.45, 0.55]})
    '50.0 [40.1, 60.0] (45, 55)'
    """
    seeds = ", ".join(f"{100 * value:.0f}" for value in figure["by_seed"])
    return f"{100 * figure['value']:.1f} [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}] ({seeds})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def page(report: Mapping[str, Any]) -> str:
    """The whole page; every figure in it is from the report."""
    found = report["results"]
    return "\n".join(
        [
            _head(report),
            "## In short\n",
            _in_short(found),
            "## Gates\n",
            "Per cent; the gated network less the plain one in the last row.\n",
            _accuracy(found),
            "## Maps\n",
            "Per cent of frames. Hit point and box accuracy are of a server's default box (mean + 0.5 (max - mean) of "
            "the frame, the union); MaxBoxAcc takes one threshold for the data set, the best, and the largest "
            "contour. The class explained is the true one, the truth the boxes of those who do it. A hit is an "
            "overlap of any size, so that large boxes hit best.\n",
            *(
                f"### On the {variant} networks\n\n{_maps(maps)}\n{_claims(found['sum3dcam_minus_other'][variant])}"
                for variant, maps in found["maps"].items()
            ),
            "## Where it is hard\n",
            _groups(found["groups"]),
        ]
    )


def difference(figure: Mapping[str, Any]) -> str:
    """A difference in points, its interval, each seed's, and the verdict.

    >>> difference({"value": 0.05, "low": 0.01, "high": 0.09, "by_seed": [0.05], "verdict": "better"})
    '+5.0 [+1.0, +9.0] (+5): better'
    """
    seeds = ", ".join(f"{100 * value:+.0f}" for value in figure["by_seed"])
    low, high = 100 * figure["low"], 100 * figure["high"]
    return f"{100 * figure['value']:+.1f} [{low:+.1f}, {high:+.1f}] ({seeds}): {figure['verdict']}"


def _in_short(found: Mapping[str, Any]) -> str:
    """Both claims in words, from the verdicts alone."""
    lines = [
        f"- Gated against plain, {name}: {difference(figure)}." for name, figure in found["gated_minus_plain"].items()
    ]
    for variant, sums in found["sum3dcam_minus_other"].items():
        for ours, others in sums.items():
            for measure in ("hit point", "MaxBoxAcc 0.3"):
                by_verdict = {
                    verdict: [kind for kind, theirs in others.items() if theirs[measure]["verdict"] == verdict]
                    for verdict in (BETTER, UNDECIDED, WORSE)
                }
                said = "; ".join(f"{verdict}: {', '.join(kinds) or 'none'}" for verdict, kinds in by_verdict.items())
                lines.append(f"- {ours}, {variant} networks, {measure}, against others: {said}.")
    return "\n".join(lines) + "\n"


def _head(report: Mapping[str, Any]) -> str:
    found, preset, test = report["results"], report["preset"], report["test"]
    start = f"`{preset['initial']}` without its gates" if preset["initial"] else "random weights"
    caveat = " The initial weights were learnt together with the gates left out." if preset["initial"] else ""
    seeds = ", ".join(str(seed) for seed in report["seeds"])
    seeds += f" (of {len(preset['seeds'])} so far)" if len(report["seeds"]) < len(preset["seeds"]) else ""
    groups = ", ".join(f"{name}: {group['videos']}" for name, group in found["groups"].items())
    counts = f"{found['clips']} clips; maps on the first {found['map_videos']}, {found['map_frames']} frames"
    where = f"{report['machine']['processor']}, {report['threads']} thread(s), torch {report['versions']['torch']}"
    return f"""# The paper's two claims, on rendered actions

Written by `benchmarks/study.py`; every figure is from [study.json](study.json).

    {report["command"]}

- Seeds {seeds}. For each a plain `{preset["model"]}`, begun from {start}, learns
  {_stages(preset["base"])}.
  From it a plain and a gated network (fresh gates at zero on all taps) learn, with the same steps, clips and order,
  {_stages(preset["last"])}.{caveat}
- Tested on {found["videos"]} videos of difficulty `hard` ({counts}),
  seed {test["seed"]}, never trained on: actors from a tenth of the frame's height, bystanders who hold a pose, second
  actions, cuts ([how they look](hard.jpg)). Videos with {groups}.
- {where}; {report["training_minutes"]:.0f} minutes of training steps.
  This preset takes {preset["takes"]}.

A figure is the mean over seeds, in brackets its 95 % bootstrap interval over videos, in parentheses each seed's own.
Of a difference, "{BETTER}" is said where the whole interval of the paired difference and every seed's are above zero,
"{WORSE}" where all are below, else "{UNDECIDED}". The interval says nothing of seeds that were not trained, and of
so many comparisons a few are chance.

![accuracy of both networks, and of their maps](study.png)
"""


def _stages(recipe: Mapping[str, Any]) -> str:
    return ", then ".join(
        f"{stage['steps']} batches of {stage['batch_clips']} clips of `{stage['difficulty']}` at {stage['size_px']} px "
        f"(from {stage['num_videos']} videos, {recipe['optimizer']}, peak rate {stage['rate']['peak']:g})"
        for stage in recipe["stages"]
    )


def _accuracy(found: Mapping[str, Any]) -> str:
    names = list(found["gated_minus_plain"])
    rows = [[variant, *(percent(figures[name]) for name in names)] for variant, figures in found["accuracy"].items()]
    return table(
        ["network", *names],
        [*rows, ["gated - plain", *(difference(found["gated_minus_plain"][name]) for name in names)]],
    )


def _maps(maps: Mapping[str, Any]) -> str:
    names = list(next(iter(maps.values())))
    return table(["map", *names], [[kind, *(percent(found[name]) for name in names)] for kind, found in maps.items()])


def _claims(sums: Mapping[str, Any]) -> str:
    """For each Sum3DCAM: against which maps and boxes the claim holds, by measure."""
    parts = []
    for ours, others in sums.items():
        names = list(next(iter(others.values())))
        rows = [
            [kind, *(f"{100 * found[name]['value']:+.1f} {found[name]['verdict']}" for name in names)]
            for kind, found in others.items()
        ]
        parts.append(f"{ours} ({CLAIMS[ours]}) less each other:\n\n" + table(["less", *names], rows))
    return "\n".join(parts)


def _groups(groups: Mapping[str, Any]) -> str:
    kinds = (FULL_SUM, PAPERS_SUM, ELEMENTWISE, "Sum Grad-CAM all taps")
    head = ["videos with", "number, with maps", "clip accuracy, plain", "gated"]
    rows = [
        [
            name,
            f"{group['videos']}, {group['map_videos']}",
            *(percent(group["accuracy"][variant]["clip accuracy"]) for variant in ("plain", "gated")),
            *(percent(group["maps"]["gated"][kind]["hit point"]) for kind in kinds),
        ]
        for name, group in groups.items()
    ]
    return table([*head, *(f"hit point, {kind}, gated" for kind in kinds)], rows)


def write_picture(found: Mapping[str, Any], path: Path) -> None:
    """A PNG: accuracy, hit point and MaxBoxAcc with intervals over videos; a dot for each seed."""
    from matplotlib.figure import Figure

    kinds = list(next(iter(found["maps"].values())))
    figure = Figure(figsize=(15, 0.42 * len(kinds) + 1.6), layout="constrained")
    panels = figure.subplots(1, 3)
    _bars(panels[0], found["accuracy"], title="labels")
    for axes, measure in zip(panels[1:], ("hit point", "MaxBoxAcc 0.3"), strict=True):
        _bars(axes, {v: {k: f[measure] for k, f in maps.items()} for v, maps in found["maps"].items()}, title=measure)
    panels[2].set_yticklabels([])
    panels[0].legend(loc="center")
    for axes in panels:
        # Bars of one height in all panels.
        axes.set_ylim(len(kinds) - 0.4, -0.6)
    figure.savefig(path, format="png", dpi=110)


def _bars(axes: Any, by_variant: Mapping[str, Mapping[str, Any]], *, title: str) -> None:
    names = list(next(iter(by_variant.values())))
    for offset, (variant, figures) in enumerate(by_variant.items()):
        for row, name in enumerate(names):
            found, y = figures[name], row + 0.36 * offset - 0.18
            label = variant if row == 0 else None
            axes.barh(y, 100 * found["value"], height=0.34, color=COLOURS[variant], alpha=0.75, label=label)
            axes.plot([100 * found["low"], 100 * found["high"]], [y, y], color="black", linewidth=1)
            axes.plot([100 * value for value in found["by_seed"]], [y] * len(found["by_seed"]), "k.", markersize=4)
    axes.set_yticks(range(len(names)), names)
    axes.set(title=title, xlabel="per cent", xlim=(0, 102))
