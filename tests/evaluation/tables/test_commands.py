"""Each table's command on a miniature tree of its data set's own format, from annotation file to printed row, with a
random resnext-mini of small clips as exported."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tests.evaluation.tables import trees
from tests.evaluation.tables.in_process import InProcess

from sum3dcam.evaluation.commands import evaluate_command
from sum3dcam.evaluation.tables import commands, run
from sum3dcam.evaluation.tables.report import figure
from sum3dcam.export.joint import explain_graph
from sum3dcam.export.onnx import to_model, write_onnx
from sum3dcam.export.prepare import prepare
from sum3dcam.models.checkpoints import WeightsCard, save_weights
from sum3dcam.serving.engines import load_engine

LABELS = ("Basketball", "brush_hair", "catch", "Diving", "goldfish", "tench")
SIZE_PX = 32


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory):
    """{name: file}: exported, but not past the parity gate, which takes longer than all else here."""
    folder = tmp_path_factory.mktemp("artefacts")
    labels = folder / "labels.txt"
    labels.write_text("\n".join(LABELS))
    made = {}
    for name, wanted in {
        "video": {"gates": ()},
        "all gated": {},
        "image": {"gates": (), "num_frames": 1, "preprocessing": "squash"},
    }.items():
        with torch.random.fork_rng():
            prepared = prepare("resnext-mini", random_seed=0, labels=labels, size_px=SIZE_PX, **wanted)
        graph = explain_graph(prepared.classifier, taps=prepared.card.taps, clip_BTHWC=prepared.example_clip())
        made[name] = folder / f"{name.replace(' ', '-')}.onnx"
        write_onnx(to_model(graph, card=prepared.card), made[name], card=prepared.card)
    return made


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(number, data, *arguments):
    words = ["--table", str(number), "--data", str(data), "--threads", "1", *map(str, arguments)]
    return CliRunner().invoke(evaluate_command, words)


def rows_of(path):
    return {row["name"]: row for row in json.loads(Path(path).read_text())["rows"]}


def printed(result, *, row, line):
    """The cells of a row's line as printed, without intervals."""
    lines = result.output.splitlines()
    start = next(index for index, text in enumerate(lines) if text.startswith(f"│ {row} "))
    found = next(text for text in lines[start:] if f"│ {line} " in text)
    return [cell.split()[0] for cell in found.strip("│").split("│")[2:]]


@pytest.mark.parametrize(
    ("number", "tree", "network", "row", "frames"),
    [
        (3, trees.jhmdb, "video", "Sum3DCAM all taps", 36),
        (4, trees.jhmdb, "video", "3DCAM layer2", 36),
        (5, trees.jhmdb, "video", "Sum3DCAM conv+layer1", 36),
        (6, trees.ucf24, "video", "Sum3DCAM conv+layer1+2+3", 34),
        (7, trees.ilsvrc, "image", "Sum 2DCAM layer2+3+4", 2),
    ],
)
def test_a_table_of_maps_goes_from_annotations_to_the_printed_row(
    number, tree, network, row, frames, artefacts, workplace
):
    data = tree(workplace / "data")
    wanted = ("--json", "out/t.json", "--csv", "out/t.csv", "--picture", "out/t.png")
    result = evaluate(number, data, "--artifact", artefacts[network], *wanted)
    assert result.exit_code == 0, result.output
    told = json.loads(Path("out/t.json").read_text())
    assert told["counts"]["frames"] == frames
    (artifact,) = told["artifacts"].values()
    assert artifact["file"] == artefacts[network].name
    assert str(workplace) not in Path("out/t.json").read_text()
    measured = rows_of("out/t.json")[row]["served box"]
    # Read back from the terminal: what is printed is what was measured.
    assert printed(result, row=row, line="served box") == [figure(value["value"]) for value in measured.values()]
    known = rows_of("out/t.json")[row]["paper"]
    assert printed(result, row=row, line="paper") == [figure(known.get(column, float("nan"))) for column in measured]
    for name in ("Full frame", "Centre box 0.7"):
        assert "box" in rows_of("out/t.json")[name]
    assert Path("out/t.csv").read_text().count("\n") > len(measured)
    assert Path("out/t.png").read_bytes().startswith(b"\x89PNG")


def test_boxes_of_maps_are_measured_on_the_frames_that_they_explain(artefacts, workplace):
    """Oracle: what holds for any map. The best of every frame is never below one threshold, nor Acc2 above Acc."""
    result = evaluate(4, trees.jhmdb(workplace / "data"), "--artifact", artefacts["video"], "--json", "t.json")
    assert result.exit_code == 0, result.output
    rows = rows_of("t.json")
    for name, row in rows.items():
        if "oracle" in row:
            for column, oracle in row["oracle"].items():
                assert oracle["value"] >= row["one threshold"][column]["value"], (name, column)
            for theta in (".5", ".6"):
                for line in ("served box", "one threshold", "oracle"):
                    assert row[line][f"{theta} Acc2"]["value"] <= row[line][theta]["value"]
    # The square is 80 of 240 pixels: no box that fills the frame reaches IoU .5.
    assert rows["Full frame"]["box"][".5"]["value"] == 0.0


