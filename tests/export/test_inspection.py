"""`sum3dcam inspect`: what a checkpoint, an artefact, an archive or a network is, and its layer table."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.oracle import i3d, plain, tiny

from sum3dcam.__main__ import main
from sum3dcam.errors import ArtifactError, CheckpointError
from sum3dcam.export.artefacts import export_pair
from sum3dcam.export.inspection import inspect, layers
from sum3dcam.models import NETWORKS
from sum3dcam.serving.engines import load_engine

ROOT = Path(__file__).parents[2]

# The paper's Table 1 for 16x112x112 clips. It prints T=8 for conv: with a stem of time stride 1 it is 16.
TABLE_1 = {
    "conv": (64, 16, 56, 56),
    "layer1": (256, 8, 28, 28),
    "layer2": (512, 4, 14, 14),
    "layer3": (1024, 2, 7, 7),
    "layer4": (2048, 1, 4, 4),
}
# The paper's Table 2 for 64x224x224 clips.
TABLE_2 = {"layer1": (480, 32, 28, 28), "layer2": (832, 16, 14, 14), "layer3": (1024, 8, 7, 7)}


def run(*words: str) -> str:
    done = CliRunner().invoke(main, ["inspect", *words], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("model", "num_frames", "size_px", "table"), [("resnext101", 16, 112, TABLE_1), ("i3d", 64, 224, TABLE_2)]
)
def test_the_layer_tables_are_the_papers(
    model: str, num_frames: int, size_px: int, table: dict[str, tuple[int, ...]]
) -> None:
    rows = layers(NETWORKS[model], num_classes=51, num_frames=num_frames, size_px=size_px)
    outputs = {row.tap: row.output_cthw for row in rows if row.tap}
    assert {tap: outputs[tap] for tap in table} == table
    assert tuple(outputs) == NETWORKS[model].taps


def test_a_layer_table_counts_every_parameter_once() -> None:
    for model, parameters in (("resnext101", 47_625_715), ("i3d", 12_339_539), ("resnext-mini", 538_467)):
        gates = NETWORKS[model].default_gates
        rows = layers(NETWORKS[model], num_classes=51, num_frames=16, size_px=64, gates=gates)
        gate_parameters = sum(row.parameters for row in rows if row.name.startswith("gate"))
        assert sum(row.parameters for row in rows) - gate_parameters == parameters, model


def test_the_layers_of_both_streams_are_shown() -> None:
    rows = layers(NETWORKS["i3d-two-stream"], num_classes=5, num_frames=16, size_px=64, gates=("flow_layer3",))
    assert [row.name for row in rows if row.tap] == [
        f"{stream}.{name}"
        for stream in ("rgb", "flow")
        for name in ("Conv3d_1a_7x7", "Mixed_3c", "Mixed_4f", "Mixed_5c")
    ]
    assert rows[-1].name == "gate flow_layer3"


def test_a_block_is_told_by_its_kernels() -> None:
    rows = {row.name: row for row in layers(NETWORKS["resnext101"], num_classes=51, num_frames=16, size_px=112)}
    assert rows["conv1"].convolutions == "7x7x7 64 stride 1x2x2"
    assert rows["layer2"].convolutions == "4 x [1x1x1 256, 3x3x3 256 in 32 groups stride 2x2x2, 1x1x1 512]"


def test_a_checkpoint_is_told_from_its_content(tmp_path: Path) -> None:
    state = i3d.random_state(num_classes=157, num_channels=2, seed=1)
    i3d.write_checkpoint(tmp_path / "rgb_imagenet.pt", state, layout="b")
    (found,) = inspect(str(tmp_path / "rgb_imagenet.pt"))
    assert found.kind == "weights"
    assert found.facts["network"] == "i3d-flow"
    assert found.facts["layout"] == "kinetics_i3d_pytorch"
    assert found.facts["classes"] == "157 (Charades)"
    assert len(found.facts["sha256"]) == 64


@pytest.mark.parametrize("suffix", [".onnx", ".pt", ".pt2"])
def test_an_artefact_shows_its_card_and_its_parity(tmp_path: Path, suffix: str) -> None:
    prepared = tiny.prepared(tiny.Case(gates=("layer2",)))
    path = tmp_path / f"m{suffix}"
    rows = export_pair(prepared, path)
    # The names in the rows are those under which a server will look for its own.
    for row in rows[0][:-1]:
        device = "cuda:0" if "cuda" in row["provider"].lower() else "cpu"
        engine = load_engine(path, device=device, num_threads=1, engine=row["engine"])
        assert engine.card.parity_row(engine.name, provider=engine.provider) == row
    (found,) = inspect(str(path))
    assert found.kind == "artefact, explain graph"
    assert found.parity == rows[0]
    assert found.facts["gates"] == "layer2"
    assert found.facts["clip"] == "8 frames of 32x32 px"
    shown = run(str(path))
    assert "parity against float64 autograd" in shown
    assert all(row["engine"] in shown for row in found.parity)


def test_the_command_prints_layers_and_writes_json(tmp_path: Path) -> None:
    shown = run("resnext101", "--layers", "--json", str(tmp_path / "i.json"))
    assert "23 x [1x1x1 512" in shown
    assert "48,340,816" in shown
    (content,) = json.loads((tmp_path / "i.json").read_text())
    assert content["layers"][0]["output_cthw"] == [64, 16, 56, 56]


def test_gates_are_counted_one_by_one() -> None:
    shown = run(str(ROOT / "export/weights/resnext-mini.safetensors"))
    assert "539,500 (base 527,930, gate conv 1,290" in shown


def test_what_is_nothing_of_these_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("not a checkpoint")
    for what in (str(tmp_path / "x.txt"), str(tmp_path / "none"), "resnet18", str(tmp_path)):
        with pytest.raises(CheckpointError):
            inspect(what)
    (tmp_path / "x.onnx").write_bytes(b"\x08\x08")
    with pytest.raises(ArtifactError):
        inspect(str(tmp_path / "x.onnx"))
    done = CliRunner().invoke(main, ["inspect", str(tmp_path / "x.txt")])
    assert done.exit_code == 1
    assert "Traceback" not in done.output


def test_a_released_checkpoint_names_its_data_set(tmp_path: Path) -> None:
    plain.write_checkpoint(tmp_path / "w", num_classes=101, seed=1)
    (found,) = inspect(str(tmp_path / "w"))
    assert found.facts["classes"] == "101 (UCF101)"
    assert found.facts["layout"] == "3D-ResNets-PyTorch (2018)"
