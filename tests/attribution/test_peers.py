"""The joint graph's grids against captum and pytorch-grad-cam, which know nothing of this project.

Oracle: their attributions on the eager network, by their own hooks and autograd, in float64. Tolerance 1e-9 of each
grid's max per clip, as in METHOD.md section 4: float64 rounds at 1e-16, another definition is off by about one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from captum.attr import LayerActivation, LayerAttribution, LayerGradCam, LayerGradientXActivation
from tests.oracle import grad_cam, i3d, tiny
from torch import Tensor, nn

from sum3dcam.attribution.maps import build_maps
from sum3dcam.contract import EXPLAINED, GRIDS, TOP_CLASS, grid_name
from sum3dcam.export.joint import ExplainGraph, explain_graph
from sum3dcam.export.prepare import Prepared, prepare, random_clips
from sum3dcam.models.gating import Gated

TOLERANCE = 1e-9
# Of a map whose max is 1: float32 keeps 6e-8 per operation, and a map is some ten operations away from its grid.
MAP_TOLERANCE = 2e-6
NUM_CLIPS = 3


@dataclass(frozen=True)
class Layer:
    """What captum hooks for a tap: a module's output, or its input where the tap is no module's output."""

    module: nn.Module
    attribute_to_layer_input: bool = False


@dataclass(frozen=True)
class Network:
    """In float64: `layers` for captum, `graph` for us."""

    made: Prepared
    layers: Mapping[str, Layer]
    graph: ExplainGraph

    def forward(self, clip_BTHWC: Tensor) -> Tensor:
        logits: Tensor = self.made.classifier(clip_BTHWC)[0]
        return logits


def residual(case: tiny.Case) -> Network:
    made = tiny.doubled(tiny.prepared(case))
    base = base_of(made)
    stages = {tap.name: Layer(base.get_submodule(tap.name)) for tap in made.card.taps if tap.name != "conv"}
    return network_of(made, {"conv": Layer(base.get_submodule("maxpool"), attribute_to_layer_input=True), **stages})


def inception(*, gates: tuple[str, ...]) -> Network:
    made = tiny.doubled(prepare("i3d", random_seed=2, num_frames=8, size_px=32, gates=gates))
    base = base_of(made)
    return network_of(made, {tap: Layer(base.get_submodule(name)) for tap, name in i3d.ENDPOINT_OF_TAP.items()})


def base_of(made: Prepared) -> nn.Module:
    network = made.classifier.network
    return network.base if isinstance(network, Gated) else network


def network_of(made: Prepared, layers: Mapping[str, Layer]) -> Network:
    graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    return Network(made=made, layers=layers, graph=graph)


@dataclass(frozen=True)
class Captum:
    """Captum's attributions to one tap (B,c,t,h,w); those of Grad-CAM have one channel."""

    activation: Tensor
    gradient: Tensor
    gradient_x_activation: Tensor
    gradcam: Tensor
    relu_gradcam: Tensor


@dataclass(frozen=True)
class Answers:
    """Both sides' answers to the same clips and targets."""

    network: Network
    clips_BTHWC: Tensor
    classes_B: Tensor
    ours: Mapping[str, Tensor]
    captums: Mapping[str, Captum]
    size_THW: tuple[int, int, int]

    def interpolated(self, attribution_B1thw: Tensor) -> np.ndarray:
        """By captum: (B,T,H,W)."""
        return LayerAttribution.interpolate(attribution_B1thw, self.size_THW, "trilinear")[:, 0].numpy()


def ask(network: Network, target_B: Tensor) -> Answers:
    card = network.made.card
    clips_BTHWC = torch.from_numpy(
        random_clips(NUM_CLIPS, num_frames=card.num_frames, size_px=card.size_px, num_channels=3, seed=4)
    )
    with torch.no_grad():
        ours = dict(zip(card.outputs, network.graph(clips_BTHWC, target_B), strict=True))
        top_B = network.forward(clips_BTHWC).argmax(1)
    # Captum has no word for the top class, and wants floats that ask for gradients.
    classes_B = torch.where(target_B == TOP_CLASS, top_B, target_B)
    pixels = clips_BTHWC.double().requires_grad_()
    return Answers(
        network=network,
        clips_BTHWC=clips_BTHWC,
        classes_B=classes_B,
        ours=ours,
        captums={tap: ask_captum(network, layer, pixels, classes_B) for tap, layer in network.layers.items()},
        size_THW=tuple(clips_BTHWC.shape[1:4]),
    )