def test_the_authors_settings_are_another_run(artefacts, workplace):
    data = trees.jhmdb(workplace / "data")
    for name, arguments in {"ours": (), "theirs": ("--author-settings",)}.items():
        result = evaluate(3, data, "--artifact", artefacts["video"], "--json", f"{name}.json", *arguments)
        assert result.exit_code == 0, result.output
    assert "--author-settings" in json.loads(Path("theirs.json").read_text())["command"]
    assert len(list(Path("build/tables").glob("table3-*.jsonl"))) == 2


class Killed(BaseException):
    """What no handler may catch."""


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(killed_at, artefacts, workplace, monkeypatch):
    data = trees.ucf24(workplace / "data")
    command = (6, data, "--artifact", artefacts["video"])
    whole = evaluate(*command, "--journal", "whole.jsonl", "--json", "whole.json")
    assert whole.exit_code == 0, whole.output
    read, seen, last = run.read_annotated, [], killed_at

    def dies(one, **how):
        seen.append(one.key)
        if len(seen) == last:
            raise Killed
        return read(one, **how)

    monkeypatch.setattr(run, "read_annotated", dies)
    with pytest.raises(Killed):
        evaluate(*command, "--journal", "cut.jsonl")
    seen.clear()
    last = None
    resumed = evaluate(*command, "--journal", "cut.jsonl", "--json", "cut.json")
    assert resumed.exit_code == 0, resumed.output
    assert len(seen) == 3 - killed_at
    assert Path("cut.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert rows_of("cut.json") == rows_of("whole.json")


def test_trivial_boxes_come_from_annotations_alone(workplace):
    """UCF101-24 by hand: videos are not read, boxes are in the source and cut off at a square of 240 at x = 40."""
    data = trees.ucf24(workplace / "data")
    for path in data.rglob("*.avi"):
        path.unlink()
    result = evaluate(6, data, "--baselines-only", "--json", "t.json")
    assert result.exit_code == 0, result.output
    # Uncropped, 34 frames: the square has 6400 of 76800 pixels (.083) in all but ten, where half the frame is (.5).
    assert printed(result, row="Full frame, uncropped", line="box")[:6] == [
        "1.000",
        ".294",
        ".294",
        ".294",
        ".294",
        ".294",
    ]
    # Cropped: half the frame becomes 120 of 240 columns (.5). The first square lies inside, 6400 / 57600 = .111; the
    # second begins at x = 80 + 8 * frame and ends beyond 280 from frame 16 on: 72, then 64 columns: .1 and .089.
    cropped = printed(result, row="Full frame", line="box")
    assert cropped == ["1.000", figure(33 / 34), *[figure(10 / 34)] * 4, figure((1 + 33 / 34 + 40 / 34) / 6)]
    assert printed(result, row="the paper's best Sum3DCAM row", line="paper")[:2] == [".835", ".676"]


def test_networks_are_compared_each_in_the_row_of_its_gates(artefacts, workplace):
    data = trees.hmdb51(workplace / "data")
    files = [word for name in ("all gated", "video") for word in ("--artifact", artefacts[name])]
    result = evaluate(9, data, *files, "--json", "t.json", "--picture", "t.png")
    assert result.exit_code == 0, result.output
    told = json.loads(Path("t.json").read_text())
    assert told["counts"] == {"videos": 3, "clips": 4}
    assert {row: facts["file"] for row, facts in told["artifacts"].items()} == {
        "gated conv+layer1+2+3+4": "all-gated.onnx",
        "ResNeXt-101": "video.onnx",
    }
    # Two of three videos, and two of four clips, are of the most frequent class.
    assert printed(result, row="Most frequent class", line="measured") == [".500", ".667"]
    for row in ("ResNeXt-101", "gated conv+layer1+2+3+4"):
        assert printed(result, row=row, line="paper") == ["-", "-"]
        assert len(printed(result, row=row, line="measured")) == 2


def test_table_10_takes_a_row_by_its_gates_or_by_its_name(artefacts, workplace):
    data = trees.hmdb51(workplace / "data")
    result = evaluate(
        10, data, "--artifact", artefacts["video"], "--artifact", f"gated layer2+3={artefacts['all gated']}"
    )
    assert result.exit_code == 0, result.output
    assert len(printed(result, row="I3D", line="measured")) == 2
    assert len(printed(result, row="gated layer2+3", line="measured")) == 2
    # Told below the table, which breaks lines.
    assert "Not measured: gated layer3, gated layer2, gated layer1+2+3, rgb+flow gated layer3" in " ".join(
        result.output.split()
    )


def test_weights_are_exported_once_with_the_data_sets_labels(workplace, monkeypatch):
    data = trees.hmdb51(workplace / "data")
    card = WeightsCard("resnext-mini", ("class_0", "class_1"), gates=(), num_frames=16, size_px=SIZE_PX)
    (workplace / "labels.txt").write_text("class_0\nclass_1\n")
    labels = workplace / "labels.txt"
    made = prepare("resnext-mini", random_seed=0, labels=labels, gates=(), size_px=SIZE_PX).classifier
    save_weights(Path("net.safetensors"), network=made.network, card=card)
    exported = []

    def export_pair(prepared, output):
        exported.append(prepared.card.labels)
        graph = explain_graph(prepared.classifier, taps=prepared.card.taps, clip_BTHWC=prepared.example_clip())
        for path in (output, output.with_suffix(".labels.onnx")):
            write_onnx(to_model(graph, card=prepared.card), path, card=replace(prepared.card))

    monkeypatch.setattr("sum3dcam.export.artefacts.export_pair", export_pair)
    for _ in range(2):
        result = evaluate(9, data, "--weights", "net.safetensors")
        assert result.exit_code == 0, result.output
    assert exported == [("brush_hair", "catch")]
    assert len(printed(result, row="ResNeXt-101", line="measured")) == 2


def test_a_served_artefact_gives_the_row_of_the_artefact(artefacts, workplace, monkeypatch):
    """Oracle: the artefact itself. Asked of the predictor that a server runs; the transports have their own tests."""
    data = trees.jhmdb(workplace / "data")
    engine = load_engine(artefacts["video"], device="cpu", num_threads=1)
    monkeypatch.setattr(commands, "connect", lambda connection: InProcess(engine, engine))
    for name, at in {"local": (), "served": ("--url", "http://127.0.0.1:9")}.items():
        result = evaluate(4, data, "--artifact", artefacts["video"], "--json", f"{name}.json", *at)
        assert result.exit_code == 0, result.output
    assert rows_of("served.json") == rows_of("local.json")
    told = json.loads(Path("served.json").read_text())
    assert "--url http://127.0.0.1:9 --model resnext-mini" in told["command"]
    assert [facts["engine"] for facts in told["artifacts"].values()] == ["http"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((6,), "give the network as --artifact FILE"),
        ((6, "--baselines-only", "--dataset", "jhmdb"), "table 6 is of ucf24, got jhmdb"),
        ((9, "--baselines-only"), "an accuracy has no baseline"),
        ((6, "--artifact", "nowhere.onnx"), "no such file: nowhere.onnx"),
        ((6, "--baselines-only", "--split", "test9"), "test9"),
    ],
)
def test_what_does_not_go_together_is_said(arguments, said, workplace):
    number, *rest = arguments
    result = evaluate(number, trees.ucf24(workplace / "data"), *rest)
    assert result.exit_code != 0
    assert said in " ".join(result.output.split())


