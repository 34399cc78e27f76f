"""Oracle: the definition of Grad-CAM++, its second and third derivatives of exp(logit) taken voxel by voxel in float64.

Tolerance 1e-9 of the grid's max: float64 rounds at 1e-16, another definition is off by about one.
"""

import numpy as np
import pytest
import torch
from tests.oracle import tiny
from torch import Tensor

from sum3dcam.attribution.baselines.gradcam_plus_plus import gradcam_plus_plus, gradcam_plus_plus_grid
from sum3dcam.attribution.maps import normalise, upsample
from sum3dcam.contract import TOP_CLASS
from sum3dcam.errors import BadOptionError
from sum3dcam.export.prepare import Prepared

SIZE = (2, 3, 2)


def by_definition(activation: Tensor, score: Tensor) -> Tensor:
    """(t,h,w) from A (c,t,h,w) and the class's score Y = exp(y), by the paper's equations 10, 14 and 15."""
    (first,) = torch.autograd.grad(score, activation, create_graph=True)
    second, third = torch.zeros(activation.numel()).double(), torch.zeros(activation.numel()).double()
    for index in range(activation.numel()):
        (row,) = torch.autograd.grad(first.flatten()[index], activation, create_graph=True)
        second[index] = row.flatten()[index].detach()
        third[index] = torch.autograd.grad(row.flatten()[index], activation, retain_graph=True)[0].flatten()[index]
    second, third = second.view_as(activation), third.view_as(activation)
    sums_c111 = activation.detach().sum((1, 2, 3), keepdim=True)
    bottom = 2 * second + third * sums_c111
    alpha = torch.where(bottom != 0, second / torch.where(bottom != 0, bottom, 1), 0)
    weight_c = (alpha * first.detach().clamp_min(0)).sum((1, 2, 3))
    return torch.einsum("c,cthw->thw", weight_c, activation.detach()).clamp_min(0)


def test_the_closed_form_is_the_definition_behind_a_relu() -> None:
    generator = torch.Generator().manual_seed(3)
    activation = torch.rand(4, *SIZE, generator=generator, dtype=torch.float64)
    inner = torch.randn(3, activation.numel(), generator=generator, dtype=torch.float64)
    outer = torch.randn(3, generator=generator, dtype=torch.float64)
    activation.requires_grad_()
    logit = (outer * torch.relu(inner @ activation.flatten())).sum() / 10
    (gradient,) = torch.autograd.grad(logit, activation, retain_graph=True)
    wanted = by_definition(activation, logit.exp())
    # The closed form leaves the common factor exp(y) out.
    got = gradcam_plus_plus_grid(activation.detach()[None], gradient[None])[0] * logit.detach().exp()
    assert wanted.max() > 0.01
    assert (got - wanted).abs().max() <= 1e-9 * wanted.max()


def test_a_large_logit_does_not_overflow_as_its_exponential_would() -> None:
    activation, gradient = torch.ones(1, 1, *SIZE), torch.full((1, 1, *SIZE), 1e6)
    assert torch.isfinite(gradcam_plus_plus_grid(activation, gradient)).all()


@pytest.fixture(scope="module")
def made() -> Prepared:
    return tiny.doubled(tiny.prepared(tiny.Case(seed=4, gates=("layer2",))))


@pytest.mark.parametrize("tap", ["layer1", "layer4"])
def test_a_map_is_the_grid_of_its_own_tap_and_class(made: Prepared, tap: str) -> None:
    clips = torch.from_numpy(tiny.clips(tiny.Case(), num_clips=2))
    got = gradcam_plus_plus(made.classifier, clip_BTHWC=clips, target_B=torch.tensor([TOP_CLASS, 1]), tap=tap)
    for item, target in enumerate([None, 1]):
        logits, taps = made.classifier(clips[item : item + 1])
        explained = int(logits.argmax()) if target is None else target
        (gradient,) = torch.autograd.grad(logits[0, explained], taps[tap])
        grid = gradcam_plus_plus_grid(taps[tap].detach(), gradient)[0]
        map_THW = normalise(upsample(grid.float().numpy(), num_frames=8, size_px=32))
        assert map_THW is not None
        np.testing.assert_allclose(got[item], map_THW, atol=1e-6)  # float32, a dozen roundings


def test_a_tap_or_a_class_that_is_not_there_is_refused(made: Prepared) -> None:
    clips = torch.from_numpy(tiny.clips(tiny.Case(), num_clips=1))
    with pytest.raises(BadOptionError, match="no such tap"):
        gradcam_plus_plus(made.classifier, clip_BTHWC=clips, target_B=torch.tensor([0]), tap="layer9")
    with pytest.raises(BadOptionError, match="no such class"):
        gradcam_plus_plus(made.classifier, clip_BTHWC=clips, target_B=torch.tensor([5]), tap="layer4")
