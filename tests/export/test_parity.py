"""The parity gate lets good exports pass and stops each fault that an export could have.

A checker that cannot fail is a defect: every test but the first injects one fault and wants a ParityError.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.oracle import tiny
from torch import nn

from sum3dcam.contract import GRIDS, LABELS_GRAPH, TOP_CLASS, grid_name
from sum3dcam.errors import ParityError
from sum3dcam.export import parity, vjp
from sum3dcam.export.certificate import certify
from sum3dcam.export.joint import explain_graph, labels_graph
from sum3dcam.export.parity import BATCH_SIZES, Reference, reference
from sum3dcam.export.prepare import Prepared
from sum3dcam.export.runners import Runner
from sum3dcam.models import Classifier

Answers = dict[str, Any]
CASE = tiny.Case(gates=("layer3",))
CARD = tiny.prepared(CASE).card


@pytest.fixture(scope="module")
def made() -> Prepared:
    return tiny.prepared(CASE)


@pytest.fixture(scope="module")
def oracle(made: Prepared) -> Reference:
    return reference(made)


def engine_of(graph: nn.Module, *, outputs: tuple[str, ...]) -> Callable[..., Answers]:
    def run(clips: np.ndarray, targets: np.ndarray) -> Answers:
        given = (torch.from_numpy(clips), torch.from_numpy(targets))[: 2 if len(outputs) > 1 else 1]
        with torch.no_grad():
            return {name: value.numpy() for name, value in zip(outputs, graph(*given), strict=True)}

    return run


def explain_engine(made: Prepared, classifier: Classifier) -> Callable[..., Answers]:
    graph = explain_graph(classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    return engine_of(graph, outputs=made.card.outputs)


@pytest.fixture(scope="module")
def good(made: Prepared) -> Callable[..., Answers]:
    return explain_engine(made, made.classifier)


def check(run: Callable[..., Answers], oracle: Reference) -> Mapping[str, Any]:
    """The engine's row; raises what it says where it did not pass."""
    runner = Runner("engine under test", "cpu", versions="0", load=lambda outputs: run)
    row, _ = certify([runner], card=CARD, reference=oracle)
    if not row["passed"]:
        raise ParityError(row["reason"])
    return row


def test_a_good_engine_passes_and_its_row_says_what_was_measured(
    good: Callable[..., Answers], oracle: Reference
) -> None:
    row = check(good, oracle)
    assert row["clips"] == sum(BATCH_SIZES) >= 16
    assert row["top1_agreement"] == 1.0
    assert row["structure_max_error"] <= 1e-9
    assert 0 < row["logits_max_error"] <= 1e-4
    assert row["saliency_mean_error"] >= 0
    assert row["saliency_correlation"] > 0.9999


def test_the_reference_is_autograd(made: Prepared, oracle: Reference) -> None:
    double = replace(made, classifier=tiny.doubled(tiny.prepared(CASE)).classifier)
    wanted = tiny.answers(double, oracle.clips_NTHWC, oracle.targets_N)
    for name, value in wanted.items():
        assert tiny.relative_error(oracle.oracle[name], value) <= 1e-9, name
    assert (oracle.targets_N == TOP_CLASS).any()
    assert (oracle.targets_N != TOP_CLASS).any()


def _change(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Answers], Answers]:
    return lambda answers: answers | {name: change(answers[name])}


def _roll_items(answers: Answers) -> Answers:
    return {name: np.roll(value, 1, axis=0) for name, value in answers.items()}


ANSWER_FAULTS: dict[str, Callable[[Answers], Answers]] = {
    "the saliency's sign is flipped": _change("saliency", lambda value: -value),
    "the saliency's H and W are swapped": _change("saliency", lambda value: value.swapaxes(2, 3)),
    "the saliency runs backwards in time": _change("saliency", lambda value: value[:, ::-1]),
    "the saliency is shifted by a frame": _change("saliency", lambda value: np.roll(value, 1, axis=1)),
    "the saliency is not a number": _change("saliency", lambda value: value * np.nan),
    "the saliency is not divided by its max": _change("saliency", lambda value: value * 0.9),
    "the saliency is dark": _change("saliency", np.zeros_like),
    "the logits are off": _change("logits", lambda value: value + 1e-3 * np.abs(value).max()),
    "the logits are not numbers": _change("logits", lambda value: value * np.nan),
    "one logit is infinite": _change(
        "logits", lambda value: value + np.where(np.arange(value.shape[1]) == 1, np.inf, 0)
    ),
    "another class is explained": _change("explained", lambda value: (value + 1) % tiny.NUM_CLASSES),
    "item 0 answers for item 1": _roll_items,
}


@pytest.mark.parametrize("fault", ANSWER_FAULTS.values(), ids=ANSWER_FAULTS.keys())
def test_a_fault_in_the_answers_is_stopped(
    fault: Callable[[Answers], Answers], good: Callable[..., Answers], oracle: Reference
) -> None:
    with pytest.raises(ParityError):
        check(lambda clips, targets: fault(good(clips, targets)), oracle)


@pytest.mark.parametrize("tap", ["conv", "layer3"])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_grid_with_h_and_w_swapped_is_stopped(
    grid: str, tap: str, good: Callable[..., Answers], oracle: Reference
) -> None:
    swap = _change(grid_name(grid, tap), lambda value: value.swapaxes(2, 3))
    with pytest.raises(ParityError):
        check(lambda clips, targets: swap(good(clips, targets)), oracle)


def test_two_grids_under_each_others_names_are_stopped(good: Callable[..., Answers], oracle: Reference) -> None:
    def swapped(clips: np.ndarray, targets: np.ndarray) -> Answers:
        answers = good(clips, targets)
        first, second = "layercam_layer2", "hirescam_layer2"
        return answers | {first: answers[second], second: answers[first]}

    with pytest.raises(ParityError):
        check(swapped, oracle)


