"""Parts of an explain graph: no more is computed than requests ask for, and its values are the whole's."""

from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.oracle import tiny

from sum3dcam.contract import EXPLAINED, GRIDS, LOGITS, Card, grid_name
from sum3dcam.export.joint import explain_graph
from sum3dcam.export.onnx import to_model, write_onnx
from sum3dcam.parts import cut, part_outputs
from sum3dcam.serving.engines import load_engine, onnx_runtime, open_vino

TAPS = ("conv", "layer2", "layer4")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny.prepared(tiny.Case(taps=TAPS))
    card = replace(made.card, graph="explain")
    graph = explain_graph(made.classifier, taps=card.taps, clip_BTHWC=made.example_clip())
    path = tmp_path_factory.mktemp("part") / "tiny.onnx"
    write_onnx(to_model(graph, card=card), path, card=card)
    return path


def grids(kind: str, *taps: str) -> tuple[str, ...]:
    return tuple(grid_name(kind, tap) for tap in taps)


SUMMED = ("activation", "gradient", "gradcam")


@pytest.mark.parametrize(
    ("wanted", "kinds", "taps"),
    [
        ((LOGITS,), GRIDS, ("layer4",)),
        (grids("gradcam", "layer4"), GRIDS, ("layer4",)),
        (grids("hirescam", "layer4") + grids("layercam", "layer4"), GRIDS, ("layer4",)),
        (grids("gradcam", "layer2"), SUMMED, ("layer2", "layer4")),
        (grids("activation", *TAPS[1:]) + grids("gradient", *TAPS[1:]), SUMMED, ("layer2", "layer4")),
        (grids("gradient", "conv"), SUMMED, TAPS),
        (grids("layercam", "layer2"), GRIDS, TAPS),
        (grids("hirescam", *TAPS), GRIDS, TAPS),
    ],
    ids=str,
)
def test_the_smallest_part_that_has_what_is_wanted(
    wanted: tuple[str, ...], kinds: tuple[str, ...], taps: tuple[str, ...], artifact: Path
) -> None:
    expected = [name for tap in taps for kind in kinds for name in grids(kind, tap)]
    assert part_outputs(card_of(artifact), wanted) == (LOGITS, EXPLAINED, *expected)


def test_of_two_streams_each_has_a_deepest_and_a_lowest_tap(artifact: Path) -> None:
    card = card_of(artifact)
    flow = [replace(tap, name=f"flow_{tap.name}", stream="flow") for tap in card.taps]
    both = replace(card, taps=(*card.taps, *flow), streams=("rgb", "flow"))
    deepest = part_outputs(both, grids("gradcam", "layer4", "flow_layer4"))
    assert {name.partition("_")[2] for name in deepest[2:]} == {"layer4", "flow_layer4"}
    assert {name.partition("_")[2] for name in part_outputs(both, grids("gradcam", "flow_layer2"))[2:]} == {
        "layer2",
        "layer4",
        "flow_layer2",
        "flow_layer4",
    }


@pytest.mark.parametrize("engine_name", ["onnxruntime", "openvino"])
def test_whatever_is_asked_for_few_parts_are_made_and_none_twice(
    engine_name: str, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, function = {"onnxruntime": (onnx_runtime, "_start"), "openvino": (open_vino, "compile_graph")}[engine_name]
    make, made = getattr(module, function), Counter[tuple[str, ...]]()

    def counting(*arguments: Any, **named: Any) -> Any:
        made[named["outputs"] if "outputs" in named else arguments[1]] += 1
        return make(*arguments, **named)

    monkeypatch.setattr(module, function, counting)
    engine = load_engine(artifact, device="cpu", num_threads=1, engine=engine_name, wanted=(LOGITS,))
    clip, target = tiny.clips(tiny.Case(), num_clips=1), np.zeros(1, np.int64)
    wishes = [grids(kind, *taps) for kind in GRIDS for some in (1, 2, 3) for taps in combinations(TAPS, some)]
    for wanted in wishes * 2:
        assert set(wanted) <= set(engine.run(clip, target_B=target, outputs=wanted))
    assert len(made) == 4
    assert set(made.values()) == {1}


def card_of(artifact: Path) -> Card:
    return load_engine(artifact, device="cpu", num_threads=1, engine="onnxruntime").card


@pytest.mark.parametrize("wanted", [None, ("saliency",)], ids=["all", "saliency"])
def test_the_saliency_needs_the_whole_graph(wanted: tuple[str, ...] | None, artifact: Path) -> None:
    card = card_of(artifact)
    assert part_outputs(card, wanted) == card.outputs


@pytest.mark.parametrize("engine_name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_parts_values_are_the_wholes(engine_name: str, batch: int, artifact: Path) -> None:
    """Only the order of sums may differ: 1e-5 of each output's max in float32."""
    engine = load_engine(artifact, device="cpu", num_threads=1, engine=engine_name)
    clips, target = tiny.clips(tiny.Case(), num_clips=batch), np.arange(batch)
    whole = engine.run(clips, target_B=target)
    for wanted in (grids("gradcam", "layer4"), grids("activation", "conv") + grids("gradient", "layer2"), (LOGITS,)):
        part = engine.run(clips, target_B=target, outputs=wanted)
        assert tuple(part) == part_outputs(engine.card, wanted)
        assert set(wanted) <= set(part)
        for name, values in part.items():
            np.testing.assert_allclose(values, whole[name], rtol=0, atol=1e-5 * np.abs(whole[name]).max())


def test_what_a_part_does_not_need_is_cut_out(artifact: Path) -> None:
    whole, part = onnx.load(artifact).graph, onnx.load(artifact).graph
    cut(part, outputs=part_outputs(card_of(artifact), grids("gradcam", "layer4")))
    convolutions = [sum("Conv" in node.op_type for node in graph.node) for graph in (whole, part)]
    # The forward's alone are left: the gradient at the last tap needs no convolution.
    assert convolutions[1] < 0.6 * convolutions[0]
    onnx.checker.check_model(onnx.helper.make_model(part, opset_imports=[onnx.helper.make_opsetid("", 20)]))
