"""Files in exactly the public layouts: recognised without a hint, and the logits of networks written from METHOD.md.

Oracles: `plain` (ResNeXt-101), `i3d`, `resnet50`, which import nothing of the package, in float64 on the same state.
Tolerance 1e-6 of the largest value: the package keeps its pixel means in float32.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.oracle import i3d, plain, resnet50, tiny

from sum3dcam.errors import CheckpointError
from sum3dcam.models import NETWORKS, build_network, measure_taps
from sum3dcam.models.checkpoints import WeightsCard, build_classifier, load_weights, save_weights
from sum3dcam.models.gating import Gate, Gated

TOLERANCE = 1e-6
State = Mapping[str, torch.Tensor]
CHANNELS = {"i3d": 3, "i3d-flow": 2}


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    """One random state per network, with few classes."""
    return {
        name: i3d.random_state(num_classes=7, num_channels=channels, seed=1) for name, channels in CHANNELS.items()
    } | {"resnet50": resnet50.random_state(num_classes=9, seed=2)}


def clips(num_channels: int, *, num_frames: int = 9, size_px: int = 33) -> np.ndarray:
    rng = np.random.default_rng(5)
    return rng.integers(0, 256, (1, num_frames, size_px, size_px, num_channels)).astype(np.uint8)


def logits_and_taps(path: Path, clip_BTHWC: np.ndarray, **asked: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    classifier = build_classifier(load_weights(path, num_frames=clip_BTHWC.shape[1], **asked)).double()
    with torch.no_grad():
        logits, taps = classifier(torch.from_numpy(clip_BTHWC))
    return logits.numpy(), {name: tap.numpy() for name, tap in taps.items()}


def in_double(state: State) -> dict[str, torch.Tensor]:
    return {name: tensor.double() for name, tensor in state.items()}


@pytest.mark.parametrize("model", ["i3d", "i3d-flow"])
@pytest.mark.parametrize(("layout", "named"), [("a", "pytorch-i3d"), ("b", "kinetics_i3d_pytorch")])
@pytest.mark.parametrize(
    "container",
    [
        {},
        {"tracked": True, "prefix": "module.", "wrapped": True},
        {"legacy": True},
        {"legacy": True, "tracked": True, "prefix": "module.module.", "wrapped": True},
    ],
    ids=["plain", "wrapped", "legacy", "legacy wrapped"],
)
def test_both_layouts_of_i3d_are_recognised_and_give_the_oracles_logits(
    tmp_path: Path, states: dict[str, State], model: str, layout: Any, named: str, container: dict[str, Any]
) -> None:
    path = tmp_path / "resnext-101-kinetics.pth"  # a name says nothing
    i3d.write_checkpoint(path, states[model], layout=layout, **container)
    weights = load_weights(path)
    assert (weights.card.model, weights.layout) == (model, named)
    assert weights.card.labels == tuple(f"class_{index}" for index in range(7))
    clip = clips(CHANNELS[model])
    logits, taps = logits_and_taps(path, clip)
    wanted_taps, wanted = i3d.forward(in_double(states[model]), torch.from_numpy(clip).double())
    assert tiny.relative_error(logits, wanted.detach().numpy()) <= TOLERANCE
    for name, tap in taps.items():
        assert tiny.relative_error(tap, wanted_taps[name].detach().numpy()) <= TOLERANCE, name


@pytest.mark.parametrize("legacy", [True, False], ids=["as released", "saved again"])
def test_torchvisions_resnet50_is_recognised_and_gives_the_oracles_logits(
    tmp_path: Path, states: dict[str, State], legacy: bool
) -> None:
    resnet50.write_checkpoint(tmp_path / "w", states["resnet50"], legacy=legacy)
    weights = load_weights(tmp_path / "w")
    assert (weights.card.model, weights.layout) == ("resnet50", "torchvision")
    clip = clips(3, num_frames=1, size_px=65)
    logits, taps = logits_and_taps(tmp_path / "w", clip)
    wanted_taps, wanted = resnet50.forward(in_double(states["resnet50"]), torch.from_numpy(clip).double())
    assert tiny.relative_error(logits, wanted.detach().numpy()) <= TOLERANCE
    for name, tap in taps.items():
        assert tiny.relative_error(tap[:, :, 0], wanted_taps[name].detach().numpy().reshape(tap[:, :, 0].shape)) <= (
            TOLERANCE
        ), name


def test_resnext101_is_recognised_without_a_hint(tmp_path: Path) -> None:
    plain.write_checkpoint(tmp_path / "w", num_classes=7, seed=1)
    weights = load_weights(tmp_path / "w")
    assert (weights.card.model, weights.layout) == ("resnext101", "3D-ResNets-PyTorch (2018)")


@pytest.mark.parametrize("model", ["i3d", "resnet50"])
def test_a_base_checkpoint_in_a_gated_network_answers_like_the_base_to_the_last_bit(
    tmp_path: Path, states: dict[str, State], model: str
) -> None:
    torch.save(dict(states[model]), tmp_path / "w")
    clip = clips(3, num_frames=1 if model == "resnet50" else 9)
    base, _ = logits_and_taps(tmp_path / "w", clip, gates=())
    gated, _ = logits_and_taps(tmp_path / "w", clip, gates=NETWORKS[model].taps)
    np.testing.assert_array_equal(gated, base)


@pytest.mark.parametrize("swapped", [False, True])
def test_two_files_make_a_two_stream_network_in_either_order(
    tmp_path: Path, states: dict[str, State], swapped: bool
) -> None:
    i3d.write_checkpoint(tmp_path / "rgb", states["i3d"], layout="a")
    i3d.write_checkpoint(tmp_path / "flow", states["i3d-flow"], layout="b")
    paths = [tmp_path / "rgb", tmp_path / "flow"]
    weights = load_weights(*(paths[::-1] if swapped else paths), num_frames=9)
    assert (weights.card.model, weights.layout) == ("i3d-two-stream", "pytorch-i3d + kinetics_i3d_pytorch")
    clip = clips(5)
    with torch.no_grad():
        logits, taps = build_classifier(weights).double()(torch.from_numpy(clip))
    rgb_taps, rgb = i3d.forward(in_double(states["i3d"]), torch.from_numpy(clip[..., :3]).double())
    flow_taps, flow = i3d.forward(in_double(states["i3d-flow"]), torch.from_numpy(clip[..., 3:]).double())
    assert tiny.relative_error(logits.numpy(), (rgb + flow).detach().numpy()) <= TOLERANCE
    assert tuple(taps) == NETWORKS["i3d-two-stream"].taps
    for name, tap in taps.items():
        stream, tap_name = name.split("_")
        wanted = {"rgb": rgb_taps, "flow": flow_taps}[stream][tap_name]
        assert tiny.relative_error(tap.numpy(), wanted.detach().numpy()) <= TOLERANCE, name


def test_gated_streams_join_to_a_gated_two_stream_network(tmp_path: Path, states: dict[str, State]) -> None:
    """The paper's last row: each stream gated on layer 3, trained apart. Oracle: the sum of the two alone."""
    clip, wanted, paths = clips(5), [], []
    for model, part in (("i3d", clip[..., :3]), ("i3d-flow", clip[..., 3:])):
        path = tmp_path / f"{model}.safetensors"
        torch.save(dict(states[model]), tmp_path / "base")
        loaded = load_weights(tmp_path / "base", gates=("layer3",), num_frames=9)
        classifier = build_classifier(loaded)
        for gate in (module for module in classifier.modules() if isinstance(module, Gate)):
            torch.nn.init.normal_(gate.fc.weight, std=0.1, generator=torch.Generator().manual_seed(3))
        save_weights(path, network=classifier.network, card=loaded.card)
        with torch.no_grad():
            wanted.append(classifier.double()(torch.from_numpy(np.ascontiguousarray(part)))[0].numpy())
        paths.append(path)
    joined = load_weights(*paths)
    assert joined.card.gates == ("rgb_layer3", "flow_layer3")
    with torch.no_grad():
        logits, _ = build_classifier(joined).double()(torch.from_numpy(clip))
    assert tiny.relative_error(logits.numpy(), sum(wanted)) <= 1e-12


