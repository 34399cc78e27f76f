"""What a training starts from: the base's own answers, or a head that it may not keep."""

from pathlib import Path

import pytest
import torch

from sum3dcam.errors import CheckpointError
from sum3dcam.models import NETWORKS, build_network
from sum3dcam.models.checkpoints import WeightsCard, load_state, load_weights, save_weights
from sum3dcam.training.origin import freeze, from_base, from_nothing

MODEL = "resnext-mini"
LABELS = ("bow", "kick", "wave")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain network that has names for its classes."""
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    torch.manual_seed(1)
    card = WeightsCard(model=MODEL, labels=LABELS, gates=(), num_frames=8, size_px=32)
    save_weights(path, network=from_nothing(card).classifier.network, card=card)
    return path


def clip() -> torch.Tensor:
    return torch.randint(0, 256, (2, 8, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def test_a_freshly_gated_base_answers_as_the_base_bit_for_bit(base: Path) -> None:
    plain = from_base(base, labels=LABELS).classifier.eval()
    gated = from_base(base, labels=LABELS, gates=("conv", "layer3"))
    with torch.inference_mode():
        assert torch.equal(plain(clip())[0], gated.classifier.eval()(clip())[0])
    assert (gated.card.gates, gated.has_new_head) == (("conv", "layer3"), False)


def test_the_head_keeps_its_own_order_of_labels(base: Path) -> None:
    assert from_base(base, labels=LABELS[::-1]).card.labels == LABELS


def test_a_public_checkpoint_names_no_classes_and_takes_the_data_sets(tmp_path: Path) -> None:
    network = build_network(NETWORKS[MODEL], num_classes=3, num_frames=16)
    torch.save({"state_dict": {f"module.{key}": value for key, value in network.state_dict().items()}}, tmp_path / "a")
    origin = from_base(tmp_path / "a", labels=("z", "a", "b"))
    assert (origin.card.labels, origin.has_new_head) == (("z", "a", "b"), False)


@pytest.mark.parametrize("labels", [("a", "b", "c"), ("a", "b", "c", "d", "e")], ids=["other", "more"])
def test_for_other_classes_the_head_is_new_and_all_below_it_is_the_bases(base: Path, labels: tuple[str, ...]) -> None:
    origin = from_base(base, labels=labels, gates=("layer1",))
    assert (origin.card.labels, origin.has_new_head) == (labels, True)
    before, after = load_weights(base).state, origin.classifier.network.base.state_dict()  # type: ignore[union-attr]
    for key, tensor in before.items():
        assert (
            (key in ("fc.weight", "fc.bias")) != torch.equal(tensor, after[key])
            if after[key].shape == tensor.shape
            else key.startswith("fc.")
        ), key


def test_a_gated_base_gives_its_body_to_other_classes_and_its_gates_to_the_same(base: Path, tmp_path: Path) -> None:
    gated = from_base(base, labels=LABELS, gates=("layer2",))
    torch.nn.init.ones_(gated.classifier.network.gates["layer2"].fc.bias)  # type: ignore[union-attr,index]
    save_weights(tmp_path / "gated.safetensors", network=gated.classifier.network, card=gated.card)
    same, other = (from_base(tmp_path / "gated.safetensors", labels=labels) for labels in (LABELS, ("a", "b")))
    assert same.classifier.network.gates["layer2"].fc.bias.tolist() == [1, 1, 1]  # type: ignore[union-attr,index]
    assert other.classifier.network.gates["layer2"].fc.bias.tolist() == [0, 0]  # type: ignore[union-attr,index]
    load_state(other.classifier.network.base.layer4, gated.classifier.network.base.layer4.state_dict())  # type: ignore[union-attr]


def test_only_gates_learn_when_asked_for(base: Path) -> None:
    origin = from_base(base, labels=LABELS, gates=("layer1", "layer4"))
    freeze(origin, trainable="gates")
    learning = {name for name, tensor in origin.classifier.named_parameters() if tensor.requires_grad}
    assert learning == {f"network.gates.{tap}.fc.{part}" for tap in ("layer1", "layer4") for part in ("weight", "bias")}


def test_gates_that_are_not_there_and_heads_that_know_nothing_are_refused(base: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no gates to train; give --gates"):
        freeze(from_base(base, labels=LABELS), trainable="gates")
    with pytest.raises(CheckpointError, match=r"head is new.*--trainable all"):
        freeze(from_base(base, labels=("a", "b"), gates=("layer4",)), trainable="gates")


def test_a_network_of_flow_is_refused(tmp_path: Path) -> None:
    card = WeightsCard(model="i3d-flow", labels=("a", "b"), gates=(), num_frames=8, size_px=32)
    save_weights(tmp_path / "flow", network=build_network(NETWORKS["i3d-flow"], num_classes=2, num_frames=8), card=card)
    with pytest.raises(CheckpointError, match="RGB alone"):
        from_base(tmp_path / "flow", labels=("a", "b"))