def test_an_engine_that_ignores_the_target_is_stopped(good: Callable[..., Answers], oracle: Reference) -> None:
    with pytest.raises(ParityError, match="class"):
        check(lambda clips, targets: good(clips, np.full_like(targets, TOP_CLASS)), oracle)


def test_lost_normalisation_is_stopped(made: Prepared, oracle: Reference) -> None:
    bare = Classifier(made.classifier.network, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)).eval()
    with pytest.raises(ParityError, match="logits"):
        check(explain_engine(made, bare), oracle)


def test_colours_in_another_order_are_stopped(good: Callable[..., Answers], oracle: Reference) -> None:
    with pytest.raises(ParityError, match="logits"):
        check(lambda clips, targets: good(np.ascontiguousarray(clips[..., ::-1]), targets), oracle)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_lower_precision_are_stopped(dtype: torch.dtype, made: Prepared, oracle: Reference) -> None:
    rounded = tiny.classifier(CASE)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.to(dtype))
    with pytest.raises(ParityError):
        check(explain_engine(made, rounded), oracle)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_backward_of_lower_precision_is_stopped(dtype: torch.dtype, made: Prepared, oracle: Reference) -> None:
    """The logits are right to the last bit here: the maps alone give it away."""
    graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    for node in list(graph.joint.graph.nodes):
        if node.target is vjp.transpose_weight:
            with graph.joint.graph.inserting_after(node):
                low = graph.joint.graph.call_method("to", (node, dtype))
            with graph.joint.graph.inserting_after(low):
                back = graph.joint.graph.call_method("to", (low, torch.float32))
            node.replace_all_uses_with(back, delete_user_cb=lambda user, low=low: user is not low)
    graph.joint.recompile()
    with pytest.raises(ParityError, match="error of "):
        check(engine_of(graph, outputs=made.card.outputs), oracle)


def test_a_labels_graph_is_checked_on_its_logits(made: Prepared, oracle: Reference) -> None:
    outputs = replace(made.card, graph=LABELS_GRAPH).outputs
    run = engine_of(labels_graph(made.classifier, clip_BTHWC=made.example_clip()), outputs=outputs)
    assert "saliency_mean_error" not in check(run, oracle)
    for change in (lambda value: value + 1e-2, lambda value: value[:, ::-1], lambda value: value * np.nan):
        with pytest.raises(ParityError, match="logits"):
            check(lambda clips, targets, change=change: {"logits": change(run(clips, targets)["logits"])}, oracle)


# --- faults in the joint graph itself: the structure check, in float64


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> dict[Any, Any]:
    """The backward rules, free to be broken for one test."""
    broken = dict(vjp.RULES)
    monkeypatch.setattr("sum3dcam.export.joint.RULES", broken)
    return broken


def _strided(node: Any) -> bool:
    return any(step != 1 for step in vjp.argument(node, 3, [1, 1, 1]))


def test_a_strided_convolution_off_by_one_is_stopped(made: Prepared, rules: dict[Any, Any]) -> None:
    right = rules[torch.ops.aten.conv3d.default]

    def off_by_one(node: Any, gradient: Any, append: Any) -> Any:
        ((x, back),) = right(node, gradient, append)
        return [(x, append(torch.roll, back, 1, -1) if _strided(node) else back)]

    rules[torch.ops.aten.conv3d.default] = off_by_one
    with pytest.raises(ParityError, match="the joint graph"):
        reference(made)


def test_a_forgotten_shortcut_is_stopped(made: Prepared, rules: dict[Any, Any]) -> None:
    right = rules[torch.ops.aten.add.Tensor]
    rules[torch.ops.aten.add.Tensor] = lambda *call: right(*call)[:1]
    with pytest.raises(ParityError, match="the joint graph"):
        reference(made)


def test_a_forgotten_relu_is_stopped(made: Prepared, rules: dict[Any, Any]) -> None:
    rules[torch.ops.aten.relu.default] = lambda node, gradient, append: [(vjp.argument(node, 0), gradient)]
    with pytest.raises(ParityError, match="the joint graph"):
        reference(made)


def test_a_weight_that_is_not_flipped_is_stopped(made: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    def unflipped(weight: torch.Tensor, groups: int) -> torch.Tensor:
        return weight.unflatten(0, (groups, weight.shape[0] // groups)).transpose(1, 2).flatten(0, 1)

    monkeypatch.setattr("sum3dcam.export.vjp.transpose_weight", unflipped)
    with pytest.raises(ParityError, match="the joint graph"):
        reference(made)


def test_grids_swapped_inside_the_graph_are_stopped(made: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    right = parity.tap_grids

    def transposed(activation: torch.Tensor, gradient: torch.Tensor, *, tap: str) -> dict[str, torch.Tensor]:
        grids = right(activation, gradient, tap=tap)
        return grids | {f"hirescam_{tap}": grids[f"hirescam_{tap}"].transpose(2, 3)}

    monkeypatch.setattr("sum3dcam.export.joint.tap_grids", transposed)
    with pytest.raises(ParityError, match="joint graph's hirescam"):
        reference(made)


def test_a_batch_that_leaks_between_items_is_stopped(made: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    right = parity.explain_graph

    def leaking(*args: Any, **kwargs: Any) -> nn.Module:
        graph = right(*args, **kwargs)
        forward = graph.forward
        graph.forward = lambda clip, target: tuple(  # type: ignore[method-assign]
            value.flip(0) if value.ndim == 4 else value for value in forward(clip, target)
        )
        return graph

    monkeypatch.setattr(parity, "explain_graph", leaking)
    with pytest.raises(ParityError):
        reference(made)
