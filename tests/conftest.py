"""What tests of several folders share: the full-size network's artefacts, which take minutes to make."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.oracle import plain

ROOT = Path(__file__).resolve().parents[1]
NUM_CLASSES = 51


@dataclass(frozen=True)
class Exports:
    checkpoint: Path
    onnx: Path
    torchscript: Path


@pytest.fixture(scope="session")
def resnext101_exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    """Both commands at once, one thread each: two processes share two cores better than two pools of threads do."""
    folder = tmp_path_factory.mktemp("resnext101")
    made = Exports(folder / "checkpoint.pth", folder / "r101.onnx", folder / "r101.pt")
    plain.write_checkpoint(made.checkpoint, num_classes=NUM_CLASSES, seed=5)
    running = [
        subprocess.Popen(
            [
                *(sys.executable, ROOT / "export" / script, "--model", "resnext101"),
                *("--weights", made.checkpoint, "--output", output),
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for script, output in (("to_onnx.py", made.onnx), ("to_torchscript.py", made.torchscript))
    ]
    for process in running:
        said, _ = process.communicate()
        assert process.returncode == 0, said
    yield made
    for path in folder.iterdir():  # a gigabyte, which pytest would keep
        path.unlink()
