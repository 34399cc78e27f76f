"""Oracles: captum's IntegratedGradients with the same steps, and completeness, in float64."""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from tests.oracle import tiny
from torch import Tensor, nn

from sum3dcam.attribution.baselines.integrated_gradients import START_CLIPS, integrated_gradients
from sum3dcam.errors import BadOptionError
from sum3dcam.export.prepare import Prepared
from sum3dcam.models import Classifier

CASE = tiny.Case(seed=6, gates=("layer3",))


@pytest.fixture(scope="module")
def made() -> Prepared:
    return tiny.doubled(tiny.prepared(CASE))


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.from_numpy(tiny.clips(CASE, num_clips=2))


@pytest.mark.parametrize(("start", "pixel"), [("mean-pixel", tiny.MEAN), ("black", (0.0, 0.0, 0.0))])
def test_it_is_captums_with_the_same_midpoints(
    made: Prepared, clips: Tensor, start: str, pixel: tuple[float, ...]
) -> None:
    classifier = made.classifier
    got = integrated_gradients(classifier, clip_BTHWC=clips, target_B=torch.tensor([4, 2]), start=start, num_steps=5)

    def to_input(pixels_BTHWC: Tensor) -> Tensor:
        return ((pixels_BTHWC - torch.tensor(tiny.MEAN)) / torch.tensor(tiny.STD)).double().permute(0, 4, 1, 2, 3)

    wanted, delta = CaptumIntegratedGradients(lambda x: classifier.network(x)[0]).attribute(
        to_input(clips.double()),
        to_input(torch.tensor(pixel).double().expand(clips.shape)),
        target=torch.tensor([4, 2]),
        n_steps=5,
        method="riemann_middle",
        return_convergence_delta=True,
    )
    wanted_BTHW = wanted.sum(1).detach()
    # The network's mean and 1/std were rounded to float32 before they were made double.
    assert (got.attribution_BTHW - wanted_BTHW).abs().max() <= 1e-6 * wanted_BTHW.abs().max()
    np.testing.assert_allclose(got.gap_B, -delta.numpy(), atol=1e-6 * float(wanted_BTHW.abs().sum()))
    for map_THW, attribution_THW in zip(got.maps_BTHW, wanted_BTHW.numpy(), strict=True):
        np.testing.assert_allclose(map_THW, attribution_THW.clip(0) / attribution_THW.max(), atol=1e-5)


class Cubes(nn.Module):
    """Logits w_k sum x^3: the midpoint rule gives w_k sum x^3 (1 - 1 / (4 num_steps^2))."""

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return (x**3).sum((1, 2, 3, 4))[:, None] * torch.tensor([1.0, -2.0]), {}


@pytest.mark.parametrize("num_steps", [1, 4])
def test_the_gap_of_a_cubic_is_that_of_the_midpoint_rule(num_steps: int) -> None:
    classifier = Classifier(Cubes(), mean=(1.0,), std=(2.0,)).double()
    clip_BTHWC = torch.tensor([3, 5], dtype=torch.uint8).view(1, 1, 1, 2, 1)  # normalised 1 and 2
    got = integrated_gradients(classifier, clip_BTHWC=clip_BTHWC, target_B=torch.tensor([1]), num_steps=num_steps)
    short = 1 - 1 / (4 * num_steps**2)
    np.testing.assert_allclose(got.attribution_BTHW.flatten(), [-2 * short, -16 * short], rtol=1e-12)
    np.testing.assert_allclose(got.gap_B.detach(), [-18 / (4 * num_steps**2)], rtol=1e-12)
    assert not got.maps_BTHW.any()  # nothing speaks for the class


def test_a_clip_that_is_the_start_of_its_path_has_an_empty_map(made: Prepared, clips: Tensor) -> None:
    black = torch.zeros_like(clips)
    got = integrated_gradients(made.classifier, clip_BTHWC=black, target_B=torch.tensor([0, 1]), start="black")
    assert not got.maps_BTHW.any()
    assert got.gap_B.abs().max() == 0


def test_what_cannot_be_is_refused(made: Prepared, clips: Tensor) -> None:
    for wrong in ({"start": "white"}, {"num_steps": 0}):
        with pytest.raises(BadOptionError):
            integrated_gradients(made.classifier, clip_BTHWC=clips, target_B=torch.tensor([0, 1]), **wrong)
    assert set(START_CLIPS) == {"mean-pixel", "black"}