def test_a_class_that_the_network_does_not_know_is_said(artefacts, workplace):
    data = trees.hmdb51(workplace / "data")
    for path in sorted((data / "testTrainMulti_7030_splits").glob("catch*")):
        path.rename(path.with_name(path.name.replace("catch", "juggle")))
    (data / "hmdb51_org/catch").rename(data / "hmdb51_org/juggle")
    result = evaluate(9, data, "--artifact", artefacts["video"])
    assert result.exit_code == 1
    assert "1 of the data set's classes (juggle, ...) are none of the artefact's 6" in result.output


def test_maps_are_evaluated_without_a_table_on_any_data_set_with_boxes(artefacts, workplace):
    data = trees.jhmdb(workplace / "data")
    words = ["--artifact", str(artefacts["video"]), "--data", str(data), "--dataset", "jhmdb", "--json", "e.json"]
    result = CliRunner().invoke(evaluate_command, words)
    assert result.exit_code == 0, result.output
    told = json.loads(Path("e.json").read_text())
    assert (told["counts"]["videos"], told["counts"]["frames"], told["data"]["kind"]) == (2, 36, "JHMDB")
    assert "--dataset jhmdb" in told["command"]


def test_a_tables_options_without_a_table_are_refused(artefacts, workplace):
    result = CliRunner().invoke(
        evaluate_command, ["--data", ".", "--artifact", str(artefacts["video"]), "--author-settings"]
    )
    assert result.exit_code == 1
    assert "without --table" in result.output
