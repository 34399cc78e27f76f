"""Engines: an artefact runs as its card says, or is refused with the reason."""

import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sum3dcam.contract import CARD_KEY, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.serving import engines
from sum3dcam.serving.engines import load_engine, load_engines
from sum3dcam.serving.predictor import Predictor
from sum3dcam.wire import decode_reply

Write = Callable[..., Path]


def load(path: Path) -> Any:
    return load_engine(path, device="cpu", num_threads=1)


def noise(batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (batch, 4, 16, 16, 3), np.uint8)


def test_onnx_engine_answers_by_name_and_says_what_it_runs_on(tmp_path: Path, write_tiny: Write) -> None:
    engine = load(write_tiny(tmp_path / "tiny.onnx"))
    assert (engine.name, engine.provider, engine.card.graph) == ("onnxruntime", "CPUExecutionProvider", "explain")
    outputs = engine.run(noise(3), target_B=np.array([-1, 2, 0]))
    assert tuple(outputs) == engine.card.outputs
    assert outputs["logits"].shape == (3, 3)
    assert outputs["explained"].tolist() == [int(outputs["logits"][0].argmax()), 2, 0]
    # Oracle: the mean of the pixels of each cell.
    cells = noise(3).mean(axis=-1).reshape(3, 2, 2, 4, 4, 4, 4).mean(axis=(2, 4, 6)) / 255
    np.testing.assert_allclose(outputs["activation_pool"], cells, atol=1e-6)  # float32 against float64


@pytest.mark.parametrize("graph", ["explain", "labels"])
def test_openvino_gives_onnxruntimes_answers_for_any_batch(graph: str, tmp_path: Path, write_tiny: Write) -> None:
    path = write_tiny(tmp_path / "tiny.onnx", graph)
    wanted, got = (load_engine(path, device="cpu", num_threads=1, engine=name) for name in ("onnxruntime", "openvino"))
    assert (got.name, got.provider, got.card.graph) == ("openvino", "CPU", graph)
    assert got.sha256 == wanted.sha256
    for batch in (2, 1, 8, 3):
        target = np.arange(batch) % 4 - 1
        outputs = got.run(noise(batch), target_B=target)
        assert tuple(outputs) == got.card.outputs
        for name, values in wanted.run(noise(batch), target_B=target).items():
            assert (outputs[name].dtype, outputs[name].shape) == (values.dtype, values.shape), name
            np.testing.assert_allclose(outputs[name], values, atol=1e-6)  # float32 of values around one


def test_openvino_keeps_earlier_answers_and_minds_no_strides(tmp_path: Path, write_tiny: Write) -> None:
    engine = load_engine(write_tiny(tmp_path / "tiny.onnx"), device="cpu", num_threads=1, engine="openvino")
    target = np.array([-1, 1])
    first = engine.run(noise(2), target_B=target)
    kept = {name: value.copy() for name, value in first.items()}
    mirrored = engine.run(noise(2)[:, :, :, ::-1], target_B=target)
    wanted = engine.run(np.ascontiguousarray(noise(2)[:, :, :, ::-1]), target_B=target)
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)
        np.testing.assert_array_equal(mirrored[name], wanted[name])
    assert (wanted["saliency"] != first["saliency"]).any()


def test_openvino_takes_the_threads_and_the_precision_it_is_given(tmp_path: Path, write_tiny: Write) -> None:
    engine: Any = load_engine(write_tiny(tmp_path / "tiny.onnx"), device="cpu", num_threads=1, engine="openvino")
    assert engine._compiled(engine.card.outputs, True).get_property("INFERENCE_NUM_THREADS") == 1
    assert (
        str(engine._compiled(engine.card.outputs, True).get_property("INFERENCE_PRECISION_HINT")) == "<Type: 'float32'>"
    )


def test_onnxruntime_takes_the_threads_it_is_given(tmp_path: Path, write_tiny: Write) -> None:
    engine: Any = load_engine(write_tiny(tmp_path / "tiny.onnx"), device="cpu", num_threads=3, engine="onnxruntime")
    assert engine._session(engine.card.outputs).get_session_options().intra_op_num_threads == 3


@pytest.mark.parametrize(
    ("device", "installed", "said"), [("cuda:0", True, "CPU"), ("cpu", False, "pip install openvino")]
)
def test_openvino_that_cannot_be_had_is_refused(
    device: str, installed: bool, said: str, tmp_path: Path, write_tiny: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ArtifactError, match=said):
        load_engine(write_tiny(tmp_path / "tiny.onnx"), device=device, num_threads=1, engine="openvino")


