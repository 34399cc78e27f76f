"""The ONNX file: what it is made of, and what it answers in onnx's own evaluator and in ONNX Runtime."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from tests.oracle import double_onnx, tiny
from tests.oracle.onnx_file import copies, describe, loading_noise
from torch import Tensor, nn

from sum3dcam.contract import CARD_KEY, LABELS_GRAPH, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.export.joint import explain_graph, labels_graph
from sum3dcam.export.onnx import to_model, write_onnx
from sum3dcam.export.prepare import Prepared

CASES = {
    "plain": tiny.Case(),
    "gated, odd sizes": tiny.Case(gates=("conv", "layer2", "layer4"), fusion="mean", num_frames=17, size_px=33, seed=1),
    "one tap, one frame": tiny.Case(taps=("layer2",), num_frames=1, seed=2),
    "equal axes": tiny.Case(num_frames=32, size_px=32, taps=("conv", "layer4"), seed=3),
}


def both(made: Prepared) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Explain and labels model."""
    explain = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    labels = labels_graph(made.classifier, clip_BTHWC=made.example_clip())
    return to_model(explain, card=made.card), to_model(labels, card=replace(made.card, graph=LABELS_GRAPH))


@pytest.fixture(scope="module")
def models() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    return both(tiny.prepared(tiny.Case(gates=("layer1",))))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_file_in_float64_is_the_joint_graph(case: tiny.Case) -> None:
    """Oracle: the joint graph in float64. 1e-6 of each output's max: constants such as 1/17 are float32 in the file."""
    made = tiny.prepared(case)
    graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    model = to_model(graph, card=made.card)
    double = copy.deepcopy(graph).double()
    for num_clips in (1, 3):
        clips, target = tiny.clips(case, num_clips=num_clips), np.array([-1, 2, 0])[:num_clips]
        got = double_onnx.run(model, {"clip": clips, "target": target})
        with torch.no_grad():
            wanted = double(torch.from_numpy(clips), torch.from_numpy(target))
        assert tuple(got) == made.card.outputs
        for (name, value), tensor in zip(got.items(), wanted, strict=True):
            assert tiny.relative_error(value, tensor.numpy()) <= 1e-6, name


@pytest.mark.parametrize("num_clips", [1, 2, 5])
def test_onnxruntime_answers_like_float32_autograd(num_clips: int) -> None:
    """1e-4 of each output's max per clip: float32 over a few layers; the seeds below meet no ReLU in doubt."""
    case = tiny.Case(gates=("layer1",))
    made = tiny.prepared(case)
    explain, labels = both(made)
    clips, target = tiny.clips(case, num_clips=num_clips), np.array([-1, 2, 0, -1, 4])[:num_clips]
    got = answers(explain, {"clip": clips, "target": target})
    for name, wanted in tiny.answers(made, clips, target).items():
        assert tiny.relative_error(got[name], wanted) <= 1e-4, name
    (logits,) = answers(labels, {"clip": clips}).values()
    assert tiny.relative_error(logits, got["logits"]) <= 1e-5


@pytest.mark.parametrize("num_frames", [7, 8])
def test_onnxruntime_sends_gradients_through_equal_maxima_as_torch_does(num_frames: int) -> None:
    """Stem channels shut to zero make every one of their pooling windows a tie; the first of equals gets it all."""
    case = tiny.Case(taps=("conv",), num_frames=num_frames)
    made = tiny.prepared(case)
    with torch.no_grad():
        made.classifier.network.get_submodule("bn1").bias.copy_(torch.tensor([-100.0, 0.3, -1.0, -100.0]))
    clips, target = tiny.clips(case, num_clips=3), np.array([-1, 0, 3])
    wanted = tiny.answers(made, clips, target)
    got = answers(both(made)[0], {"clip": clips, "target": target})
    assert (wanted["gradient_conv"] != 0).any()
    assert tiny.relative_error(got["gradient_conv"], wanted["gradient_conv"]) <= 1e-4


