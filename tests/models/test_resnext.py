"""The networks: sizes, grids, and the same numbers as a network written from METHOD.md alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.oracle import plain, tiny

from sum3dcam.models import NETWORKS, Classifier, build_network, measure_taps
from sum3dcam.models.checkpoints import build_classifier, load_weights


@pytest.mark.parametrize("legacy", [True, False], ids=["as released", "saved again"])
def test_a_released_checkpoint_gives_the_oracles_logits_and_taps(tmp_path: Path, legacy: bool) -> None:
    """Oracle: `plain`, in float64 on a small clip; 1e-6 of each largest value, since the package keeps its pixel
    means in float32."""
    path = tmp_path / "released.pth"
    plain.write_checkpoint(path, num_classes=7, seed=1, legacy=legacy)
    weights = load_weights(path, model="resnext101")
    assert weights.card.labels == tuple(f"class_{index}" for index in range(7))
    clips = plain.random_clips(1, size_px=32, num_frames=8, seed=2)
    with torch.no_grad():
        classifier = build_classifier(weights).double()
        logits, taps = classifier(torch.from_numpy(clips))
        wanted_taps, wanted = plain._forward(plain.load(path, dtype=torch.float64), torch.from_numpy(clips).double())
    assert tiny.relative_error(logits.numpy(), wanted.detach().numpy()) <= 1e-6
    assert tuple(taps) == plain.TAPS
    for name, tap in taps.items():
        assert tiny.relative_error(tap.numpy(), wanted_taps[name].detach().numpy()) <= 1e-6, name


@pytest.mark.parametrize(("num_classes", "parameters"), [(51, 47_625_715), (400, 48_340_816), (101, 47_728_165)])
def test_resnext101_has_the_released_number_of_parameters(num_classes: int, parameters: int) -> None:
    with torch.device("meta"):
        network = build_network(NETWORKS["resnext101"], num_classes=num_classes, num_frames=16)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    keys = [key for key in network.state_dict() if not key.endswith("num_batches_tracked")]
    assert len(keys) == 522


def test_pixel_statistics_are_those_of_the_release() -> None:
    spec = NETWORKS["resnext101"]
    assert (spec.mean, spec.std) == (plain.MEAN, (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("num_frames", "size_px", "grids"),
    [
        (16, 112, [(16, 56, 56), (8, 28, 28), (4, 14, 14), (2, 7, 7), (1, 4, 4)]),
        (16, 224, [(16, 112, 112), (8, 56, 56), (4, 28, 28), (2, 14, 14), (1, 7, 7)]),
        (64, 112, [(64, 56, 56), (32, 28, 28), (16, 14, 14), (8, 7, 7), (4, 4, 4)]),
        (17, 33, [(17, 17, 17), (9, 9, 9), (5, 5, 5), (3, 3, 3), (2, 2, 2)]),
        (1, 32, [(1, 16, 16), (1, 8, 8), (1, 4, 4), (1, 2, 2), (1, 1, 1)]),
    ],
)
def test_grids_halve_as_in_the_method(num_frames: int, size_px: int, grids: list[tuple[int, int, int]]) -> None:
    network = build_network(tiny.spec(), num_classes=2, num_frames=num_frames)
    taps = measure_taps(network, spec=tiny.spec(), num_frames=num_frames, size_px=size_px)
    assert [tap.grid_thw for tap in taps] == grids
    assert [tap.channels for tap in taps] == [4, 8, 8, 16, 16]


def test_measuring_taps_leaves_the_network_as_it_was() -> None:
    network = build_network(tiny.spec(), num_classes=2, num_frames=8)
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    measure_taps(network, spec=tiny.spec(), num_frames=8, size_px=32)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_classifier_normalises_each_channel_with_its_own_mean_and_std() -> None:
    class Recorder(torch.nn.Module):
        def forward(self, clip_BCTHW: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
            return clip_BCTHW, {}

    clip = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3)).astype(np.uint8)
    normalised, _ = Classifier(Recorder(), mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0))(torch.from_numpy(clip))
    wanted = (clip.astype(np.float64) - [10, 20, 30]) / [2, 4, 8]
    np.testing.assert_allclose(normalised.numpy(), wanted.transpose(0, 4, 1, 2, 3), rtol=0, atol=1e-5)
