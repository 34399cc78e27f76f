"""The load generator with a TorchServe of its own: every table has figures, and nothing is left running."""

import json
import subprocess
import sys
from pathlib import Path

from sum3dcam.serving.torchserve import Server

ROOT = Path(__file__).resolve().parents[2]


def test_serving_benchmark_measures_its_own_server(server: Server, archive: Path, tmp_path: Path) -> None:
    short = ["--seconds", "0.5", "--load-seconds", "1", "--rounds", "1", "--server-steps", "1", "--minutes", "4"]
    short += ["--payload", "labels", "--input", "npy", "--load", "curve"]
    output = tmp_path / "serving.json"
    command = [sys.executable, "benchmarks/serving.py", "--start", archive, *short, "--output", output]
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())["serving"]
    assert len(found["single_stream"]) == 4  # two transports and models
    assert all(row["intended"] and not row["errors"] for row in found["single_stream"])
    assert all(row["gate"]["compared"] == row["gate"]["identical"] for row in found["offline"])
    assert {path.name for path in tmp_path.glob("*.png")} == {"serving-load.png", "serving-parts.png"}


def test_serving_benchmark_asks_a_server_that_runs(server: Server, tmp_path: Path) -> None:
    output = tmp_path / "serving.json"
    command = [sys.executable, "benchmarks/serving.py", "--url", server.url, "--grpc", server.grpc_address]
    command += ["--model", server.models[0], "--payload", "boxes", "--input", "npy", "--load", "curve"]
    command += ["--seconds", "1", "--load-seconds", "1", "--rounds", "1", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(output.read_text())["serving"]["phases"] == []