def test_streams_whose_gates_are_averaged_are_not_joined(tmp_path: Path, states: dict[str, State]) -> None:
    """One mean over both streams' gates would not be the sum of the streams' logits."""
    paths = []
    for model in ("i3d", "i3d-flow"):
        torch.save(dict(states[model]), tmp_path / "base")
        loaded = load_weights(tmp_path / "base", gates=("layer3",), fusion="mean", num_frames=9)
        paths.append(tmp_path / f"{model}.safetensors")
        save_weights(paths[-1], network=build_classifier(loaded).network, card=loaded.card)
    with pytest.raises(CheckpointError, match="gates are added") as caught:
        load_weights(*paths)
    assert (caught.value.got, caught.value.allowed) == ("mean", "sum")


def test_files_that_make_up_no_network_are_refused(tmp_path: Path, states: dict[str, State]) -> None:
    for name, model in (("rgb", "i3d"), ("2d", "resnet50")):
        torch.save(dict(states[model]), tmp_path / name)
    with pytest.raises(CheckpointError, match="make up one network") as caught:
        load_weights(tmp_path / "rgb", tmp_path / "2d")
    assert caught.value.got == ["i3d", "resnet50"]
    with pytest.raises(CheckpointError, match="make up one network"):
        load_weights(tmp_path / "rgb", tmp_path / "rgb")


def test_streams_of_unlike_heads_are_refused(tmp_path: Path, states: dict[str, State]) -> None:
    torch.save(dict(states["i3d"]), tmp_path / "rgb")
    flow = dict(states["i3d-flow"])
    flow["logits.conv3d.weight"] = torch.zeros(5, 1024, 1, 1, 1)
    flow["logits.conv3d.bias"] = torch.zeros(5)
    torch.save(flow, tmp_path / "flow")
    with pytest.raises(CheckpointError, match="differ in their labels"):
        load_weights(tmp_path / "rgb", tmp_path / "flow")


def _without(state: State, key: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if name != key}


