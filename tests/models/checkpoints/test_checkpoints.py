"""Weights files: every layout reads, everything else is refused in words, and no code in a file runs."""

import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.oracle import tiny
from torch import Tensor

from sum3dcam.errors import CheckpointError
from sum3dcam.models import NETWORKS, build_network
from sum3dcam.models.checkpoints import (
    CARD_KEY,
    WeightsCard,
    build_classifier,
    load_state,
    load_weights,
    save_weights,
)
from sum3dcam.models.residual import TAPS

LABELS = ("run", "walk", "jump", "wave", "still")


@pytest.fixture(autouse=True)
def tiny_resnext101(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code on a network of a thousandth of the size."""
    monkeypatch.setitem(NETWORKS, "resnext101", tiny.spec())  # type: ignore[arg-type]


def card(**changes: Any) -> WeightsCard:
    return replace(WeightsCard(model="resnext101", labels=LABELS, gates=(), num_frames=8, size_px=32), **changes)


def released(path: Path, *, change: Any = None) -> dict[str, Tensor]:
    """Writes a tiny network in the released layout; `change` edits the state dict first."""
    network = tiny.classifier(tiny.Case()).network
    state = {f"module.{k}": v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    if change is not None:
        change(state)
    torch.save({"epoch": 1, "arch": "resnext-101", "state_dict": state, "optimizer": {}}, path)
    return state


def logits(classifier: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        answer: Tensor = classifier(torch.from_numpy(tiny.clips(tiny.Case(), num_clips=2)))[0]
    return answer


def test_a_released_checkpoint_reads(tmp_path: Path) -> None:
    released(tmp_path / "w.pth")
    weights = load_weights(tmp_path / "w.pth", model="resnext101", num_frames=8, size_px=32)
    assert weights.card == card(labels=tuple(f"class_{index}" for index in range(5)))
    assert len(weights.sha256) == 64
    wanted = logits(tiny.classifier(tiny.Case()))
    assert torch.equal(logits(build_classifier(weights)), wanted)


@pytest.mark.parametrize("legacy", [True, False], ids=["bare pickle", "zip"])
@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize(
    "name",
    [
        "weights.pth",
        "weights",
        "weights.safetensors",
    ],
)
def test_a_bare_state_dict_reads_whatever_its_name(tmp_path: Path, name: str, prefix: str, legacy: bool) -> None:
    network = tiny.classifier(tiny.Case()).network
    path = tmp_path / name
    state = {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    classifier = build_classifier(load_weights(path, model="resnext101", num_frames=8))
    assert torch.equal(logits(classifier), logits(tiny.classifier(tiny.Case())))


@pytest.mark.parametrize("gates", [(), ("conv", "layer3")])
def test_own_weights_survive_their_round_trip(tmp_path: Path, gates: tuple[str, ...]) -> None:
    made = tiny.classifier(tiny.Case(gates=gates, fusion="mean"))
    path = tmp_path / "deep" / "w.safetensors"
    save_weights(path, network=made.network, card=card(gates=gates, fusion="mean"))
    weights = load_weights(path, model="resnext101")
    assert weights.card == card(gates=gates, fusion="mean")
    assert torch.equal(logits(build_classifier(weights)), logits(made))


def test_a_base_checkpoint_in_a_gated_network_answers_like_the_base_to_the_last_bit(tmp_path: Path) -> None:
    released(tmp_path / "w.pth")
    gated = load_weights(tmp_path / "w.pth", model="resnext101", gates=TAPS, num_frames=8)
    assert gated.card.gates == TAPS
    assert torch.equal(logits(build_classifier(gated)), logits(tiny.classifier(tiny.Case())))


def test_keys_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    def spoil(state: dict[str, Tensor]) -> None:
        del state["module.bn1.weight"]
        state["module.layer9.weight"] = torch.zeros(2, 3)
        state["module.conv1.weight"] = torch.zeros(4, 3, 7, 7, 7)

    released(tmp_path / "w.pth", change=spoil)
    with pytest.raises(CheckpointError, match="do not fit resnext101; the nearest network is resnext101") as caught:
        load_weights(tmp_path / "w.pth", model="resnext101", num_frames=8)
    assert caught.value.got == [
        "missing bn1.weight (4,)",
        "unexpected layer9.weight (2, 3)",
        "shape of conv1.weight: got (4, 3, 7, 7, 7), wanted (4, 3, 3, 3, 3)",
    ]


def test_a_long_list_is_cut_and_counted() -> None:
    network = build_network(tiny.spec(), num_classes=5, num_frames=8)
    with pytest.raises(CheckpointError) as caught:
        load_state(network, {})
    wanted = sum(not name.endswith("num_batches_tracked") for name in network.state_dict())
    assert len(caught.value.got) == 11
    assert caught.value.got[-1] == f"... and {wanted - 10} more"


def test_loading_that_fails_changes_nothing() -> None:
    network = build_network(tiny.spec(), num_classes=5, num_frames=8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    other = {name: torch.ones_like(tensor) for name, tensor in before.items() if name != "fc.bias"}
    with pytest.raises(CheckpointError):
        load_state(network, other)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "writer", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, writer: Any) -> None:
    fuse = tmp_path / "fuse"
    writer({"state_dict": {"fc.weight": _Bomb(fuse)}}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="could run code"):
        load_weights(tmp_path / "w.pth", model="resnext101")
    assert not fuse.exists()


@pytest.mark.parametrize("legacy", [True, False], ids=["bare pickle", "zip"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_checkpoint_that_is_cut_off_is_refused(tmp_path: Path, share: float, legacy: bool) -> None:
    state = {"fc.weight": torch.randn(5, 16), "big": torch.randn(64, 64)}
    torch.save({"state_dict": state}, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    content = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError):
        load_weights(tmp_path / "w.pth", model="resnext101")


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"not a checkpoint at all", bytes(64), b"\x80\x02garbage", b"PK\x03\x04garbage", b"\xff" * 200],
)
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(CheckpointError):
        load_weights(tmp_path / "w", model="resnext101")


@pytest.mark.parametrize(
    "length",
    [
        1,
        2,
        10,
    ],
)
def test_the_first_bytes_of_a_pickle_are_refused(tmp_path: Path, length: int) -> None:
    torch.save({"fc.weight": torch.zeros(5, 16)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "w.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:length])
    with pytest.raises(CheckpointError):
        load_weights(tmp_path / "w.pth", model="resnext101")


def test_own_weights_read_whatever_the_length_of_their_header(tmp_path: Path) -> None:
    """A safetensors file starts with its header's length, a multiple of 8: one in 32 starts with the byte 0x80."""
    network = tiny.classifier(tiny.Case()).network
    path = tmp_path / "w.safetensors"
    starts = set()
    for padding in range(0, 256, 8):
        labels = ("a" * (1 + padding), "b", "c", "d", "e")
        save_weights(path, network=network, card=card(labels=labels))
        starts.add(path.read_bytes()[0])
        assert load_weights(path, model="resnext101").card.labels == labels
    assert 0x80 in starts


@pytest.mark.parametrize("content", [3, [torch.zeros(2)], {"state_dict": {"fc.weight": 3}}, {"state_dict": 4}, {}])
def test_a_pickle_without_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError):
        load_weights(tmp_path / "w.pth", model="resnext101")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_weights(tmp_path / "w.pth", model="resnext101")
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_weights(tmp_path, model="resnext101")


