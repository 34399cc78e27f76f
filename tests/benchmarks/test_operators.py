"""benchmarks/operators.py: every operator of both graphs is in its table once."""

import json
from pathlib import Path

import onnx
import operators
import pytest
import torch
from click.testing import CliRunner
from subjects import LABELS, MAPS

SMALL = ["--model", "resnext-mini", "--frames", "8", "--size", "32"]


def test_the_sums_are_of_all_convolutions_of_both_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "ARTIFACTS", tmp_path)
    path, threads = tmp_path / "operators.json", torch.get_num_threads()
    run = CliRunner().invoke(
        operators.main,
        [*SMALL, "--threads", "1", "--repeats", "2", "--output", str(path)],
        catch_exceptions=False,
    )
    torch.set_num_threads(threads)
    assert run.exit_code == 0, run.output
    report = json.loads(path.read_text())
    # Oracle: the files' own nodes; all of them are needed for the two grids of every tap.
    for kind, name in ((LABELS, "resnext-mini-8x32.labels.onnx"), (MAPS, "resnext-mini-8x32.onnx")):
        nodes = [node.op_type for node in onnx.load(tmp_path / name).graph.node]
        found = sum(row["count"] for type_, row in report["operators"][kind].items() if "Convolution" in type_)
        assert found == nodes.count("Conv") + nodes.count("ConvTranspose")
    assert report["flop_per_clip"][LABELS] < report["flop_per_clip"][MAPS]


def test_the_table_sums_convolutions_and_the_rest() -> None:
    found = {
        LABELS: {"Convolution": {"count": 3, "seconds": 0.002}, "Pad": {"count": 1, "seconds": 0.001}},
        MAPS: {
            "Convolution": {"count": 5, "seconds": 0.003},
            "GroupConvolution": {"count": 1, "seconds": 0.002},
            "Add": {"count": 7, "seconds": 0.0005},
            "Pad": {"count": 2, "seconds": 0.0005},
        },
    }
    report = {"model": "m", "clip": [8, 32, 32, 3], "threads": 1, "machine": {"processor": "p"}, "operators": found}
    rows = list(zip(*(column.cells for column in operators.operators_table(report).columns), strict=True))
    assert rows[-3:] == [
        ("convolutions", "2.00", "3", "5.00", "6", "2.50"),
        ("all the others", "1.00", "1", "1.00", "9", "1.00"),
        ("all", "3.00", "4", "6.00", "15", "2.00"),
    ]
