"""The certificate: a row for each engine at hand; only the format's own engine decides whether there is a file."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.oracle import tiny

from sum3dcam.artefact import read_card
from sum3dcam.errors import ParityError
from sum3dcam.export import artefacts
from sum3dcam.export.archive import labels_path
from sum3dcam.export.artefacts import export_pair
from sum3dcam.export.certificate import box_agreement, certify
from sum3dcam.export.parity import Reference, reference
from sum3dcam.export.prepare import Prepared
from sum3dcam.export.runners import Runner, onnx_runners
from sum3dcam.hardware import processor
from sum3dcam.openvino_graph import read_graph
from sum3dcam.serving.engines import load_engine

Answers = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def made() -> Prepared:
    return tiny.prepared(tiny.Case(taps=("layer1",)))


@pytest.fixture(scope="module")
def oracle(made: Prepared) -> Reference:
    return reference(made)


def runner(run: Callable[..., Answers], *, engine: str = "under test") -> Runner:
    return Runner(engine, "cpu", versions="1", load=lambda outputs: run)


def echo(oracle: Reference, card: Any) -> Callable[..., Answers]:
    """An engine that answers as eager did, clip by clip."""
    of = {clip.tobytes(): index for index, clip in enumerate(oracle.clips_NTHWC)}

    def run(clips: np.ndarray, targets: np.ndarray) -> Answers:
        places = [of[clip.tobytes()] for clip in clips]
        return {name: oracle.eager[name][places] for name in card.outputs}

    return run


def test_every_engine_has_a_row_and_eager_the_last(made: Prepared, oracle: Reference) -> None:
    good = echo(oracle, made.card)
    rows = certify([runner(good), runner(good, engine="other")], card=made.card, reference=oracle)
    assert [(row["engine"], row["provider"]) for row in rows] == [
        ("under test", "cpu"),
        ("other", "cpu"),
        ("eager", "cpu"),
    ]
    # Oracle: the errors by their definitions, over the only map and over the worst grid, which is not the last.
    errors = np.abs(oracle.eager["saliency"] - oracle.oracle["saliency"])
    grid_errors = [
        np.linalg.norm((oracle.eager[name] - oracle.oracle[name]).reshape(16, -1), axis=1)
        / np.linalg.norm(oracle.oracle[name].reshape(16, -1), axis=1)
        for name in made.card.outputs[3:]
    ]
    assert grid_errors[-1].max() < 0.95 * max(errors_N.max() for errors_N in grid_errors)
    for row in rows:
        assert (row["passed"], row["reason"], row["clips"]) == (True, None, 16)
        assert row["hardware"] == processor()
        assert row["saliency_max_error"] == errors.max()
        assert row["saliency_mean_error"] == pytest.approx(errors.mean())
        assert row["saliency_median_error"] == pytest.approx(np.median(errors.mean((1, 2, 3))))
        assert 0 < row["logits_mean_error"] < row["logits_max_error"] <= 1e-4
        assert row["grids_max_error"] == pytest.approx(max(errors_N.max() for errors_N in grid_errors))
        assert row["grids_mean_error"] == pytest.approx(max(errors_N.mean() for errors_N in grid_errors))
        assert row["box_iou_min"] <= row["box_iou_mean"] <= 1


def test_an_engine_that_misses_says_which_figure_and_what_was_allowed(made: Prepared, oracle: Reference) -> None:
    good = echo(oracle, made.card)

    def dimmed(clips: np.ndarray, targets: np.ndarray) -> Answers:
        answers = good(clips, targets)
        return answers | {"saliency": answers["saliency"] * 0.9}

    row, _ = certify([runner(dimmed)], card=made.card, reference=oracle)
    assert not row["passed"]
    # The median is looked at first; the map's worst voxel is its maximum of one.
    assert row["reason"].startswith("the median error of saliency exceeds 3.0 times eager fp32's; got: ")
    assert "allowed: " in row["reason"]
    assert row["saliency_max_error"] == pytest.approx(0.1, abs=1e-3)
    # Boxes do not depend on the map's scale: IoU is what a user of boxes would see of this fault.
    assert row["box_iou_mean"] == pytest.approx(1.0, abs=0.05)


def test_the_part_that_a_server_usually_runs_is_what_is_timed_and_must_be_right_as_well(
    made: Prepared, oracle: Reference
) -> None:
    good, loaded = echo(oracle, made.card), []

    def load(outputs: tuple[str, ...]) -> Callable[..., Answers]:
        loaded.append(outputs)
        whole = outputs == made.card.outputs

        def run(clips: np.ndarray, targets: np.ndarray) -> Answers:
            if whole:
                time.sleep(0.2)
            answers = {name: value for name, value in good(clips, targets).items() if name in outputs}
            swapped = {} if whole else {"gradient_layer1": answers["gradient_layer1"].swapaxes(2, 3)}
            return answers | swapped

        return run

    row, eager = certify([Runner("under test", "cpu", "1", load=load)], card=made.card, reference=oracle)
    assert loaded[0] == made.card.outputs
    assert {"logits", "activation_layer1", "gradient_layer1"} <= set(loaded[1])
    assert "saliency" not in loaded[1]
    assert row["clip_seconds"] < 0.1
    assert not row["passed"]
    assert "error of gradient_layer1 exceeds" in row["reason"]
    # The figures that are told are the whole graph's.
    assert row["grids_max_error"] == eager["grids_max_error"]


@pytest.mark.parametrize("fault", ["raises", "other shape", "not numbers"])
def test_an_engine_that_fails_has_a_row_without_its_figures(made: Prepared, oracle: Reference, fault: str) -> None:
    good = echo(oracle, made.card)

    def bad(clips: np.ndarray, targets: np.ndarray) -> Answers:
        if fault == "raises":
            raise RuntimeError("no kernel for this operator")
        answers = good(clips, targets)
        change = {"other shape": lambda value: value[:, :2], "not numbers": lambda value: value * np.nan}[fault]
        return answers | {"saliency": change(answers["saliency"])}

    row, eager = certify([runner(bad)], card=made.card, reference=oracle)
    assert not row["passed"]
    wanted = {"raises": "no kernel", "other shape": "saliency has another shape", "not numbers": "error of saliency"}
    assert wanted[fault] in row["reason"]
    assert row.get("saliency_mean_error") is None
    assert eager["passed"]


def test_boxes_agree_by_hand() -> None:
    """Rows 0-3 of 8 against rows 1-4: 3 common rows of 5. A frame without boxes in either map does not count; one
    with a box in one map alone counts as nothing in common."""
    ours, oracles = np.zeros((2, 3, 8, 8)), np.zeros((2, 3, 8, 8))
    ours[0, 0, 0:4], oracles[0, 0, 1:5] = 1.0, 1.0
    ours[1, 2, :, 2] = oracles[1, 2, :, 2] = 0.5
    assert box_agreement(ours, oracles) == {"box_iou_mean": pytest.approx((3 / 5 + 1) / 2), "box_iou_min": 3 / 5}
    ours[0, 1, 3, 3] = 1.0
    assert box_agreement(ours, oracles) == {"box_iou_mean": pytest.approx((3 / 5 + 0 + 1) / 3), "box_iou_min": 0.0}
    assert box_agreement(np.zeros_like(ours), np.zeros_like(ours)) == {}


def spoilt(engine: str) -> Callable[..., list[Runner]]:
    """The runners of an .onnx file, and one more that swaps H and W; `engine` "own" spoils the format's own instead."""

    def runners(model: Any, *, card: Any) -> list[Runner]:
        own = next(iter(onnx_runners(model, card=card)))
        run = own.load(card.outputs)

        def swapped(clips: np.ndarray, targets: np.ndarray) -> Answers:
            answers = dict(run(clips, targets))
            return answers | {name: value.swapaxes(2, 3) for name, value in answers.items() if value.ndim == 4}

        if engine == "own":
            return [Runner(own.engine, own.provider, own.versions, load=lambda outputs: swapped)]
        return [own, Runner(engine, "cpu", "1", load=lambda outputs: swapped)]

    return runners


