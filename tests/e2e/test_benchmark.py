"""The load generator with a TorchServe of its own: every table has figures, and nothing is left running."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_serving_benchmark_measures_its_own_server(archive: Path, tmp_path: Path) -> None:
    short = ["--seconds", "0.5", "--load-seconds", "1", "--rounds", "1", "--server-steps", "1", "--minutes", "4"]
    short += ["--payload", "labels", "--input", "npy", "--transport", "http", "--load", "curve"]
    output = tmp_path / "serving.json"
    command = [sys.executable, "benchmarks/serving.py", "--start", archive, *short, "--output", output]
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())["serving"]
    assert len(found["single_stream"]) == 2  # the model, and the one that does nothing
    assert all(row["intended"] and not row["errors"] for row in found["single_stream"])
    assert all(row["gate"]["compared"] == row["gate"]["identical"] for row in found["offline"])
    assert {path.name for path in tmp_path.glob("*.png")} == {"serving-load.png", "serving-parts.png"}
