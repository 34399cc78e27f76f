"""Parts of an explain graph: no more is computed than requests ask for, and its values are the whole's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.oracle import tiny

from sum3dcam.contract import EXPLAINED, LOGITS, Card, grid_name
from sum3dcam.export.joint import explain_graph
from sum3dcam.export.onnx import to_model, write_onnx
from sum3dcam.serving.engines import load_engine, onnx_runtime
from sum3dcam.serving.engines.engine import part_outputs

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


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        (grids("gradcam", "layer4"), grids("gradcam", "layer4")),
        (grids("gradcam", "layer2"), grids("gradcam", "layer2", "layer4")),
        (grids("layercam", "conv", "layer4"), grids("layercam", *TAPS)),
        ((*grids("hirescam", "layer4"), *grids("activation", "layer2")), "activation hirescam from layer2"),
        ((LOGITS,), ()),
    ],
    ids=str,
)
def test_a_part_ends_at_the_lowest_tap_with_the_kinds_of_grids_asked_for(
    wanted: tuple[str, ...], part: Any, artifact: Path
) -> None:
    if isinstance(part, str):
        part = [name for tap in TAPS[1:] for kind in ("activation", "hirescam") for name in grids(kind, tap)]
    assert part_outputs(card_of(artifact), wanted) == (LOGITS, EXPLAINED, *part)


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
    onnx_runtime._cut(part, outputs=part_outputs(card_of(artifact), grids("gradcam", "layer4")))
    convolutions = [sum("Conv" in node.op_type for node in graph.node) for graph in (whole, part)]
    # The forward's alone are left: the gradient at the last tap needs no convolution.
    assert convolutions[1] < 0.6 * convolutions[0]
    onnx.checker.check_model(onnx.helper.make_model(part, opset_imports=[onnx.helper.make_opsetid("", 20)]))
