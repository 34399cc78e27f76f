"""The soak itself, two minutes of it: every fault once, under load, and nothing wrong, lost or left over."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from load.faults import FAULTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def worker_is_never_restarted() -> None:
    """Here they are."""


def test_two_minutes_of_faults_lose_nothing(quick_archive: Path, tmp_path: Path) -> None:
    output = tmp_path / "soak.json"
    # Faults come so fast that an instance is missing half of the time: a third of the capacity is what there is then.
    how = ["--minutes", "2", "--fault-every", "12", "--share", "0.33"]
    command = [sys.executable, "benchmarks/soak.py", "--archive", quick_archive, *how, "--output", output]
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(output.read_text())
    assert report["complaints"] == []
    answers = report["answers"]
    assert answers["right"] == answers["asked"] > 100
    assert (answers["wrong"], answers["lost"]) == (0, 0)
    assert {fault["fault"] for fault in report["faults"]} == set(FAULTS)
    for role in ("front ends", "workers", "decoders"):
        processes = report["memory"]["processes"][role]
        assert processes[-1] == processes[0], role
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
