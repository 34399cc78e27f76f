"""A tiny gated network, exported once for all checks."""

from dataclasses import dataclass

import onnx
import pytest
from tests.oracle import tiny

from sum3dcam.export.joint import ExplainGraph, explain_graph
from sum3dcam.export.onnx import to_model
from sum3dcam.export.prepare import Prepared


@dataclass(frozen=True)
class Exported:
    case: tiny.Case
    made: Prepared
    graph: ExplainGraph
    model: onnx.ModelProto


@pytest.fixture(scope="session")
def exported() -> Exported:
    case = tiny.Case(seed=4, gates=("conv", "layer3"))
    made = tiny.prepared(case)
    graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    return Exported(case, made, graph, to_model(graph, card=made.card))
