"""The command from files to table, JSON and picture, with a network that sees what is bright in place of a graph."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sum3dcam.contract import LABELS_GRAPH
from sum3dcam.evaluation import commands
from sum3dcam.synthetic.dataset import read_annotations, write_dataset


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with a small data set and an artefact that is never opened."""
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "data", num_videos=3, seed=1, difficulty="easy", num_frames=10, width=96, height=64)
    Path("net.onnx").touch()
    return tmp_path


def use(engine, monkeypatch):
    monkeypatch.setattr(commands, "load_engine", lambda path, *, device, num_threads: engine)


def run(*arguments):
    return CliRunner().invoke(commands.evaluate_command, ["--artifact", "net.onnx", "--data", "data", *arguments])


def test_one_command_gives_table_json_and_picture(workplace, make_engine, monkeypatch):
    labels = read_annotations("data").labels
    use(make_engine(num_frames=4, size_px=32, labels=labels), monkeypatch)
    result = run("--limit", "2", "--json", "out/result.json", "--picture", "out/result.png")
    assert result.exit_code == 0, result.output
    assert "Sum3DCAM all taps" in result.output
    assert "…" not in result.output
    tree = json.loads(Path("out/result.json").read_text())
    assert tree["command"] == "sum3dcam evaluate --artifact net.onnx --data data --target true --device cpu --limit 2"
    assert tree["counts"] == {"videos": 2, "clips": 6, "frames": 20}
    assert tree["artifact"]["sha256"] == "0" * 64
    assert tree["data"]["seed"] == 1
    assert str(workplace) not in Path("out/result.json").read_text()
    assert Path("out/result.png").stat().st_size > 10_000


def test_a_labels_graph_is_refused_in_words(workplace, make_engine, monkeypatch):
    labels = read_annotations("data").labels
    use(make_engine(num_frames=4, size_px=32, labels=labels, graph=LABELS_GRAPH), monkeypatch)
    result = run()
    assert result.exit_code == 1
    assert "evaluation needs the explain graph" in result.output


def test_a_directory_without_a_data_set_is_refused_in_words(workplace, make_engine, monkeypatch):
    use(make_engine(num_frames=4, size_px=32), monkeypatch)
    Path("data/annotations.json").unlink()
    result = run()
    assert result.exit_code == 1
    assert "annotations.json" in result.output


def test_labels_that_do_not_fit_the_artefact_are_refused_in_words(workplace, make_engine, monkeypatch):
    use(make_engine(num_frames=4, size_px=32), monkeypatch)
    result = run()
    assert result.exit_code == 1
    assert "is not one of the artefact's" in result.output
