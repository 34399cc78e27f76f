"""export/to_onnx.py, to_torchscript.py and to_pt2.py as they are typed, on a network of a thousandth of the size.

NETWORKS is the only thing replaced: options, gate, files and messages are the real ones.
"""

import importlib.util
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from tests.oracle import tiny

from sum3dcam.contract import CARD_KEY, GRIDS, LABELS_GRAPH, Card
from sum3dcam.errors import ParityError
from sum3dcam.export import certificate
from sum3dcam.export.prepare import prepare
from sum3dcam.models import NETWORKS
from sum3dcam.models.checkpoints import WeightsCard, save_weights

ROOT = Path(__file__).resolve().parents[2]
LABELS = ("run", "walk", "jump", "wave", "still")
SCRIPTS = {".onnx": "to_onnx", ".pt": "to_torchscript", ".pt2": "to_pt2"}


@pytest.fixture(autouse=True)
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(NETWORKS, "resnext101", tiny.spec())  # type: ignore[arg-type]
    monkeypatch.setitem(NETWORKS, "resnext-mini", tiny.spec(default_gates=("layer3",)))  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript as a whole
        yield


def script(suffix: str) -> click.Command:
    path = ROOT / "export" / f"{SCRIPTS[suffix]}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    command: click.Command = module.main
    return command


def export(output: Path, *options: str, suffix: str | None = None, size: str = "32", frames: str = "8") -> Result:
    arguments = [*options, "--output", str(output)]
    if "--frames" not in options:
        arguments += ["--frames", frames]
    if "--size" not in options:
        arguments += ["--size", size]
    return CliRunner(env={"COLUMNS": "200"}).invoke(script(suffix or output.suffix), arguments)


def read_card(path: Path) -> Card:
    if path.suffix == ".onnx":
        return Card.from_json({prop.key: prop.value for prop in onnx.load(path).metadata_props}[CARD_KEY])
    extra = {CARD_KEY: ""}
    if path.suffix == ".pt":
        torch.jit.load(str(path), _extra_files=extra)
    else:
        torch.export.load(path, extra_files=extra)
    return Card.from_json(extra[CARD_KEY])


