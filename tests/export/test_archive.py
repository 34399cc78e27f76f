"""Archives: what is packed, what is refused, and that an old one stays until the new one is whole."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from sum3dcam.artefact import read_card
from sum3dcam.contract import CARD_KEY, Card
from sum3dcam.digests import SUMS, check_archive
from sum3dcam.errors import ArtifactError
from sum3dcam.export.archive import build_archive, labels_path

ROOT = Path(__file__).resolve().parents[2]
HANDLER = ROOT / "handlers" / "sum3dcam_handler.py"
CONFIG = ROOT / "serve_config" / "model-config.yaml"


def make_card(graph: str, *, weights_sha256: str = "0" * 64, precision: str = "fp32") -> Card:
    return Card(
        graph=graph,
        model="m",
        labels=("a",),
        num_frames=4,
        size_px=16,
        streams=("rgb",),
        frames_per_second=None,
        preprocessing="shorter-side-centre-crop",
        taps=(),
        gates=(),
        weights_sha256=weights_sha256,
        package_version="0",
        precision=precision,
    )


def write_onnx(path: Path, card: Card | None) -> Path:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value])
    graph.output[0].name = "y"
    model = helper.make_model(graph)
    if card is not None:
        helper.set_model_props(model, {CARD_KEY: card.to_json()})
    onnx.save(model, path)
    return path


def write_zip(path: Path, card: Card | None) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{path.stem}/data.pkl", b"")
        if card is not None:
            file.writestr(f"{path.stem}/extra/{CARD_KEY}", card.to_json())
    return path


WRITERS = {".onnx": write_onnx, ".pt": write_zip, ".pt2": write_zip}


@pytest.fixture(params=WRITERS)
def artifact(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """model.onnx, model.pt or model.pt2, with its labels graph beside it."""
    path = tmp_path / f"model{request.param}"
    WRITERS[request.param](path, make_card("explain"))
    WRITERS[request.param](labels_path(path), make_card("labels"))
    return path


def build(artifact: Path, output: Path, *, name: str = "served") -> Path:
    return build_archive(artifact, name=name, version="2.1", output=output, handler=HANDLER, config=CONFIG)


def test_archive_holds_both_graphs_handler_and_configuration(artifact: Path, tmp_path: Path) -> None:
    path = build(artifact, tmp_path / "new" / "store")
    assert path == tmp_path / "new" / "store" / "served.mar"
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))["model"]
        assert archive.read(artifact.name) == artifact.read_bytes()
        assert archive.read(labels_path(artifact).name) == labels_path(artifact).read_bytes()
    packed = {artifact.name, labels_path(artifact).name, HANDLER.name, CONFIG.name}
    assert names == {*packed, "MAR-INF/MANIFEST.json", SUMS}
    assert (manifest["modelName"], manifest["modelVersion"], manifest["handler"]) == ("served", "2.1", HANDLER.name)
    assert manifest["configFile"] == CONFIG.name


def test_nothing_but_the_archive_is_left_and_an_old_one_is_replaced(artifact: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "served.mar").write_bytes(b"old")
    build(artifact, store)
    assert sorted(path.name for path in store.iterdir()) == ["served.mar", "served.mar.sha256"]
    check_archive(store / "served.mar")


def test_a_folder_of_the_models_name_in_tmp_survives(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The archiver removes TMPDIR/NAME before it starts.
    precious = tmp_path / "tmp" / "served"
    precious.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(precious.parent))
    build(artifact, tmp_path / "store")
    assert precious.exists()


@pytest.mark.parametrize("which", ["explain", "labels"])
def test_artefact_without_a_card_is_refused_and_the_old_archive_stays(
    which: str, artifact: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    old = build(artifact, store).read_bytes()
    WRITERS[artifact.suffix](artifact if which == "explain" else labels_path(artifact), None)
    with pytest.raises(ArtifactError, match=CARD_KEY):
        build(artifact, store)
    assert (store / "served.mar").read_bytes() == old


@pytest.mark.parametrize("difference", [{"weights_sha256": "1" * 64}, {"precision": "bf16"}])
def test_labels_graph_of_other_weights_is_refused(difference: dict[str, str], artifact: Path, tmp_path: Path) -> None:
    WRITERS[artifact.suffix](labels_path(artifact), make_card("labels", **difference))
    with pytest.raises(ArtifactError, match="other weights"):
        build(artifact, tmp_path)


def test_labels_graph_in_place_of_the_explain_graph_is_refused(artifact: Path, tmp_path: Path) -> None:
    WRITERS[artifact.suffix](artifact, make_card("labels"))
    with pytest.raises(ArtifactError, match="explain graph is expected"):
        build(artifact, tmp_path)


def test_missing_labels_graph_is_named(artifact: Path, tmp_path: Path) -> None:
    labels_path(artifact).unlink()
    with pytest.raises(ArtifactError, match="no such artefact") as caught:
        build(artifact, tmp_path)
    assert caught.value.got == labels_path(artifact).name


@pytest.mark.parametrize("name", ["a b", "../up", ""])
def test_name_that_torchserve_refuses_is_an_error(name: str, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        build(artifact, tmp_path, name=name)


@pytest.mark.parametrize("name", ["nonsense.onnx", "nonsense.pt", "nonsense.pt2", "model.tflite"])
def test_other_files_have_no_card(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"nonsense")
    with pytest.raises(ArtifactError):
        read_card(tmp_path / name)


def test_command_packs_and_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    artifact = write_onnx(tmp_path / "model.onnx", make_card("explain"))
    command = [sys.executable, "export/to_mar.py", "--artifact", str(artifact), "--name", "served"]
    command += ["--version", "1.0", "--output", str(tmp_path / "store")]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: no such artefact")
    write_onnx(labels_path(artifact), make_card("labels"))
    packed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert packed.returncode == 0, packed.stderr
    assert (tmp_path / "store" / "served.mar").exists()
