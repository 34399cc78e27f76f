"""Oracle for the randomised file: autograd through the forward of the joint graph, given the same random weights.

Both in float64: 1e-6 of each grid's max, as the file's own constants (1/17 and the like) are float32.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tests.oracle import double_onnx, tiny

from sum3dcam.contract import Card, Tap, grid_name
from sum3dcam.errors import ArtifactError
from sum3dcam.evaluation.checks.weights import cascade, permute, stages
from sum3dcam.export.joint import ExplainGraph, fold_weights
from sum3dcam.export.onnx import to_model, write_onnx
from sum3dcam.export.prepare import Prepared


@pytest.fixture
def made(exported: Any) -> Prepared:
    return exported.made


@pytest.fixture
def graph(exported: Any) -> ExplainGraph:
    return exported.graph


@pytest.fixture
def model(exported: Any) -> onnx.ModelProto:
    return exported.model


def arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_stages_go_from_the_top_down_and_hold_every_weight_once(made: Prepared, model: onnx.ModelProto) -> None:
    found = stages(model, card=made.card)
    assert [stage.name for stage in found] == ["head", "layer4", "layer3", "layer2", "layer1", "conv"]
    names = [name for stage in found for name in stage.weights]
    assert len(set(names)) == len(names)
    learnt = {name for name in arrays(model) if name.endswith(("weight", "bias", "shift"))}
    assert set(names) == learnt
    assert {name.split("_network_")[1] for name in found[0].weights} == {
        f"{head}_{kind}" for head in ("base_fc", "gates_conv_fc", "gates_layer3_fc") for kind in ("weight", "bias")
    }
    assert all("layer2" in name or "shift" in name for name in found[3].weights)


def test_taps_of_two_streams_at_one_depth_are_one_stage() -> None:
    def conv(source: str, weight: str, result: str) -> onnx.NodeProto:
        return helper.make_node("Conv", [source, weight], [result])

    weights = [
        numpy_helper.from_array(np.ones((1, 1, 1, 1, 1), np.float32), name) for name in ("r1", "r2", "f1", "f2", "top")
    ]
    nodes = [conv("rgb", "r1", "activation_rgb_conv"), conv("activation_rgb_conv", "r2", "activation_rgb_layer1")]
    nodes += [conv("flow", "f1", "activation_flow_conv"), conv("activation_flow_conv", "f2", "activation_flow_layer1")]
    nodes.append(helper.make_node("Add", ["activation_rgb_layer1", "activation_flow_layer1"], ["sum"]))
    nodes.append(conv("sum", "top", "logits"))
    model = helper.make_model(helper.make_graph(nodes, "two", [], [], weights))
    taps = tuple(Tap(f"{stream}_{name}", 1, (1, 1, 1)) for stream in ("rgb", "flow") for name in ("conv", "layer1"))
    found = stages(model, card=Card("explain", "two", (), 1, 1, (), "", None, taps, (), "", ""))
    assert [(stage.name, stage.weights) for stage in found] == [
        ("head", ("top",)),
        ("rgb_layer1+flow_layer1", ("f2", "r2")),
        ("rgb_conv+flow_conv", ("f1", "r1")),
    ]


def test_a_permutation_keeps_the_values_and_touches_its_stage_alone(made: Prepared, model: onnx.ModelProto) -> None:
    stage = stages(model, card=made.card)[2]
    shuffled = copy.deepcopy(model)
    permute(shuffled, stage=stage, rng=np.random.default_rng(0))
    after = arrays(shuffled)
    for name, values in arrays(model).items():
        np.testing.assert_array_equal(np.sort(after[name].ravel()), np.sort(values.ravel()))
        assert (after[name] == values).all() == (name not in stage.weights), name


def test_the_random_forward_and_the_random_backward_are_of_one_network(
    made: Prepared, graph: ExplainGraph, model: onnx.ModelProto
) -> None:
    shuffled, rng = copy.deepcopy(model), np.random.default_rng(1)
    for stage in stages(model, card=made.card):
        permute(shuffled, stage=stage, rng=rng)
    oracle = copy.deepcopy(graph).double()
    with torch.no_grad():
        for name, values in arrays(shuffled).items():
            if name in dict(oracle.named_parameters()):
                oracle.get_parameter(name).copy_(torch.tensor(values))
    for parameter in oracle.parameters():
        parameter.requires_grad_()
    clips, target = tiny.clips(tiny.Case(), num_clips=2), np.array([1, 3])
    got = double_onnx.run(shuffled, {"clip": clips, "target": target})
    logits, _, activations, _ = oracle.joint(torch.from_numpy(clips), torch.from_numpy(target))
    explained = logits.gather(1, torch.from_numpy(target)[:, None]).sum()
    gradients = torch.autograd.grad(explained, activations)
    assert tiny.relative_error(got["logits"], logits.detach().numpy()) <= 1e-6
    for tap, gradient in zip(made.card.tap_names, gradients, strict=True):
        wanted = gradient.sum(1).numpy()
        assert tiny.relative_error(got[grid_name("gradient", tap)], wanted) <= 1e-6, tap
    intact = double_onnx.run(model, {"clip": clips, "target": target})
    assert tiny.relative_error(got["gradient_conv"], intact["gradient_conv"]) > 0.1


def test_a_backward_with_weights_of_its_own_is_refused(made: Prepared, graph: ExplainGraph) -> None:
    stored = to_model(fold_weights(graph), card=made.card)
    with pytest.raises(ArtifactError, match="weights of its own"):
        stages(stored, card=made.card)


def test_a_cascade_goes_down_step_by_step(made: Prepared, model: onnx.ModelProto, tmp_path: Path) -> None:
    write_onnx(copy.deepcopy(model), tmp_path / "tiny.onnx", card=made.card)
    engines = cascade(tmp_path / "tiny.onnx", seed=0, device="cpu", num_threads=1)
    clips, target = tiny.clips(tiny.Case(), num_clips=1), np.array([2])
    intact = double_onnx.run(model, {"clip": clips, "target": target})
    for depth, engine in enumerate(engines.values()):
        outputs = engine.run(clips, target_B=target)
        assert outputs["explained"].tolist() == [2]
        # The stages are head, layer4 .. conv: of `depth` stages below the head, so many last taps have changed.
        for tap, above in zip(made.card.tap_names, range(5, 0, -1), strict=True):
            name = grid_name("activation", tap)
            changed = tiny.relative_error(outputs[name], intact[name]) > 1e-3
            assert changed == (above <= depth), (depth, tap)
        assert tiny.relative_error(outputs["logits"], intact["logits"]) > 1e-3


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"only an \.onnx artefact's weights"):
        cascade(tmp_path / "net.pt", seed=0, device="cpu", num_threads=1)


def test_float32_is_what_is_permuted(model: onnx.ModelProto, made: Prepared) -> None:
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert {kinds[name] for stage in stages(model, card=made.card) for name in stage.weights} == {TensorProto.FLOAT}