def test_a_spoilt_engine_is_told_in_the_card_of_a_file_that_is_written_all_the_same(
    tmp_path: Path, made: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefacts, "onnx_runners", spoilt("other"))
    path = tmp_path / "m.onnx"
    explain, labels = export_pair(made, path)
    assert [row["passed"] for row in explain] == [True, False, True]
    assert [row["passed"] for row in labels] == [True, True, True]  # it has no H and W to swap
    assert read_card(path).parity == explain
    assert read_card(labels_path(path)).parity == labels


def test_a_spoilt_own_engine_writes_nothing(tmp_path: Path, made: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefacts, "onnx_runners", spoilt("own"))
    with pytest.raises(ParityError, match=r"m\.onnx in onnxruntime CPUExecutionProvider: the median error of saliency"):
        export_pair(made, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_openvino_passes_and_its_server_finds_the_row(tmp_path: Path, made: Prepared) -> None:
    """Its grouped and transposed convolutions must not share weights, or it is wrong (`sum3dcam.openvino_graph`)."""
    path = tmp_path / "m.onnx"
    for file, rows in zip((path, labels_path(path)), export_pair(made, path), strict=True):
        (row,) = [row for row in rows if row["engine"] == "openvino"]
        assert row["versions"].startswith("openvino 20")
        assert row["passed"], row["reason"]
        engine = load_engine(file, device="cpu", num_threads=1, engine="openvino")
        assert engine.card.parity_row(engine.name, provider=engine.provider) == row


def test_every_weight_that_openvino_reads_is_a_constant_of_its_own(tmp_path: Path, made: Prepared) -> None:
    export_pair(made, tmp_path / "m.onnx")
    convolutions = [node for node in read_graph(tmp_path / "m.onnx").get_ops() if "Convolution" in node.get_type_name()]
    weights = [node.input_value(1).get_node() for node in convolutions]
    assert {weight.get_type_name() for weight in weights} == {"Constant"}
    assert len({weight.data.ctypes.data for weight in weights}) == len(convolutions)  # not one place under two names
    forward = sum(isinstance(module, torch.nn.Conv3d) for module in made.classifier.modules())
    assert len(convolutions) > forward