def test_own_weights_cut_off_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, network=tiny.classifier(tiny.Case()).network, card=card())
    content = path.read_bytes()
    for share in (0.01, 0.5, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(CheckpointError):
            load_weights(path, model="resnext101")


def test_a_safetensors_without_our_header_is_a_public_checkpoint_like_any_other(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="do not fit resnext101"):
        load_weights(tmp_path / "w.safetensors", model="resnext101")
    network = tiny.classifier(tiny.Case()).network
    save_file(dict(network.state_dict()), tmp_path / "w.safetensors")
    weights = load_weights(tmp_path / "w.safetensors")
    assert (weights.card.model, weights.layout) == ("resnext101", "tiny")
    assert torch.equal(logits(build_classifier(weights)), logits(tiny.classifier(tiny.Case())))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        json.dumps({"labels": [], "gates": []}),
        '{"labels": 1, "gates": []}',
        *(
            json.dumps({**asdict(WeightsCard("resnext101", LABELS, (), 8, 32)), **change})
            for change in (
                {"model": "x"},
                {"labels": [1, 2]},
                {"gates": ["layer9"]},
                {"num_frames": "8"},
                {"size_px": 0},
                {"num_frames": True},
                {"fusion": "product"},
                {"more": 1},
            )
        ),
    ],
)
def test_a_weights_card_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={CARD_KEY: text})
    with pytest.raises(CheckpointError):
        load_weights(tmp_path / "w.safetensors", model="resnext101")


def test_another_models_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, network=tiny.classifier(tiny.Case()).network, card=card())
    with pytest.raises(CheckpointError, match="another model") as caught:
        load_weights(path, model="resnext-mini")
    assert (caught.value.got, caught.value.allowed) == ("resnext101", "resnext-mini")


def test_the_number_of_labels_must_be_the_number_of_classes(tmp_path: Path) -> None:
    released(tmp_path / "w.pth")
    named = load_weights(tmp_path / "w.pth", model="resnext101", labels=LABELS)
    assert named.card.labels == LABELS
    with pytest.raises(CheckpointError, match="number of classes") as caught:
        load_weights(tmp_path / "w.pth", model="resnext101", labels=LABELS[:4])
    assert (caught.value.got, caught.value.allowed) == (4, 5)


def test_gates_other_than_the_weights_are_refused(tmp_path: Path) -> None:
    made = tiny.classifier(tiny.Case(gates=("conv", "layer3")))
    path = tmp_path / "w.safetensors"
    save_weights(path, network=made.network, card=card(gates=("conv", "layer3")))
    assert load_weights(path, model="resnext101", gates=("layer3", "conv")).card.gates == ("conv", "layer3")
    for gates in ((), ("conv",), ("conv", "layer2")):
        with pytest.raises(CheckpointError, match="other gates"):
            load_weights(path, model="resnext101", gates=gates)


def test_a_head_of_another_network_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.head.weight": torch.zeros(3, 3)}}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="do not fit resnext101"):
        load_weights(tmp_path / "w.pth", model="resnext101")