def run(path: Path, clips: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    card = read_card(path)
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        given = {"clip": clips, "target": target}
        values = session.run(card.outputs, {info.name: given[info.name] for info in session.get_inputs()})
        return dict(zip(card.outputs, values, strict=True))
    module = torch.jit.load(str(path)) if path.suffix == ".pt" else torch.export.load(path).module()
    inputs = (torch.from_numpy(clips), torch.from_numpy(target))[: 2 if len(card.outputs) > 1 else 1]
    return {name: value.numpy() for name, value in zip(card.outputs, module(*inputs), strict=True)}


@pytest.fixture
def base_weights(tmp_path: Path) -> Path:
    path = tmp_path / "base.safetensors"
    facts = WeightsCard(model="resnext-mini", labels=LABELS, gates=(), num_frames=8, size_px=32)
    save_weights(path, network=tiny.classifier(tiny.Case()).network, card=facts)
    return path


@pytest.fixture
def gated_weights(tmp_path: Path) -> Path:
    path = tmp_path / "gated.safetensors"
    facts = WeightsCard(model="resnext-mini", labels=LABELS, gates=("layer3",), num_frames=8, size_px=32)
    save_weights(path, network=tiny.classifier(tiny.Case(gates=("layer3",))).network, card=facts)
    return path


@pytest.mark.parametrize("suffix", SCRIPTS)
def test_weights_become_two_files_with_signed_cards(tmp_path: Path, gated_weights: Path, suffix: str) -> None:
    output = tmp_path / "out" / f"m{suffix}"
    done = export(output, "--model", "resnext-mini", "--weights", str(gated_weights))
    assert done.exit_code == 0, done.output
    labels = tmp_path / "out" / f"m.labels{suffix}"
    assert sorted(output.parent.iterdir()) == sorted([output, labels])
    card, labels_card = read_card(output), read_card(labels)
    assert (card.model, card.labels, card.gates) == ("resnext-mini", LABELS, ("layer3",))
    assert card.clip_shape_THWC == (8, 32, 32, 3)
    assert card.weights_sha256 == labels_card.weights_sha256
    assert len(card.weights_sha256) == 64
    assert labels_card.graph == LABELS_GRAPH
    row, labels_row = card.parity[0], labels_card.parity[0]
    assert row["saliency_mean_error"] < 1e-4
    assert "saliency_mean_error" not in labels_row
    clips, target = tiny.clips(tiny.Case(), num_clips=3), np.array([-1, 2, 0])
    got = run(output, clips, target)
    made = tiny.prepared(tiny.Case(gates=("layer3",)))
    for name, wanted in tiny.answers(made, clips, target).items():
        assert tiny.relative_error(got[name], wanted) <= 1e-4, name
    assert tiny.relative_error(run(labels, clips, target)["logits"], got["logits"]) <= 1e-5


def test_the_table_says_how_good_each_file_is(tmp_path: Path, base_weights: Path) -> None:
    done = export(tmp_path / "m.onnx", "--model", "resnext-mini", "--weights", str(base_weights), "--taps", "layer4")
    for word in ("parity", "m.onnx", "m.labels.onnx", "onnxruntime", "100%"):
        assert word in done.stdout


@pytest.mark.parametrize("suffix", SCRIPTS)
def test_without_weights_it_refuses_and_says_what_to_add(tmp_path: Path, suffix: str) -> None:
    done = export(tmp_path / f"m{suffix}", "--model", "resnext-mini")
    assert done.exit_code != 0
    assert "--weights" in done.output
    assert "--random-weights" in done.output
    assert list(tmp_path.iterdir()) == []


def test_weights_and_a_seed_together_are_refused(tmp_path: Path, base_weights: Path) -> None:
    done = export(
        tmp_path / "m.onnx", "--model", "resnext-mini", "--weights", str(base_weights), "--random-weights", "0"
    )
    assert done.exit_code != 0
    assert "--random-weights" in done.output


def test_a_refusal_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    """The real script in a real process."""
    done = subprocess.run(
        [sys.executable, ROOT / "export" / "to_onnx.py", "--model", "resnext101", "--output", tmp_path / "m.onnx"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().startswith("bad_checkpoint: ")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--taps", "layer9"], ["no such tap", "layer9", "layer4"]),
        (["--taps", "conv,"], []),
        (["--taps", "none"], ["no such tap"]),
        (["--gates", "layer9"], ["no such gate", "layer9"]),
        (["--gates", "conv"], ["other gates", "conv", "layer3"]),
        (["--gates", "none"], ["other gates", "layer3"]),
        (["--frames", "16"], ["clip length", "16", "8"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("--") else "",
)
def test_what_the_weights_cannot_give_is_refused(
    tmp_path: Path, gated_weights: Path, options: list[str], words: list[str]
) -> None:
    output = tmp_path / "m.onnx"
    done = export(output, "--model", "resnext-mini", "--weights", str(gated_weights), *options)
    if not words:
        assert done.exit_code == 0, done.output
        return
    assert done.exit_code == 1
    assert all(word in done.output for word in words), done.output
    assert not output.exists()


@pytest.mark.parametrize(
    ("output", "suffix"), [("m.pt", ".onnx"), ("m.onnx", ".pt"), ("m", ".onnx"), ("m.ONNX", ".onnx"), ("m.pt", ".pt2")]
)
def test_a_name_with_another_ending_is_refused(tmp_path: Path, output: str, suffix: str) -> None:
    done = export(tmp_path / output, "--model", "resnext-mini", "--random-weights", "0", suffix=suffix)
    assert done.exit_code == 2
    assert suffix in done.output
    assert "--output" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "resnet18", "--random-weights", "0"],
        ["--model", "resnext-mini", "--random-weights", "x"],
        ["--model", "resnext-mini", "--random-weights", "0", "--frames", "0"],
        ["--model", "resnext-mini", "--random-weights", "0", "--size", "16"],
        ["--model", "i3d", "--random-weights", "0", "--fusion", "product"],
        ["--model", "i3d", "--random-weights", "0", "--preprocessing", "stretch"],
        ["--model", "i3d", "--random-weights", "0", "--frames-per-second", "0"],
    ],
    ids=" ".join,
)
def test_bad_options_are_usage_errors(tmp_path: Path, options: list[str]) -> None:
    assert export(tmp_path / "m.onnx", *options).exit_code == 2


def test_random_weights_of_no_model_are_refused(tmp_path: Path) -> None:
    done = export(tmp_path / "m.onnx", "--random-weights", "0")
    assert done.exit_code == 1
    assert "--model NAME --random-weights SEED" in done.output


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("a\nb\nc\nd\n", ["another number of classes", "4", "5"]),
        ("a\nb\nc\nd\nd\n", ["different label", "d"]),
        ("a\n\nc\nd\ne\n", ["different label"]),
        ("", ["different label"]),
        (None, ["cannot be read"]),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    tmp_path: Path, base_weights: Path, lines: str | None, words: list[str]
) -> None:
    labels = tmp_path / "labels.txt"
    if lines is not None:
        labels.write_text(lines, encoding="utf-8")
    options = ["--model", "resnext-mini", "--weights", str(base_weights), "--labels", str(labels)]
    done = export(tmp_path / "m.onnx", *options)
    assert done.exit_code == 1
    assert all(word in done.output for word in words), done.output


def test_a_label_file_names_the_classes(tmp_path: Path, base_weights: Path) -> None:
    (tmp_path / "labels.txt").write_text("ä\r\nzwei Wörter\nc\nd\ne\n\n", encoding="utf-8")
    options = ["--weights", str(base_weights), "--labels", str(tmp_path / "labels.txt"), "--taps", "layer4"]
    done = export(tmp_path / "m.onnx", "--model", "resnext-mini", *options)
    assert done.exit_code == 0, done.output
    assert read_card(tmp_path / "m.onnx").labels == ("ä", "zwei Wörter", "c", "d", "e")