@pytest.mark.parametrize("changes", [{"taps": []}, {"num_frames": 8}, {"graph": "labels"}])
def test_openvino_refuses_a_card_that_lies_about_the_graph(
    changes: dict[str, Any], tmp_path: Path, write_tiny: Write
) -> None:
    path = write_tiny(tmp_path / "tiny.onnx")
    rewrite_card(path, **changes)
    with pytest.raises(ArtifactError, match="not those of its card"):
        load_engine(path, device="cpu", num_threads=1, engine="openvino")


def test_engine_that_does_not_run_such_files_is_refused(tmp_path: Path, write_tiny: Write) -> None:
    with pytest.raises(ArtifactError, match="this engine") as caught:
        load_engine(write_tiny(tmp_path / "tiny.onnx"), device="cpu", num_threads=1, engine="torchscript")
    assert caught.value.allowed == ["onnxruntime", "openvino"]


def test_each_graph_runs_in_the_engine_named_for_it(tiny_folder: Path) -> None:
    explain, labels = load_engines(tiny_folder, device="cpu", num_threads=1, engines={"labels": "openvino"})
    assert (explain.name, labels.name) == ("onnxruntime", "openvino")
    explain, labels = load_engines(tiny_folder, device="cpu", num_threads=1, engines={"explain": "openvino"})
    assert (explain.name, labels.name) == ("openvino", "onnxruntime")


def test_labels_engine_ignores_the_target(tmp_path: Path, write_tiny: Write) -> None:
    engine = load(write_tiny(tmp_path / "tiny.labels.onnx", "labels"))
    assert tuple(engine.run(noise(2), target_B=np.array([1, -1]))) == ("logits",)


def test_folder_gives_explain_and_labels_whatever_the_files_are_called(tmp_path: Path, write_tiny: Write) -> None:
    write_tiny(tmp_path / "z.onnx", "explain")
    write_tiny(tmp_path / "a.onnx", "labels")
    explain, labels = load_engines(tmp_path, device="cpu", num_threads=1)
    assert (explain.card.graph, labels.card.graph) == ("explain", "labels")
    assert explain.sha256 != labels.sha256


def test_artefact_without_a_card_is_refused(tmp_path: Path, write_tiny: Write) -> None:
    path = write_tiny(tmp_path / "tiny.onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match=CARD_KEY):
        load(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"contract_version": 1}, "contract version"),
        ({"preprocessing": "fisheye"}, "frames"),
        ({"graph": "labels"}, "inputs"),
    ],
)
def test_card_that_cannot_be_served_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path, write_tiny: Write, card: Card
) -> None:
    path = write_tiny(tmp_path / "tiny.onnx", **(changes if "graph" not in changes else {}))
    if "graph" in changes:
        rewrite_card(path, **changes)
    with pytest.raises(ArtifactError, match=said):
        load(path)


@pytest.mark.parametrize(("changes", "said"), [({"taps": []}, "outputs"), ({"num_frames": 8}, "clip dimensions")])
def test_card_that_lies_about_the_graph_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path, write_tiny: Write
) -> None:
    path = write_tiny(tmp_path / "tiny.onnx")
    rewrite_card(path, **changes)
    with pytest.raises(ArtifactError, match=said):
        load(path)


def row(*, provider: str = "CPUExecutionProvider", **changes: Any) -> dict[str, Any]:
    return {"engine": "onnxruntime", "provider": provider, "passed": True, "reason": None} | changes


def test_engine_that_did_not_pass_at_the_export_is_refused_with_the_reason(tmp_path: Path, write_tiny: Write) -> None:
    failed = row(passed=False, reason="the mean error of saliency exceeds 2.0 times eager float32's; got: 0.17")
    rows = [failed, row(engine="another"), row(engine="eager", provider="cpu")]
    with pytest.raises(ArtifactError, match=r"did not pass.*onnxruntime on CPUExecutionProvider.*got: 0\.17") as caught:
        load(write_tiny(tmp_path / "tiny.onnx", parity=rows))
    assert caught.value.allowed == ["another on CPUExecutionProvider"]


SLOW, FAST = row(clip_seconds=0.3), row(engine="openvino", provider="CPU", clip_seconds=0.1)


