"""A served model answers as the engine does: asked of the predictor that a server runs, without the transport."""

import dataclasses

import numpy as np
import pytest
from tests.evaluation.tables.in_process import InProcess

from sum3dcam.contract import EXPLAINED, GRIDS, LABELS_GRAPH, LOGITS, TOP_CLASS, grid_name
from sum3dcam.errors import ArtifactError
from sum3dcam.evaluation.tables import served
from sum3dcam.evaluation.tables.served import ServedEngine

NUM_FRAMES, SIZE_PX = 4, 32


@pytest.fixture
def engine(make_engine):
    return make_engine(num_frames=NUM_FRAMES, size_px=SIZE_PX)


@pytest.fixture
def client(engine, make_engine):
    return InProcess(engine, make_engine(num_frames=NUM_FRAMES, size_px=SIZE_PX, graph=LABELS_GRAPH))


@pytest.fixture
def serve(engine, client, tmp_path, monkeypatch):
    def make(**changes):
        monkeypatch.setattr(served, "read_card", lambda path: dataclasses.replace(engine.card, **changes))
        (tmp_path / "net.onnx").touch()
        return ServedEngine(client, artifact=tmp_path / "net.onnx", name="http")

    return make


def clips(num_clips=3):
    return np.random.default_rng(0).integers(0, 256, (num_clips, NUM_FRAMES, SIZE_PX, SIZE_PX, 3), np.uint8)


@pytest.mark.parametrize("target", [TOP_CLASS, 0, 1])
def test_grids_and_the_best_class_are_the_engines_own(engine, serve, client, target):
    wanted = (LOGITS, EXPLAINED, *(grid_name(grid, "conv") for grid in GRIDS), "gradcam_layer1")
    targets = np.full(3, target)
    theirs, ours = engine.run(clips(), target_B=targets), serve().run(clips(), target_B=targets, outputs=wanted)
    for name in wanted[1:]:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    # Softmax of the scores' logarithms are the scores: to the rounding of float64.
    scores = np.exp(theirs[LOGITS].astype(np.float64))
    np.testing.assert_allclose(np.exp(ours[LOGITS]), scores / scores.sum(1, keepdims=True), rtol=1e-6)
    # One request for each method that is needed, with the taps that are.
    assert [(one["method"], one["taps"]) for one in client.asked] == [
        ("sum3dcam", ("conv",)),
        ("sum3dcam-elementwise", ("conv",)),
        ("sum-gradcam", ("conv", "layer1")),
        ("hirescam", ("conv",)),
    ]


def test_labels_alone_cost_no_explanation(serve, client):
    found = serve().run(clips(), target_B=np.full(3, TOP_CLASS), outputs=(LOGITS,))
    assert found[LOGITS].shape == (3, 2)
    assert [one["explain"] for one in client.asked] == ["none"]


def test_another_model_than_the_artefacts_is_refused(serve):
    with pytest.raises(ArtifactError, match="other weights"):
        serve(weights_sha256="2" * 64).run(clips(1), target_B=np.array([0]), outputs=(LOGITS,))
