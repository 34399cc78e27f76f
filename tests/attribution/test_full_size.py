"""Every method on the full-size networks: random taps, targets, batch and clip sizes, plain and gated.

Oracle and tolerance: `tests.oracle.methods`, float64 autograd clip by clip. The joint graph is run in float64 too, so
that no flipped ReLU stands between the two: it must agree to 1e-9 of each grid's max (METHOD.md section 4).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from tests.oracle import tiny
from tests.oracle.methods import Differentiated, Explainer, differentiate, drawn_taps, served

from sum3dcam.attribution.maps import METHODS
from sum3dcam.contract import COORDINATES, EXPLAINED, LOGITS, TOP_CLASS, grid_name
from sum3dcam.export.prepare import prepare, random_clips
from sum3dcam.models import NETWORKS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

STRUCTURE_TOLERANCE = 1e-9
NUM_CLASSES = 51
ALL = ("conv", "layer1", "layer2", "layer3", "layer4")
# Network, gates, frames and pixels of a clip, clips in the batch; what is random is drawn from the case's own seed.
CASES = {
    "resnext101": ("resnext101", (), 16, 112, 1),
    "resnext101 gated": ("resnext101", ALL, 24, 64, 2),
    "i3d": ("i3d", (), 16, 80, 2),
    "i3d gated": ("i3d", ("layer1", "layer3"), 24, 64, 3),
}


@dataclass(frozen=True)
class Asked:
    seed: int
    taps: tuple[str, ...]
    outputs: Mapping[str, np.ndarray]
    oracle: tuple[Differentiated, ...]


@functools.cache
def asked(name: str) -> Asked:
    model, gates, num_frames, size_px, batch = CASES[name]
    seed = list(CASES).index(name)
    rng = np.random.default_rng(seed)
    taps = [tap for tap in NETWORKS[model].taps if rng.random() < 0.7] or None
    made = tiny.doubled(
        prepare(model, random_seed=seed, gates=gates, num_frames=num_frames, size_px=size_px, taps=taps)
    )
    clips = random_clips(batch, num_frames=num_frames, size_px=size_px, num_channels=3, seed=seed + 100)
    targets = [TOP_CLASS, *rng.integers(0, NUM_CLASSES, batch - 1).tolist()]
    return Asked(
        seed=seed,
        taps=made.card.tap_names,
        outputs=Explainer(made).outputs(clips, targets),
        oracle=tuple(differentiate(made, clip, target) for clip, target in zip(clips, targets, strict=True)),
    )


@pytest.mark.parametrize("name", CASES)
def test_the_joint_graph_is_float64_autograd(name: str) -> None:
    case = asked(name)
    assert np.isfinite(case.outputs[LOGITS]).all()
    for item, oracle in enumerate(case.oracle):
        assert case.outputs[EXPLAINED][item] == oracle.explained
        for tap in case.taps:
            for grid, value in (("activation", oracle.activations[tap]), ("gradient", oracle.gradients[tap])):
                wanted = value.sum(0).numpy()
                error = np.abs(case.outputs[grid_name(grid, tap)][item] - wanted).max()
                assert error <= STRUCTURE_TOLERANCE * np.abs(wanted).max(), (grid, tap)


@pytest.mark.parametrize("name", CASES)
def test_every_method_is_its_formula(name: str) -> None:
    case = asked(name)
    for place, method in enumerate(METHODS):
        taps = drawn_taps(method, available=case.taps, seed=case.seed + place)
        coordinates = COORDINATES[place % len(COORDINATES)]
        got = served(case.outputs, taps=taps, method=method, coordinates=coordinates)
        for item, oracle in enumerate(case.oracle):
            wanted, empty = oracle.map(method, taps=taps, coordinates=coordinates)
            assert wanted.slack < 1e-3  # else the comparison would say little: another formula is off by some tenths
            assert got.empty_taps[item] == empty, (method, taps)
            assert np.abs(got.maps_BTHW[item] - wanted.map_THW).max() <= wanted.slack, (method, taps)
