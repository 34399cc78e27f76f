"""benchmarks/engines.py and report.py: what is wrong is not timed, what moved is said."""

import json
import os
from pathlib import Path
from typing import Any

import engines
import numpy as np
import pytest
import report
import torch
from click.testing import CliRunner
from subjects import LABELS, LAYERS, MAPS, Subject, outputs_of

from sum3dcam.export.prepare import Prepared, prepare, random_clips

SMALL = ["--frames", "8", "--size", "32", "--batch", "1", "--repeats", "3", "--threads", "1"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of everything on the small network."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "ARTIFACTS", folder / "artifacts")
        path = folder / "engines.json"
        threads = torch.get_num_threads()
        run = CliRunner().invoke(
            engines.main,
            [*SMALL, "--peers", "--precisions", "fp32,bf16", "--output", str(path)],
            catch_exceptions=False,
        )
        torch.set_num_threads(threads)
    assert run.exit_code == 0, run.output
    assert "left out" not in run.stderr
    return path


def test_every_program_answers_what_it_is_asked_for(results: Path) -> None:
    found = json.loads(results.read_text())
    programs: dict[str, set[str]] = {}
    for row in found["seconds_per_clip"]:
        programs.setdefault(row["kind"], set()).add(f"{row['name']} {row['precision']}")
        assert len(row["samples"]) == 3
        assert min(row["samples"]) > 0
    ours = {"onnxruntime fp32", "openvino fp32"}
    assert programs[LABELS] == ours | {"eager fp32", "eager bf16"}
    assert programs[MAPS] == ours | {"eager, one backward fp32", "eager, one backward bf16"}
    assert programs[LAYERS] == programs[MAPS] | {"captum fp32", "pytorch-grad-cam fp32"}
    flop = found["flop_per_clip"]
    assert flop[LABELS] < flop[LAYERS] < flop[MAPS] < 2 * flop[LABELS]


def test_artefacts_are_kept_until_the_code_that_makes_them_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def export(prepared: Prepared, path: Path, *, oracle: object) -> None:
        made.append(path.name)
        path.touch()
        path.with_suffix(f".labels{path.suffix}").touch()

    monkeypatch.setattr(engines, "export_pair", export)
    monkeypatch.setattr(engines, "reference", lambda prepared: None)
    prepared = prepare("resnext-mini", random_seed=0, num_frames=8, size_px=32)
    for _ in range(2):
        (path,) = engines.build_artifacts(prepared, formats=[".onnx"], folder=tmp_path)
    assert made == [path.name]
    os.utime(path, (0, 0))
    engines.build_artifacts(prepared, formats=[".onnx"], folder=tmp_path)
    assert made == [path.name] * 2


@pytest.mark.parametrize("fault", ["class", "tap", "layout"])
def test_wrong_answers_are_left_out_and_said(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = prepare("resnext-mini", random_seed=0, num_frames=8, size_px=32)
    wanted = outputs_of(made.card)[LAYERS]
    (right,) = [s for s in engines.eager_subjects(made, device="cpu", precision="fp32") if s.kind == LAYERS]

    def wrong(clips: np.ndarray, targets: np.ndarray) -> Any:
        if fault == "class":
            return right.run(clips, (targets + 1) % len(made.card.labels))
        answer = right.run(clips, targets)
        if fault == "layout":
            return {name: np.ascontiguousarray(np.swapaxes(grid, 2, 3)) for name, grid in answer.items()}
        return dict(zip(wanted, [answer[wanted[0]] * 2, *list(answer.values())[1:]], strict=True))

    clips = random_clips(2, num_frames=8, size_px=32, num_channels=3, seed=1)
    targets = np.array([0, 1])
    kept = engines.same_answers([Subject("wrong", LAYERS, wrong), right], clips, targets, prepared=made)
    assert [subject.name for subject in kept] == [right.name]
    assert "left out: wrong" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("required", "code"), [("1", 1), ("0", 0)])
def test_without_a_gpu_nothing_is_measured_and_where_one_is_required_that_fails(
    required: str, code: int, tmp_path: Path
) -> None:
    output = tmp_path / "gpu.json"
    run = CliRunner().invoke(
        engines.main, ["--device", "cuda:0", "--output", str(output)], env={"REQUIRE_GPU": required}
    )
    assert run.exit_code == code
    assert "no GPU" in run.stderr
    assert not output.exists()


@pytest.mark.parametrize(("factor", "code", "said"), [(1.0, 0, "none"), (3.0, 1, "worse"), (1 / 3, 0, "better")])
def test_a_program_that_became_slower_than_eager_by_a_third_is_told(
    factor: float, code: int, said: str, results: Path, tmp_path: Path
) -> None:
    now = json.loads(results.read_text())
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "engines.json").write_text(json.dumps(now))
    for row in now["seconds_per_clip"]:
        if row["name"] == "openvino" and row["kind"] == MAPS:
            row["samples"] = [factor * seconds for seconds in row["samples"]]
    path, page = tmp_path / "now.json", tmp_path / "page.html"
    path.write_text(json.dumps(now))
    run = CliRunner().invoke(report.main, [str(path), "--against", str(tmp_path / "before"), "--page", str(page)])
    assert run.exit_code == code, run.output
    assert said in run.output
    assert "openvino" in page.read_text()


def test_results_of_another_network_are_not_compared(results: Path, tmp_path: Path) -> None:
    other = json.loads(results.read_text()) | {"model": "other"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    run = CliRunner().invoke(report.main, [str(results), "--against", str(tmp_path)])
    assert run.exit_code == 0
    assert "moved" not in run.output
