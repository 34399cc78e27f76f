"""The .aoti file: one small graph, compiled once, answers as .onnx does and is refused wherever it is not for."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.oracle import tiny

from sum3dcam.artefact import read_card, read_extra
from sum3dcam.contract import BUILD_KEY, CARD_KEY, LABELS_GRAPH
from sum3dcam.errors import ArtifactError
from sum3dcam.export.aoti import compile_package
from sum3dcam.export.artefacts import CANDIDATES
from sum3dcam.export.certificate import certify
from sum3dcam.export.inspection import inspect
from sum3dcam.export.joint import explain_graph
from sum3dcam.export.parity import reference
from sum3dcam.hardware import cpu_features
from sum3dcam.serving.engines import load_engine

CASE = tiny.Case(taps=("layer3",), gates=("layer4",))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The explain graph, certified and signed as `export_pair` does it."""
    made = tiny.prepared(CASE)
    clip = made.example_clip()
    graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=clip)
    candidate = CANDIDATES[".aoti"](graph, card=made.card, inputs=(clip, torch.zeros(2, dtype=torch.int64)))
    rows = certify(candidate.runners, card=made.card, reference=reference(made))
    path = tmp_path_factory.mktemp("aoti") / "m.aoti"
    candidate.write(path, replace(made.card, parity=rows))
    return path


def changed(path: Path, folder: Path, **entries: Mapping[str, Any] | None) -> Path:
    """A copy in which extra files hold other values; None leaves one out."""
    copy = folder / path.name
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
        for entry in old.infolist():
            key = entry.filename.rpartition("/")[2]
            if key not in entries:
                new.writestr(entry, old.read(entry))
            elif (changes := entries[key]) is not None:
                new.writestr(entry, json.dumps(json.loads(old.read(entry)) | changes))
    return copy


def test_it_passes_the_gate_and_the_server_finds_its_row(artefact: Path) -> None:
    own, eager = read_card(artefact).parity
    assert (own["engine"], own["provider"], own["passed"], eager["passed"]) == ("aoti", "cpu", True, True)
    assert own["saliency_mean_error"] < 1e-4
    engine = load_engine(artefact, device="cpu", num_threads=1)
    assert engine.card.parity_row(engine.name, provider=engine.provider) == own
    (found,) = inspect(str(artefact))
    assert found.parity == (own, eager)


@pytest.mark.parametrize("num_clips", [1, 3])
def test_its_answers_are_autograds_for_any_batch_and_any_strides(artefact: Path, num_clips: int) -> None:
    """1e-4 of each output's max per clip: float32 over a few layers; these seeds meet no ReLU in doubt."""
    engine = load_engine(artefact, device="cpu", num_threads=1)
    clips, target = tiny.clips(CASE, num_clips=num_clips)[:, :, :, ::-1], np.array([-1, 2, 0])[:num_clips]
    if num_clips == 3:
        assert not clips.flags.c_contiguous
    wanted = tiny.answers(tiny.prepared(CASE), np.ascontiguousarray(clips), target)
    answers = engine.run(np.asfortranarray(clips), target_B=target)
    assert tuple(answers) == engine.card.outputs
    for name, values in wanted.items():
        assert answers[name].shape == values.shape
        assert tiny.relative_error(answers[name], values) <= 1e-4, name


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({BUILD_KEY: {"torch": "2.12.1+cpu"}}, "another torch"),
        ({BUILD_KEY: {"architecture": "aarch64"}}, "another torch or processor"),
        ({BUILD_KEY: {"cpu_features": ["sse2", "avx9000"]}}, "instructions that.*avx9000"),
        ({BUILD_KEY: {"cpu_features": 3}}, "does not say"),
        ({BUILD_KEY: None}, "does not say"),
        ({CARD_KEY: None}, CARD_KEY),
    ],
    ids=str,
)
def test_what_is_for_another_machine_is_refused_before_it_is_loaded(
    artefact: Path, tmp_path: Path, entries: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.aoti_load_package", None)
    with pytest.raises(ArtifactError, match=said):
        load_engine(changed(artefact, tmp_path, **entries), device="cpu", num_threads=1)


@pytest.mark.parametrize("changes", [{"num_frames": 4}, {"taps": []}, {"graph": LABELS_GRAPH}, {"streams": ["flow"]}])
def test_a_card_that_lies_about_the_graph_is_refused(artefact: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="not that of its card"):
        load_engine(changed(artefact, tmp_path, **{CARD_KEY: changes}), device="cpu", num_threads=1)


def test_another_device_and_a_broken_file_are_refused(artefact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="CPU"):
        load_engine(artefact, device="cuda:0", num_threads=1)
    with zipfile.ZipFile(artefact) as old, zipfile.ZipFile(tmp_path / "m.aoti", "w") as new:
        for entry in old.infolist():
            if "/extra/" in entry.filename:
                new.writestr(entry, old.read(entry))
    with pytest.raises(ArtifactError, match="cannot load the graph"):
        load_engine(tmp_path / "m.aoti", device="cpu", num_threads=1)


def test_it_says_what_it_was_compiled_for_and_holds_no_source(artefact: Path) -> None:
    build = json.loads(str(read_extra(artefact, key=BUILD_KEY)))
    assert build["torch"] == torch.__version__
    assert build["cpu_features"] == sorted(cpu_features())
    with zipfile.ZipFile(artefact) as file:
        assert not [name for name in file.namelist() if name.endswith((".cpp", ".py"))]
        # Every kernel takes the threads it is given, though it was compiled with one.
        (native,) = [file.read(name) for name in file.namelist() if name.endswith(".so")]
    assert b"omp_get_thread_num" in native


def test_without_a_compiler_it_says_what_to_install() -> None:
    missing = {"cpp.cxx": (None, "no-such-compiler")}
    with torch._inductor.config.patch(missing), pytest.raises(ArtifactError, match=r"g\+\+") as caught:
        compile_package(torch.nn.Softplus(), inputs=(torch.zeros(2, 3),))
    assert "compiler" in caught.value.got.lower()