@pytest.mark.parametrize(
    ("rows", "fastest"),
    [
        ([SLOW, FAST], "openvino"),
        ([SLOW | {"clip_seconds": 0.05}, FAST], "onnxruntime"),
        ([SLOW, FAST | {"passed": False}], "onnxruntime"),
        ([SLOW | {"passed": False}, FAST], "openvino"),
        ([SLOW, FAST | {"provider": "CUDAExecutionProvider"}], "onnxruntime"),  # on another device
        ([SLOW, FAST | {"engine": "eager", "provider": "cpu"}], "onnxruntime"),  # no file's engine
        ([row(), row(engine="openvino", provider="CPU")], "onnxruntime"),  # nothing was timed
        ([], "onnxruntime"),
    ],
)
def test_the_fastest_engine_that_passed_on_this_device_runs_a_graph(
    rows: list[dict[str, Any]], fastest: str, tmp_path: Path, write_tiny: Write
) -> None:
    path = write_tiny(tmp_path / "tiny.labels.onnx", "labels", parity=rows)
    assert load_engine(path, device="cpu", num_threads=1).name == fastest


def test_an_engine_that_is_not_installed_is_passed_over(
    tmp_path: Path, write_tiny: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    path = write_tiny(tmp_path / "tiny.labels.onnx", "labels", parity=[SLOW, FAST])
    assert load_engine(path, device="cpu", num_threads=1).name == "onnxruntime"


@pytest.mark.parametrize(
    ("rows", "certified"),
    [([row()], True), ([row(provider="CUDAExecutionProvider", passed=False)], False), ([row(engine="other")], False)],
)
def test_engine_that_the_export_did_not_have_is_served_and_says_so(
    rows: list[dict[str, Any]],
    certified: bool,
    tmp_path: Path,
    write_tiny: Write,
    clip_bytes: Callable[..., bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = load(write_tiny(tmp_path / "tiny.onnx", parity=rows))
    labels = load(write_tiny(tmp_path / "tiny.labels.onnx", "labels", parity=rows))
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    names = () if certified else ("tiny.onnx", "tiny.labels.onnx")
    assert [text.partition(",")[0] for text in warned] == [
        f"{name} is not certified for onnxruntime on CPUExecutionProvider" for name in names
    ]
    (reply,) = Predictor(engine, labels).predict([{"data": clip_bytes()}])
    envelope, _ = decode_reply(reply.body)
    assert envelope["model"]["certified"] is certified


def rewrite_card(path: Path, **changes: Any) -> None:
    model = onnx.load(path)
    facts = json.loads(model.metadata_props[0].value) | changes
    model.metadata_props[0].value = json.dumps(facts)
    onnx.save(model, path)


def test_bytes_that_are_no_graph_are_refused(tmp_path: Path) -> None:
    for name in ("broken.onnx", "broken.pt", "broken.pt2"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(ArtifactError, match="cannot be read"):
            load(tmp_path / name)


def test_graph_that_no_engine_can_load_is_refused(tmp_path: Path, card: Card) -> None:
    """The card is whole, the graph behind it is none."""
    empty = onnx.ModelProto()
    onnx.helper.set_model_props(empty, {CARD_KEY: card.to_json()})
    onnx.save(empty, tmp_path / "broken.onnx")
    for name in ("broken.pt", "broken.pt2"):
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr(f"broken/extra/{CARD_KEY}", card.to_json())
    for name, engine in (("onnx", "onnxruntime"), ("onnx", "openvino"), ("pt", None), ("pt2", None)):
        with pytest.raises(ArtifactError, match="cannot load the graph"):
            load_engine(tmp_path / f"broken.{name}", device="cpu", num_threads=1, engine=engine)


def test_other_kinds_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="kind"):
        load(tmp_path / "model.tflite")


def test_gpu_that_is_not_there_is_refused_and_not_replaced(tmp_path: Path, write_tiny: Write) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ArtifactError, match="cuda:0"):
        load_engine(write_tiny(tmp_path / "tiny.onnx"), device="cuda:0", num_threads=1)


def test_a_gpu_is_asked_for_by_its_number(tmp_path: Path, write_tiny: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def refuse(*_: object, providers: Any, **__: object) -> None:
        asked.extend(providers)
        raise RuntimeError

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(ArtifactError):
        load_engine(write_tiny(tmp_path / "tiny.onnx"), device="cuda:3", num_threads=1)
    ((name, options),) = asked
    assert (name, options["device_id"]) == ("CUDAExecutionProvider", "3")


@pytest.mark.parametrize("graphs", [["explain"], ["explain", "explain"], ["labels"], ["explain", "labels", "labels"]])
def test_folder_without_exactly_one_pair_is_refused(graphs: list[str], tmp_path: Path, write_tiny: Write) -> None:
    for number, graph in enumerate(graphs):
        write_tiny(tmp_path / f"{number}.onnx", graph)
    with pytest.raises(ArtifactError, match="one explain graph"):
        load_engines(tmp_path, device="cpu", num_threads=1)


@pytest.mark.parametrize(
    "difference",
    [{"weights_sha256": "1" * 64}, {"frames_per_second": 25.0}, {"preprocessing": "squash"}, {"precision": "bf16"}],
)
def test_graphs_of_two_models_are_refused(difference: dict[str, Any], tmp_path: Path, write_tiny: Write) -> None:
    write_tiny(tmp_path / "a.onnx", "explain")
    write_tiny(tmp_path / "b.onnx", "labels", **difference)
    with pytest.raises(ArtifactError, match="different models"):
        load_engines(tmp_path, device="cpu", num_threads=1)


class Halves(torch.nn.Module):
    """The outputs of the contract from the mean brightness of a clip's halves: one torch graph."""

    def forward(self, clip: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
        grey = clip.float().mean(dim=4) / 255.0
        grid = torch.nn.functional.avg_pool3d(grey.unsqueeze(1), [2, 4, 4]).squeeze(1)
        logits = torch.stack([grid.mean(dim=[1, 2, 3]), grid[:, :, 0].mean(dim=[1, 2]), -grid.mean(dim=[1, 2, 3])], 1)
        explained = torch.where(target < 0, logits.argmax(dim=1), target)
        return logits, explained, grey, grid, grid, grid, grid, grid


def save_torchscript(path: Path, extra: dict[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated as a whole
        traced = torch.jit.trace(Halves(), (torch.from_numpy(noise(2)), torch.tensor([-1, 1])))
        torch.jit.save(traced, str(path), _extra_files=extra)


def save_program(path: Path, extra: dict[str, str]) -> None:
    batch = {0: torch.export.Dim("batch", min=1)}
    inputs = (torch.from_numpy(noise(2)), torch.tensor([-1, 1]))
    torch.export.save(torch.export.export(Halves(), inputs, dynamic_shapes=(batch, batch)), path, extra_files=extra)


TORCH_FORMATS = {"torchscript": (".pt", save_torchscript), "pt2": (".pt2", save_program)}


@pytest.fixture(params=TORCH_FORMATS)
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def write_torch(tmp_path: Path, card: Card, engine_name: str) -> Callable[..., Path]:
    suffix, save = TORCH_FORMATS[engine_name]

    def write(*, card_text: str | None = card.to_json()) -> Path:
        path = tmp_path / f"tiny{suffix}"
        save(path, {} if card_text is None else {CARD_KEY: card_text})
        return path

    return write


@pytest.mark.parametrize("num_threads", [0, 1])
def test_torch_engine_answers_by_name_and_always_the_same(
    num_threads: int, engine_name: str, write_torch: Write
) -> None:
    engine = load_engine(write_torch(), device="cpu", num_threads=num_threads)
    assert (engine.name, engine.provider, engine.card.graph) == (engine_name, "cpu", "explain")
    first = engine.run(noise(3), target_B=np.array([-1, 2, 0]))
    assert tuple(first) == engine.card.outputs
    assert first["explained"].tolist() == [int(first["logits"][0].argmax()), 2, 0]
    for _ in range(3):
        again = engine.run(noise(3), target_B=np.array([-1, 2, 0]))
        for name, value in first.items():
            np.testing.assert_array_equal(again[name], value)


def test_torch_file_without_a_card_is_refused(write_torch: Write) -> None:
    with pytest.raises(ArtifactError, match=CARD_KEY):
        load(write_torch(card_text=None))


@pytest.mark.parametrize(("changes", "said"), [({"graph": "labels"}, "inputs"), ({"taps": ()}, "number of outputs")])
def test_torch_card_that_lies_about_the_graph_is_refused(
    changes: dict[str, Any], said: str, write_torch: Write, card: Card
) -> None:
    with pytest.raises(ArtifactError, match=said):
        load(write_torch(card_text=replace(card, **changes).to_json()))


def test_nothing_imports_torch_before_an_artefact_of_torch_is_loaded() -> None:
    program = "import sys, sum3dcam.serving.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_pt2_card_that_lies_about_the_clip_is_refused(tmp_path: Path, card: Card) -> None:
    save_program(tmp_path / "tiny.pt2", {CARD_KEY: replace(card, num_frames=8).to_json()})
    with pytest.raises(ArtifactError, match="clip dimensions"):
        load(tmp_path / "tiny.pt2")