def ask_captum(network: Network, layer: Layer, pixels: Tensor, classes_B: Tensor) -> Captum:
    where = {"attribute_to_layer_input": layer.attribute_to_layer_input}
    to = (network.forward, layer.module)
    gradcam = LayerGradCam(*to)
    found = {
        "activation": LayerActivation(*to).attribute(pixels, **where),
        "gradient": LayerGradientXActivation(*to, multiply_by_inputs=False).attribute(pixels, classes_B, **where),
        "gradient_x_activation": LayerGradientXActivation(*to).attribute(pixels, classes_B, **where),
        "gradcam": gradcam.attribute(pixels, classes_B, relu_attributions=False, **where),
        "relu_gradcam": gradcam.attribute(pixels, classes_B, relu_attributions=True, **where),
    }
    return Captum(**{name: attribution.detach() for name, attribution in found.items()})


# The project's grids in captum's words.
GRIDS_OF_CAPTUM: Mapping[str, Callable[[Captum], Tensor]] = {
    "activation": lambda captum: captum.activation.sum(1),
    "gradient": lambda captum: captum.gradient.sum(1),
    "gradcam": lambda captum: captum.gradcam[:, 0],
    "layercam": lambda captum: (captum.gradient.clamp_min(0) * captum.activation).sum(1),
    "hirescam": lambda captum: captum.gradient_x_activation.sum(1),
}

NETWORKS: Mapping[str, Callable[[], Network]] = {
    "ungated": lambda: residual(tiny.Case(seed=1)),
    "gated": lambda: residual(tiny.Case(seed=2, gates=("conv", "layer1", "layer4"), num_frames=17, size_px=50)),
    "gates averaged": lambda: residual(tiny.Case(seed=3, gates=("layer2",), fusion="mean", size_px=33)),
    "i3d": lambda: inception(gates=("layer2",)),
}
TARGETS = {"top class": (TOP_CLASS,) * NUM_CLIPS, "chosen": (4, 0, 2)}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return NETWORKS[request.param]()


@pytest.fixture(scope="module", params=TARGETS)
def answers(request: pytest.FixtureRequest, network: Network) -> Answers:
    return ask(network, torch.tensor(TARGETS[request.param]))


def test_captum_knows_every_grid() -> None:
    assert set(GRIDS_OF_CAPTUM) == set(GRIDS)


def test_every_tap_is_compared_for_the_class_that_captum_was_asked_for(answers: Answers) -> None:
    assert tuple(answers.captums) == answers.network.made.card.tap_names
    assert answers.ours[EXPLAINED].tolist() == answers.classes_B.tolist()


@pytest.mark.parametrize("grid", GRIDS_OF_CAPTUM)
def test_a_grid_is_captums(answers: Answers, grid: str) -> None:
    for tap, captum in answers.captums.items():
        wanted = GRIDS_OF_CAPTUM[grid](captum).numpy()
        assert np.abs(wanted).max() > 0
        assert tiny.relative_error(answers.ours[grid_name(grid, tap)].numpy(), wanted) <= TOLERANCE, tap


@pytest.mark.parametrize("grid", grad_cam.METHOD_OF_GRID)
def test_a_grid_is_pytorch_grad_cams(answers: Answers, grid: str) -> None:
    # It hooks outputs alone: a tap that is only a module's input is left to captum.
    layers = {tap: layer for tap, layer in answers.network.layers.items() if not layer.attribute_to_layer_input}
    found = grad_cam.grids(
        grad_cam.METHOD_OF_GRID[grid],
        answers.network.made.classifier,
        layers=[layer.module for layer in layers.values()],
        clips_BTHWC=answers.clips_BTHWC,
        classes=answers.classes_B.tolist(),
    )
    for tap, wanted in zip(layers, found, strict=True):
        assert np.abs(wanted).max() > 0
        assert tiny.relative_error(answers.ours[grid_name(grid, tap)].numpy(), wanted) <= TOLERANCE, tap


def test_an_upsampled_gradcam_is_captums_interpolated(answers: Answers) -> None:
    for tap in answers.network.made.card.taps:
        upsampled = answers.network.graph.saliency.upsample(answers.ours[grid_name("gradcam", tap.name)], tap=tap)
        wanted = answers.interpolated(answers.captums[tap.name].gradcam)
        assert tiny.relative_error(upsampled.numpy(), wanted) <= TOLERANCE, tap


def test_a_gradcam_map_is_captums_with_relu_interpolated_and_divided_by_its_max(answers: Answers) -> None:
    card = answers.network.made.card
    for tap, captum in answers.captums.items():
        name = grid_name("gradcam", tap)
        grids = {name: answers.ours[name].float().numpy()}
        got = build_maps(grids, taps=[tap], method="gradcam", num_frames=card.num_frames, size_px=card.size_px)
        wanted = answers.interpolated(captum.relu_gradcam)
        top_B = wanted.max((1, 2, 3))
        assert [empty == (tap,) for empty in got.empty_taps] == (top_B == 0).tolist()
        wanted /= np.where(top_B > 0, top_B, 1)[:, None, None, None]
        np.testing.assert_allclose(got.maps_BTHW, wanted, rtol=0, atol=MAP_TOLERANCE)