MISFITS: Mapping[str, tuple[Callable[[State], dict[str, torch.Tensor]], str]] = {
    "missing": (lambda s: _without(s, "Mixed_4b.b0.bn.weight"), "missing Mixed_4b.b0.bn.weight (192,)"),
    "unexpected": (lambda s: {**s, "head.bias": torch.zeros(3)}, "unexpected head.bias (3,)"),
    "wrongly shaped": (
        lambda s: {**s, "Mixed_4b.b0.bn.weight": torch.zeros(191)},
        "shape of Mixed_4b.b0.bn.weight: got (191,), wanted (192,)",
    ),
    "head without its bias": (lambda s: _without(s, "logits.conv3d.bias"), "missing logits.conv3d.bias (7,)"),
    "head of no rank": (
        lambda s: {**s, "logits.conv3d.weight": torch.zeros(())},
        "shape of logits.conv3d.weight: got (), wanted (400, 1024, 1, 1, 1)",
    ),
}


@pytest.mark.parametrize("change", MISFITS)
def test_a_misfit_is_listed_and_the_nearest_network_named(
    tmp_path: Path, states: dict[str, State], change: str
) -> None:
    spoil, line = MISFITS[change]
    torch.save(spoil(states["i3d"]), tmp_path / "w")
    for model in (None, "i3d"):
        with pytest.raises(CheckpointError, match="nearest network is i3d, with") as caught:
            load_weights(tmp_path / "w", model=model)
        assert line in caught.value.got


def test_another_network_than_asked_for_is_refused_and_the_right_one_named(
    tmp_path: Path, states: dict[str, State]
) -> None:
    torch.save(dict(states["i3d-flow"]), tmp_path / "w")
    with pytest.raises(CheckpointError, match="nearest network is i3d-flow, with 100%") as caught:
        load_weights(tmp_path / "w", model="i3d")
    shape = "shape of Conv3d_1a_7x7.conv3d.weight: got (64, 2, 7, 7, 7), wanted (64, 3, 7, 7, 7)"
    assert caught.value.got == [shape]


@pytest.mark.parametrize(
    ("model", "num_classes", "parameters"),
    [("i3d", 400, 12_697_264), ("i3d-flow", 400, 12_675_312), ("resnet50", 1000, 25_557_032)],
)
def test_the_networks_have_the_published_number_of_parameters(model: str, num_classes: int, parameters: int) -> None:
    with torch.device("meta"):
        network = build_network(NETWORKS[model], num_classes=num_classes, num_frames=NETWORKS[model].num_frames)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("model", "num_frames", "size_px", "grids"),
    [
        ("i3d", 64, 224, [(32, 112, 112), (32, 28, 28), (16, 14, 14), (8, 7, 7)]),
        ("i3d", 16, 224, [(8, 112, 112), (8, 28, 28), (4, 14, 14), (2, 7, 7)]),
        ("i3d", 1, 32, [(1, 16, 16), (1, 4, 4), (1, 2, 2), (1, 1, 1)]),
        ("i3d", 17, 47, [(9, 24, 24), (9, 6, 6), (5, 3, 3), (3, 2, 2)]),
        ("resnet50", 1, 224, [(1, 112, 112), (1, 56, 56), (1, 28, 28), (1, 14, 14), (1, 7, 7)]),
    ],
)
def test_grids_are_those_of_the_method(
    model: str, num_frames: int, size_px: int, grids: list[tuple[int, int, int]]
) -> None:
    spec = NETWORKS[model]
    with torch.device("meta"):
        network = build_network(spec, num_classes=2, num_frames=num_frames)
        taps = measure_taps(network, spec=spec, num_frames=num_frames, size_px=size_px)
    assert [tap.grid_thw for tap in taps] == grids


@pytest.mark.parametrize(
    ("model", "num_frames", "inputs"),
    [
        ("resnext101", 16, {"conv": 512, "layer1": 1024, "layer2": 1024, "layer3": 1024, "layer4": 2048}),
        ("i3d", 64, {"layer1": 7680, "layer2": 6656, "layer3": 4096}),
        ("i3d-two-stream", 64, {"rgb_layer3": 4096, "flow_layer3": 4096}),
    ],
)
def test_gates_have_the_methods_sizes(model: str, num_frames: int, inputs: Mapping[str, int]) -> None:
    with torch.device("meta"):
        network = build_network(NETWORKS[model], num_classes=51, num_frames=num_frames, gates=tuple(inputs))
    assert isinstance(network, Gated)
    found = {name: gate.fc.in_features for name, gate in network.gates.items() if isinstance(gate, Gate)}
    assert found == inputs


def test_a_weights_card_of_every_network_reads_back(tmp_path: Path) -> None:
    for model in ("resnext-mini", "i3d-flow"):
        spec = NETWORKS[model]
        network = build_network(spec, num_classes=3, num_frames=8, gates=spec.taps[-1:])
        card = WeightsCard(model, ("a", "b", "c"), spec.taps[-1:], num_frames=8, size_px=64, fusion="mean")
        save_weights(tmp_path / "w.safetensors", network=network, card=card)
        loaded = load_weights(tmp_path / "w.safetensors")
        assert loaded.card == card
        build_classifier(loaded)