def test_names_types_and_axes_are_those_of_the_contract(models: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    explain, labels = models
    card = Card.from_json({prop.key: prop.value for prop in explain.metadata_props}[CARD_KEY])
    assert {info.name: describe(info) for info in explain.graph.input} == {
        "clip": (TensorProto.UINT8, ["batch", 8, 32, 32, 3]),
        "target": (TensorProto.INT64, ["batch"]),
    }
    outputs = {info.name: describe(info) for info in explain.graph.output}
    assert tuple(outputs) == card.outputs
    assert outputs["logits"] == (TensorProto.FLOAT, ["batch", tiny.NUM_CLASSES])
    assert outputs["explained"] == (TensorProto.INT64, ["batch"])
    assert outputs["saliency"] == (TensorProto.FLOAT, ["batch", 8, 32, 32])
    assert outputs["hirescam_layer1"] == (TensorProto.FLOAT, ["batch", 4, 8, 8])
    assert [info.name for info in labels.graph.input] == ["clip"]
    assert [info.name for info in labels.graph.output] == ["logits"]
    assert Card.from_json({prop.key: prop.value for prop in labels.metadata_props}[CARD_KEY]).graph == LABELS_GRAPH


def test_declared_shapes_are_the_answers_shapes(models: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    explain, _ = models
    clips = tiny.clips(tiny.Case(), num_clips=3)
    got = answers(explain, {"clip": clips, "target": np.array([-1, -1, 1])})
    for info in explain.graph.output:
        assert list(got[info.name].shape) == [3, *describe(info)[1][1:]], info.name


def test_only_stock_operators_of_a_recent_opset(models: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    for model in models:
        onnx.checker.check_model(model, full_check=True)
        assert {node.domain for node in model.graph.node} == {""}
        assert [imported.domain for imported in model.opset_import] == [""]
        assert model.opset_import[0].version >= 18
        assert not model.functions


def test_every_weight_is_stored_once(models: tuple[onnx.ModelProto, onnx.ModelProto]) -> None:
    for model in models:
        assert copies(model.graph.initializer) == []
        assert {tensor.name for tensor in model.graph.initializer} <= {
            name for node in model.graph.node for name in node.input
        }


def test_no_two_initialisers_hold_the_same_bytes() -> None:
    """Also where axes have equal sizes, so that interpolation matrices coincide."""
    made = tiny.prepared(CASES["equal axes"])
    seen: dict[tuple[Any, ...], str] = {}
    for tensor in both(made)[0].graph.initializer:
        array = numpy_helper.to_array(tensor)
        key = (array.dtype.str, array.shape, array.tobytes())
        assert key not in seen, f"{tensor.name} is {seen[key]}"
        seen[key] = tensor.name


def test_files_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tiny.prepared(tiny.Case(taps=("layer4",)))
    graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    path = tmp_path / "deep" / "model.onnx"
    model = to_model(graph, card=made.card)
    write_onnx(model, path, card=made.card)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    before = path.read_bytes()

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(onnx, "save", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_onnx(model, path, card=made.card)
    assert path.read_bytes() == before


def test_onnxruntime_loads_the_file_without_a_word(tmp_path: Path) -> None:
    made = tiny.prepared(tiny.Case(gates=("layer4",)))
    for index, model in enumerate(both(made)):
        onnx.save(model, tmp_path / f"{index}.onnx")
    assert loading_noise([tmp_path / "0.onnx", tmp_path / "1.onnx"]) == ""


class _Unwritable(nn.Module):
    def forward(self, clip: Tensor) -> tuple[Tensor]:
        return (torch.erfinv(clip),)


def test_an_operator_without_an_emitter_is_named() -> None:
    card = replace(tiny.prepared(tiny.Case()).card, graph=LABELS_GRAPH)
    with pytest.raises(ArtifactError, match="erfinv"):
        to_model(_Unwritable(), card=card)


def answers(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
