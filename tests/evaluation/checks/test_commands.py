"""The command from files to table, JSON and picture, on a tiny network exported for it."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.oracle import tiny

from sum3dcam.contract import LABELS_GRAPH
from sum3dcam.evaluation.checks import commands
from sum3dcam.export.joint import labels_graph
from sum3dcam.export.onnx import to_model, write_onnx
from sum3dcam.synthetic import ACTIONS
from sum3dcam.synthetic.dataset import write_dataset


@pytest.fixture(scope="module")
def built(tmp_path_factory, exported):
    """tiny.onnx, tiny.labels.onnx and three videos, shorter than a clip of the network."""
    folder = tmp_path_factory.mktemp("checks")
    made = exported.made
    card = replace(made.card, labels=ACTIONS[: tiny.NUM_CLASSES])
    write_onnx(copy.deepcopy(exported.model), folder / "tiny.onnx", card=card)
    labels = replace(card, graph=LABELS_GRAPH)
    graph = labels_graph(made.classifier, clip_BTHWC=made.example_clip())
    write_onnx(to_model(graph, card=labels), folder / "tiny.labels.onnx", card=labels)
    write_dataset(folder / "data", num_videos=3, seed=1, difficulty="easy", num_frames=5, width=96, height=64)
    return folder


@pytest.fixture
def workplace(built, tmp_path, monkeypatch):
    for path in built.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments, artifact="tiny.onnx"):
    given = ["--artifact", artifact, "--data", "data", "--threads", "1", *arguments]
    return CliRunner().invoke(commands.check_command, given)


def test_one_command_gives_tables_json_and_picture(workplace):
    result = run("--json", "out/checks.json", "--picture", "out/checks.png")
    assert result.exit_code == 0, result.output
    for words in ("Cascading randomisation", "Insertion and deletion", "Sum3DCAM all taps", "Random blobs", "+ layer4"):
        assert words in result.output
    assert "…" not in result.output
    tree = json.loads(Path("out/checks.json").read_text())
    assert tree["command"] == (
        "sum3dcam check --artifact tiny.onnx --data data --checks randomisation,insertion-deletion --device cpu"
    )
    assert tree["randomisation"]["stages"] == ["head", "layer4", "layer3", "layer2", "layer1", "conv"]
    assert tree["randomisation"]["videos"] == tree["insertion-deletion"]["videos"] == 3
    assert len(tree["insertion-deletion"]["orders"][0]["insertion"]["scores"]) == 21
    assert str(workplace) not in Path("out/checks.json").read_text()
    assert Path("out/checks.png").stat().st_size > 10_000


def test_one_check_of_the_two_can_be_asked_for(workplace):
    result = run("--checks", "insertion-deletion", "--limit", "1", "--json", "out.json")
    assert result.exit_code == 0, result.output
    assert "randomisation" not in json.loads(Path("out.json").read_text())


def test_an_unknown_check_is_refused_in_words(workplace):
    result = run("--checks", "randomisation,luck")
    assert result.exit_code == 2
    assert "allowed, separated by commas: randomisation, insertion-deletion" in result.output


def test_a_labels_graph_is_refused_in_words(workplace):
    result = run(artifact="tiny.labels.onnx")
    assert result.exit_code == 1
    assert "needs the explain graph" in result.output


def test_a_missing_labels_graph_is_refused_in_words_before_anything_runs(workplace):
    Path("tiny.labels.onnx").unlink()
    result = run()
    assert result.exit_code == 1
    assert "allowed: tiny.labels.onnx" in result.output
    assert "randomisation, draw" not in result.output


def test_a_labels_graph_of_another_network_is_refused_in_words(workplace):
    Path("tiny.labels.onnx").unlink()
    Path("tiny.labels.onnx").symlink_to(Path("tiny.onnx").resolve())
    result = run("--checks", "insertion-deletion")
    assert result.exit_code == 1
    assert "is not the labels graph of this artefact" in result.output


def test_a_data_set_without_videos_is_refused_in_words(workplace):
    tree = json.loads(Path("data/annotations.json").read_text())
    Path("data").unlink()
    Path("data").mkdir()
    Path("data/annotations.json").write_text(json.dumps({**tree, "videos": []}))
    result = run()
    assert result.exit_code == 1
    assert "holds no video" in result.output
