"""The .pt2 file: the ONNX engine's answers whatever the batch, of plain operators, each weight stored once."""

import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.oracle import tiny

from sum3dcam.contract import CARD_KEY, LABELS_GRAPH, Card
from sum3dcam.export.joint import explain_graph, labels_graph
from sum3dcam.export.onnx import to_model, write_onnx
from sum3dcam.export.pt2 import to_program, write_pt2
from sum3dcam.serving.engines import load_engine

CASE = tiny.Case(gates=("layer1",), num_frames=8, size_px=33)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both graphs in both formats; the programs were captured with a batch of two."""
    folder = tmp_path_factory.mktemp("pt2")
    made = tiny.prepared(CASE)
    clip, target = made.example_clip(), torch.zeros(2, dtype=torch.int64)
    explain = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=clip)
    labels = labels_graph(made.classifier, clip_BTHWC=clip)
    for name, graph, inputs, card in (
        ("explain", explain, (clip, target), made.card),
        ("labels", labels, (clip,), replace(made.card, graph=LABELS_GRAPH)),
    ):
        write_pt2(to_program(graph, inputs=inputs), folder / f"{name}.pt2", card=card)
        write_onnx(to_model(graph, card=card), folder / f"{name}.onnx", card=card)
    return folder


@pytest.mark.parametrize("name", ["explain", "labels"])
def test_the_answers_are_the_onnx_engines_for_any_batch_on_every_call(folder: Path, name: str) -> None:
    """1e-4 of each output's max per clip: float32 over a few layers; these seeds meet no ReLU in doubt."""
    got, wanted = (load_engine(folder / f"{name}{suffix}", device="cpu", num_threads=1) for suffix in (".pt2", ".onnx"))
    for call, num_clips in enumerate((1, 3, 1, 2, 5)):
        clips = tiny.clips(CASE, num_clips=num_clips, seed=call)
        target = np.array([-1, 2, 0, -1, 4])[:num_clips]
        answers, oracle = got.run(clips, target_B=target), wanted.run(clips, target_B=target)
        assert tuple(answers) == got.card.outputs
        for output, values in answers.items():
            assert (values.dtype, values.shape) == (oracle[output].dtype, oracle[output].shape)
            assert tiny.relative_error(values, oracle[output]) <= 1e-4, output


def test_the_program_is_of_plain_operators(folder: Path) -> None:
    program = torch.export.load(folder / "explain.pt2")
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert {name.split(".")[0] for name in called if "getitem" not in name} == {"aten"}
    assert not [name for name in called if "backward" in name]
    assert program.graph_signature.user_inputs == ("clip", "target")


def test_the_card_travels_inside(folder: Path) -> None:
    extra = {CARD_KEY: ""}
    torch.export.load(folder / "labels.pt2", extra_files=extra)
    assert Card.from_json(extra[CARD_KEY]).graph == LABELS_GRAPH


def test_the_file_tells_nothing_of_the_machine_that_made_it(folder: Path) -> None:
    with zipfile.ZipFile(folder / "explain.pt2") as file:
        for name in file.namelist():
            assert not re.search(rb"site-packages|\.py\b", file.read(name)), name


def test_the_same_graph_is_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    made = tiny.prepared(CASE)
    clip = made.example_clip()
    labels = labels_graph(made.classifier, clip_BTHWC=clip)
    card = replace(made.card, graph=LABELS_GRAPH)
    write_pt2(to_program(labels, inputs=(clip,)), tmp_path / "again.pt2", card=card)
    assert (tmp_path / "again.pt2").read_bytes() == (folder / "labels.pt2").read_bytes()


def test_weights_are_stored_once_and_what_the_engine_derives_from_them_changes_no_bit(folder: Path) -> None:
    explain, labels = (torch.export.load(folder / f"{name}.pt2") for name in ("explain", "labels"))
    # What explaining adds: a number for each class, and the seed.
    assert _size(explain) - _size(labels) == tiny.NUM_CLASSES + 1
    clips, target = tiny.clips(CASE, num_clips=2), np.array([-1, 2])
    answers = load_engine(folder / "explain.pt2", device="cpu", num_threads=1).run(clips, target_B=target)
    with torch.inference_mode():
        derived = explain.module()(torch.from_numpy(clips), torch.from_numpy(target))
    for values, tensor in zip(answers.values(), derived, strict=True):
        np.testing.assert_array_equal(values, tensor.numpy())


def _size(program: torch.export.ExportedProgram) -> int:
    return sum(tensor.numel() for tensor in program.state_dict.values())
