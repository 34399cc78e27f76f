"""Graphs in bfloat16: what computes in it and what does not, what is stored, and the gate that such files pass.

Oracle: float64 autograd, and torch's own autocast beside it, which rounds elsewhere but as often.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.oracle import tiny
from torch import fx

from sum3dcam.artefact import read_card
from sum3dcam.contract import BF16, EXPLAINED, LOGITS, SALIENCY
from sum3dcam.errors import ArtifactError, ParityError
from sum3dcam.export import artefacts
from sum3dcam.export.archive import labels_path
from sum3dcam.export.artefacts import export_pair
from sum3dcam.export.joint import ExplainGraph, LabelsGraph, explain_graph, labels_graph
from sum3dcam.export.parity import Reference, compare, reference
from sum3dcam.export.precision import lower_precision
from sum3dcam.export.prepare import Prepared, prepare, random_clips
from sum3dcam.serving.engines import load_engine

GATED = tiny.Case(gates=("conv", "layer3"), fusion="mean")
LOW = torch.bfloat16


def in_bf16(made: Prepared) -> Prepared:
    return replace(made, card=replace(made.card, precision=BF16))


class Dtypes(fx.Interpreter):
    """Runs a graph and notes, for each operator, the dtypes of the tensors that reach it."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.met: dict[str, set[torch.dtype]] = defaultdict(set)

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_function":
            inputs = [self.env[parent] for parent in n.all_input_nodes]
            self.met[str(n.target)] |= {
                tensor.dtype for tensor in inputs if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
            }
        return super().run_node(n)


def dtypes_met(graph: LabelsGraph | ExplainGraph, *given: torch.Tensor) -> tuple[Mapping[str, set[torch.dtype]], Any]:
    watched = Dtypes(graph.network if isinstance(graph, LabelsGraph) else graph.joint)
    with torch.no_grad():
        return watched.met, watched.run(*given)


@pytest.mark.parametrize("network", ["residual", "two-stream"])
def test_convolutions_compute_in_bfloat16_and_heads_and_outputs_in_float32(network: str) -> None:
    made = (
        tiny.prepared(GATED)
        if network == "residual"
        else prepare("i3d-two-stream", random_seed=0, num_frames=8, size_px=32, gates=("rgb_layer2",))
    )
    clips = torch.from_numpy(
        random_clips(3, num_frames=8, size_px=made.card.size_px, num_channels=made.card.num_channels, seed=0)
    )
    targets = torch.tensor([0, -1, 1])
    explain = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    lower_precision(explain, LOW)
    met, (logits, _, activations, gradients) = dtypes_met(explain, clips, targets)
    for name in ("aten.conv3d.default", "aten.relu.default", "aten.max_pool3d_with_indices.default"):
        assert met[name] == {LOW}, name
    back = [name for name in met if "relu_backward" in name or "scatter_to_maxima" in name]
    assert len(back) == 2
    assert all(met[name] == {LOW} for name in back)
    for name in ("aten.sub.Tensor", "aten.mean.dim", "aten.linear.default", "aten.matmul.default"):
        assert met[name] == {torch.float32}, name
    assert {tensor.dtype for tensor in (logits, *activations, *gradients)} == {torch.float32}

    labels = labels_graph(made.classifier, clip_BTHWC=made.example_clip())
    lower_precision(labels, LOW)
    met, alone = dtypes_met(labels, clips)
    assert met["aten.conv3d.default"] == {LOW}
    torch.testing.assert_close(alone, logits, rtol=0, atol=0)


@pytest.fixture(scope="module")
def mini() -> Prepared:
    return in_bf16(prepare("resnext-mini", random_seed=0, num_frames=8, size_px=32))


@pytest.fixture(scope="module")
def oracle(mini: Prepared) -> Reference:
    return reference(mini)


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_a_file_in_bfloat16_passes_its_gate_and_is_served(
    suffix: str, mini: Prepared, oracle: Reference, tmp_path: Path
) -> None:
    low = tmp_path / f"low{suffix}"
    export_pair(mini, low, oracle=oracle)
    card = read_card(low)
    assert card.precision == read_card(labels_path(low)).precision == BF16
    own, eager = card.parity
    assert 0.7 < own["saliency_correlation"] < 0.9999
    assert abs(own["saliency_correlation"] - eager["saliency_correlation"]) < 0.05
    assert 1e-4 < own["logits_max_error"] <= 3 * eager["logits_max_error"]
    num_parameters = sum(parameter.numel() for parameter in mini.classifier.parameters())
    assert labels_path(low).stat().st_size < 3 * num_parameters  # in float32 four bytes each, and in bfloat16 two

    for file in (low, labels_path(low)):
        engine = load_engine(file, device="cpu", num_threads=1)
        found = engine.run(oracle.clips_NTHWC[:3], target_B=oracle.targets_N[:3])
        assert {values.dtype for name, values in found.items() if name != EXPLAINED} == {np.dtype(np.float32)}
        figures, misses = compare(found, reference=oracle.first(3))
        assert not misses
        assert figures["logits_max_error"] > 1e-4


def test_what_is_compared_in_bfloat16_is_torchs_own_bfloat16(mini: Prepared, oracle: Reference) -> None:
    """The top class may be another one there, so classes are asked for by number; the oracle is float64's as ever."""
    full = reference(replace(mini, card=replace(mini.card, precision="fp32")))
    np.testing.assert_array_equal(oracle.targets_N, full.oracle[EXPLAINED])
    for name, values in full.oracle.items():
        np.testing.assert_array_equal(oracle.oracle[name], values)
    errors = [np.abs(of.eager[LOGITS] - full.oracle[LOGITS]).max() for of in (oracle, full)]
    assert errors[0] > 100 * errors[1]


@pytest.mark.parametrize("fault", ["class", "layout", "inverted"])
def test_the_gate_of_bfloat16_stops_what_is_wrong(
    fault: str, mini: Prepared, oracle: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(graph: LabelsGraph | ExplainGraph, dtype: torch.dtype) -> None:
        lower_precision(graph, dtype)
        if isinstance(graph, LabelsGraph):
            return
        forward = graph.saliency.forward

        def wrong(grids: Any) -> Any:
            maps = forward(grids)
            if fault == "layout":
                return {name: value.transpose(2, 3) for name, value in maps.items()}
            if fault == "class":
                return {name: value.flip(0) for name, value in maps.items()}
            return {name: 1 - value for name, value in maps.items()}

        graph.saliency.forward = wrong  # type: ignore[method-assign]

    monkeypatch.setattr(artefacts, "lower_precision", faulty)
    with pytest.raises(ParityError, match=SALIENCY):
        export_pair(mini, tmp_path / "wrong.pt", oracle=oracle)
    assert not list(tmp_path.iterdir())


def test_onnx_says_that_it_has_no_bfloat16_before_anything_is_computed(mini: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"bfloat16; export to \.pt, \.pt2 or \.aoti"):
        export_pair(mini, tmp_path / "low.onnx", say=lambda line: pytest.fail(line))
