"""Triton model repositories: what Triton would read there is what the ONNX files are."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from tests.oracle import tiny, triton_config

from sum3dcam.contract import CARD_KEY, LABELS_GRAPH, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.export.archive import labels_path
from sum3dcam.export.joint import explain_graph, labels_graph
from sum3dcam.export.onnx import to_model, write_onnx
from sum3dcam.export.triton import Serving, build_repository

ROOT = Path(__file__).resolve().parents[2]
CASE = tiny.Case(taps=("conv", "layer4"), num_frames=9, size_px=33)


def export(path: Path, *, weights_sha256: str = "0" * 64) -> Path:
    made = tiny.prepared(CASE)
    clip = made.example_clip()
    card = replace(made.card, labels=('a "b"', "c\\d", "é", "{}", "#"), weights_sha256=weights_sha256)
    explain = explain_graph(made.classifier, taps=card.taps, clip_BTHWC=clip)
    write_onnx(to_model(explain, card=card), path, card=card)
    card = replace(card, graph=LABELS_GRAPH)
    write_onnx(to_model(labels_graph(made.classifier, clip_BTHWC=clip), card=card), labels_path(path), card=card)
    return path


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("triton") / "m.onnx")


def build(artifact: Path, output: Path, *, name: str = "m", version: int = 1, **serving: object) -> tuple[Path, Path]:
    return build_repository(
        artifact,
        name=name,
        version=version,
        output=output,
        serving=Serving(**serving),  # type: ignore[arg-type]
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_both_graphs_lie_where_triton_looks_and_as_they_were_exported(artifact: Path, tmp_path: Path) -> None:
    folders = build(artifact, tmp_path / "new" / "repository")
    assert folders == (tmp_path / "new" / "repository" / "m", tmp_path / "new" / "repository" / "m-labels")
    found = files(tmp_path / "new")
    assert found.pop("repository/m/1/model.onnx") == artifact.read_bytes()
    assert found.pop("repository/m-labels/1/model.onnx") == labels_path(artifact).read_bytes()
    assert set(found) == {"repository/m/config.pbtxt", "repository/m-labels/config.pbtxt"}


def test_triton_would_accept_each_configuration_for_its_graph(artifact: Path, tmp_path: Path) -> None:
    for folder in build(artifact, tmp_path / "r"):
        config = triton_config.parse((folder / "config.pbtxt").read_text())
        triton_config.check(config, folder_name=folder.name, model=onnx.load(folder / "1" / "model.onnx"))


def test_shapes_and_types_are_those_that_onnx_runtime_reports(artifact: Path, tmp_path: Path) -> None:
    kinds = {"tensor(uint8)": "TYPE_UINT8", "tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
    for folder in build(artifact, tmp_path / "r"):
        text = (folder / "config.pbtxt").read_text()
        session = onnxruntime.InferenceSession(folder / "1" / "model.onnx", providers=["CPUExecutionProvider"])
        for side, infos in (("input", session.get_inputs()), ("output", session.get_outputs())):
            for info in infos:
                dims = ", ".join(str(size) for size in info.shape[1:]) or "1"
                assert f'{side} {{ name: "{info.name}" data_type: {kinds[info.type]} dims: [ {dims} ]' in text


def test_one_number_per_clip_is_a_column_on_the_wire(artifact: Path, tmp_path: Path) -> None:
    explain, labels = (
        triton_config.parse((folder / "config.pbtxt").read_text()) for folder in build(artifact, tmp_path / "r")
    )
    tensors = {tensor.name: tensor for tensor in (*explain.input, *explain.output)}
    reshaped = {name for name, tensor in tensors.items() if tensor.HasField("reshape")}
    assert reshaped == {"target", "explained"}
    assert [tensor.name for tensor in labels.input] == ["clip"]
    assert list(tensors["clip"].dims) == [9, 33, 33, 3]


@pytest.mark.parametrize(("device", "kind"), [("cpu", "KIND_CPU"), ("gpu", "KIND_GPU")])
def test_what_was_asked_for_stands_in_the_configuration(device: str, kind: str, artifact: Path, tmp_path: Path) -> None:
    asked = {"device": device, "instances": 3, "max_batch_size": 5, "max_queue_delay_us": 700}
    for folder in build(artifact, tmp_path / "r", version=12, **asked):
        config = triton_config.parse((folder / "config.pbtxt").read_text())
        (group,) = config.instance_group
        assert (group.kind, group.count) == (triton_config.KINDS[kind], 3)
        assert config.max_batch_size == 5
        assert config.dynamic_batching.max_queue_delay_microseconds == 700
        assert list(config.version_policy.specific.versions) == [12]


def test_the_card_can_be_read_from_a_running_triton(artifact: Path, tmp_path: Path) -> None:
    for folder in build(artifact, tmp_path / "r"):
        config = triton_config.parse((folder / "config.pbtxt").read_text())
        (entry,) = config.parameters
        session = onnxruntime.InferenceSession(folder / "1" / "model.onnx", providers=["CPUExecutionProvider"])
        assert entry.key == CARD_KEY
        assert entry.value.string_value == session.get_modelmeta().custom_metadata_map[CARD_KEY]
        assert Card.from_json(entry.value.string_value).labels[:2] == ('a "b"', "c\\d")


def test_the_parser_of_these_tests_refuses_what_triton_would() -> None:
    for text in ("nam: 'm'", "max_batch_size: 'x'", "input { dims: [ 1 }", "instance_group { kind: KIND_TPU }"):
        with pytest.raises(text_format.ParseError):
            triton_config.parse(text)


def test_a_new_version_leaves_the_old_one_and_takes_over(artifact: Path, tmp_path: Path) -> None:
    build(artifact, tmp_path / "r")
    before = files(tmp_path / "r")
    other = export(tmp_path / "other.onnx", weights_sha256="1" * 64)
    folders = build(other, tmp_path / "r", version=2)
    after = files(tmp_path / "r")
    for folder in folders:
        assert after[f"{folder.name}/1/model.onnx"] == before[f"{folder.name}/1/model.onnx"]
        assert after[f"{folder.name}/2/model.onnx"] != before[f"{folder.name}/1/model.onnx"]
        config = triton_config.parse(after[f"{folder.name}/config.pbtxt"].decode())
        assert list(config.version_policy.specific.versions) == [2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.labels.onnx", "other.onnx", "r"]


@pytest.mark.parametrize("which", ["m", "m-labels"])
def test_a_version_that_is_there_is_not_overwritten(which: str, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "r" / which / "1").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="has this version"):
        build(artifact, tmp_path / "r")
    assert files(tmp_path) == {}


def test_a_copy_that_fails_leaves_the_repository_as_it_was(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(artifact, tmp_path / "r")
    before = files(tmp_path)

    def fail(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("shutil.copyfile", fail)
    for name, version in (("m", 2), ("n", 1)):
        with pytest.raises(OSError, match="no space"):
            build(artifact, tmp_path / "r", name=name, version=version)
    assert files(tmp_path) == before


def test_wrong_artefacts_are_refused_and_nothing_is_written(artifact: Path, tmp_path: Path) -> None:
    pair = export(tmp_path / "pair.onnx", weights_sha256="1" * 64)
    (tmp_path / "m.pt").write_bytes(b"")
    mixed = tmp_path / "mixed.onnx"
    mixed.write_bytes(artifact.read_bytes())
    labels_path(mixed).write_bytes(labels_path(pair).read_bytes())
    swapped = tmp_path / "swapped.onnx"
    swapped.write_bytes(labels_path(artifact).read_bytes())
    labels_path(swapped).write_bytes(artifact.read_bytes())
    lonely = tmp_path / "lonely.onnx"
    lonely.write_bytes(artifact.read_bytes())
    for path, said in (
        (tmp_path / "m.pt", "wants an .onnx"),
        (mixed, "other weights or another precision"),
        (swapped, "explain graph is expected"),
        (lonely, "no such artefact"),
    ):
        with pytest.raises(ArtifactError, match=said):
            build(path, tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("name", ["", "a b", "../up", "a/b", ".hidden", 'a"b'])
def test_a_name_that_is_no_folders_is_refused(name: str, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="name"):
        build(artifact, tmp_path / "r", name=name)


def test_the_command_writes_and_says_in_one_line_what_is_wrong(artifact: Path, tmp_path: Path) -> None:
    command = [sys.executable, "export/to_triton.py", "--artifact", str(artifact), "--name", "served"]
    command += ["--output", str(tmp_path / "r"), "--device", "gpu"]
    written = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert written.returncode == 0, written.stderr
    folders = [tmp_path / "r" / name for name in ("served", "served-labels")]
    assert written.stdout.splitlines() == [str(folder / "1") for folder in folders]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: the repository has this version")