@pytest.mark.parametrize("suffix", SCRIPTS)
def test_chosen_taps_alone_are_explained_in_the_networks_order(tmp_path: Path, base_weights: Path, suffix: str) -> None:
    output = tmp_path / f"m{suffix}"
    done = export(output, "--model", "resnext-mini", "--weights", str(base_weights), "--taps", "layer3, layer1")
    assert done.exit_code == 0, done.output
    card = read_card(output)
    assert card.tap_names == ("layer1", "layer3")
    assert len(card.outputs) == 3 + 2 * len(GRIDS)
    clips, target = tiny.clips(tiny.Case(), num_clips=1), np.array([-1])
    wanted = tiny.answers(tiny.prepared(tiny.Case(taps=("layer1", "layer3"))), clips, target)
    got = run(output, clips, target)
    assert tiny.relative_error(got["saliency"], wanted["saliency"]) <= 1e-4


@pytest.mark.parametrize("suffix", SCRIPTS)
def test_base_weights_take_fresh_gates_and_keep_their_logits(tmp_path: Path, base_weights: Path, suffix: str) -> None:
    output = tmp_path / f"m{suffix}"
    options = ["--model", "resnext-mini", "--weights", str(base_weights), "--gates", "conv,layer4", "--taps", "layer4"]
    done = export(output, *options)
    assert done.exit_code == 0, done.output
    assert read_card(output).gates == ("conv", "layer4")
    clips = tiny.clips(tiny.Case(), num_clips=2)
    wanted = tiny.answers(tiny.prepared(tiny.Case(taps=("layer4",))), clips, np.array([-1, -1]))
    assert tiny.relative_error(run(output, clips, np.array([-1, -1]))["logits"], wanted["logits"]) <= 1e-5


def test_base_weights_take_fresh_gates_at_any_clip_length(tmp_path: Path, base_weights: Path) -> None:
    options = ["--weights", str(base_weights), "--gates", "conv", "--frames", "12", "--taps", "layer4"]
    done = export(tmp_path / "m.onnx", "--model", "resnext-mini", *options)
    assert done.exit_code == 0, done.output
    assert read_card(tmp_path / "m.onnx").num_frames == 12


@pytest.mark.parametrize(
    ("suffix", "frames", "size", "grids"),
    [
        (".onnx", "32", "64", [(32, 32, 32), (2, 2, 2)]),
        (".pt", "32", "64", [(32, 32, 32), (2, 2, 2)]),
        (".onnx", "5", "50", [(5, 25, 25), (1, 2, 2)]),
    ],
)
def test_other_lengths_and_sizes_export(
    tmp_path: Path, suffix: str, frames: str, size: str, grids: list[tuple[int, int, int]]
) -> None:
    output = tmp_path / f"m{suffix}"
    options = ["--random-weights", "3", "--taps", "conv,layer4", "--frames", frames, "--size", size]
    done = export(output, "--model", "resnext-mini", *options)
    assert done.exit_code == 0, done.output
    card = read_card(output)
    assert card.clip_shape_THWC == (int(frames), int(size), int(size), 3)
    assert [tap.grid_thw for tap in card.taps] == grids
    got = run(output, np.zeros((2, *card.clip_shape_THWC), np.uint8), np.array([-1, 0]))
    assert got["saliency"].shape == (2, int(frames), int(size), int(size))


def test_random_weights_say_so(tmp_path: Path) -> None:
    done = export(tmp_path / "m.onnx", "--model", "resnext-mini", "--random-weights", "3", "--taps", "layer4")
    assert done.exit_code == 0, done.output
    card = read_card(tmp_path / "m.onnx")
    assert card.weights_sha256 == "random-weights-3"
    assert card.gates == ("layer3",)
    assert len(card.labels) == 51


def test_random_weights_are_of_their_seed_and_disturb_no_other_randomness() -> None:
    def make(seed: int) -> dict[str, torch.Tensor]:
        made = prepare("resnext-mini", random_seed=seed, num_frames=8, size_px=32)
        return made.classifier.state_dict()

    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    first, again, other = make(0), make(0), make(4)
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.base.conv1.weight"], other["network.base.conv1.weight"])


@pytest.mark.parametrize("suffix", SCRIPTS)
def test_an_export_that_fails_the_gate_writes_nothing(
    tmp_path: Path, base_weights: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = certificate.compare

    def fail_labels(answers: Any, **given: Any) -> Any:
        figures, misses = right(answers, **given)
        return figures, misses if "explained" in answers else [ParityError("injected", got=1, allowed=0)]

    monkeypatch.setattr(certificate, "compare", fail_labels)
    (tmp_path / "out").mkdir()
    done = export(tmp_path / "out" / f"m{suffix}", "--model", "resnext-mini", "--weights", str(base_weights))
    assert done.exit_code == 1
    assert done.output.strip().startswith(f"parity: m.labels{suffix} in ")
    assert "injected" in done.output
    assert list((tmp_path / "out").iterdir()) == []
