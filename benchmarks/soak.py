"""Two instances behind a proxy at a share of their capacity, with a fault every minute: what is lost, and what grows.

python benchmarks/soak.py --minutes 30 --output benchmarks/results/soak.json
"""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from load.endurance import make_questions
from load.gate import WrongAnswerError
from load.inprocess import unpacked
from load.results import dumps
from load.server import CONFIG
from load.soak import Plan, soak
from load.soak_picture import soak_picture
from origin import origin

from sum3dcam.serving import proxy

PACKAGES = ("sum3dcam", "torchserve", "onnxruntime", "openvino", "numpy", "av", "grpcio")


@click.command(context_settings={"show_default": True})
@click.option("--archive", type=click.Path(exists=True, path_type=Path), default=Path("model_store/resnext-mini.mar"))
@click.option("--proxy", "kind", type=click.Choice(list(proxy.TEMPLATES)), default="nginx")
@click.option("--minutes", default=30.0, type=click.FloatRange(0.1, 10_000))
@click.option("--share", default=0.8, type=click.FloatRange(0.01, 1.5), help="Of the capacity, measured first.")
@click.option("--fault-every", "fault_every_seconds", default=60.0, type=click.FloatRange(1), help="Seconds.")
@click.option("--seed", default=0)
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/bench/soak.json"))
def main(archive: Path, kind: str, minutes: float, output: Path, **how: Any) -> None:
    """Writes a JSON file and a picture beside it; exit code 1 if an answer was wrong or lost, or a process is left."""
    load_before = os.getloadavg()
    plan = Plan(seconds=60 * minutes, **how)
    with unpacked(archive) as here:
        questions = make_questions(here)
    try:
        with _cluster(archive, kind) as run_dir:
            found = asyncio.run(soak(run_dir, archive=archive, questions=questions, plan=plan))
    except WrongAnswerError as error:
        raise click.ClickException(str(error)) from error
    report = {
        **origin(PACKAGES),
        "load_average_before": load_before,
        "proxy": kind,
        "plan": asdict(plan),
        **found,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(dumps(report))
    output.with_suffix(".png").write_bytes(soak_picture(report))
    click.echo(summary(report))
    if report["complaints"]:
        raise click.ClickException("; ".join(report["complaints"]))


@contextmanager
def _cluster(archive: Path, kind: str) -> Iterator[Path]:
    """The folder of a cluster that is stopped afterwards."""
    with tempfile.TemporaryDirectory(prefix="sum3dcam-soak-") as folder:
        command = [sys.executable, "-P", "-m", "sum3dcam.serving.cluster"]
        where = ["--run-dir", folder]
        try:
            options = ["--proxy", kind, "--ports", "free", "--config", str(CONFIG), str(archive)]
            subprocess.run([*command, "start", *where, *options], check=True)
            yield Path(folder)
        finally:
            subprocess.run([*command, "stop", *where], check=True)


def summary(report: dict[str, Any]) -> str:
    """A few lines for who waits."""
    answers, grows = report["answers"], report["memory"]["slopes"]["all"]
    low, high = grows["interval"]
    return "\n".join(
        (
            f"{answers['asked']} asked at {report['rate_per_second']:.1f}/s of {report['capacity_per_second']:.1f}/s: "
            f"{answers['right']} right ({answers['right_at_once']} at once), {answers['wrong']} wrong, "
            f"{answers['lost']} lost; failed tries: {answers['failed_tries']}",
            f"{len(report['faults'])} faults, whole again after at most "
            f"{max((fault['whole_after_seconds'] for fault in report['faults']), default=0.0):.0f} s",
            f"resident {grows['median_mib']:.0f} MiB, {grows['mib_per_hour']:+.1f} MiB/h [{low:+.1f}, {high:+.1f}]",
        )
    )


if __name__ == "__main__":
    main()
