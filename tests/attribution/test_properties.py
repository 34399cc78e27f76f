"""What holds of every method on any network: METHOD.md section 1, from a clip and a target to the map.

Oracle and tolerance: `tests.oracle.methods`.
"""

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tests.oracle import tiny
from tests.oracle.methods import (
    OF_TAP,
    ONE_TAP_ONLY,
    ROUNDING,
    Differentiated,
    Explainer,
    differentiate,
    drawn_taps,
    n,
    product,
    served,
    trilinear,
)
from torch import nn

from sum3dcam.attribution.grids import Saliency
from sum3dcam.attribution.maps import METHODS, build_maps
from sum3dcam.contract import COORDINATES, EXPLAINED, GRIDS, LOGITS, SALIENCY, TOP_CLASS, Tap, grid_name

SEEDS = range(6)
NUM_CLIPS = 3
FLOAT32_TOLERANCE = 2 * ROUNDING  # of a map whose max is 1 and in which nothing cancels
# Float64 additions in another order, as batches of other sizes may have them.
FLOAT64_TOLERANCE = 1e-12
STRUCTURE_TOLERANCE = 1e-9  # METHOD.md section 4, for other float64 numbers of the same meaning


def explainer_of(case: tiny.Case) -> Explainer:
    return Explainer(tiny.doubled(tiny.prepared(case)))


def with_head_times(explainer: Explainer, factor: float) -> Explainer:
    """The same network with all its logits times `factor`: the weights and biases of every classifier on its taps."""
    prepared = copy.deepcopy(explainer.prepared)
    with torch.no_grad():
        for module in prepared.classifier.modules():
            if isinstance(module, nn.Linear):
                module.weight *= factor
                module.bias *= factor
    return Explainer(prepared)


@dataclass(frozen=True)
class Asked:
    """A network asked about clips and targets: the joint graph's answer and autograd's."""

    explainer: Explainer
    clips_BTHWC: np.ndarray
    targets: tuple[int, ...]
    outputs: Mapping[str, np.ndarray]
    oracle: tuple[Differentiated, ...]

    def again(self, chosen: Sequence[int]) -> dict[str, np.ndarray]:
        """The joint graph's answer to a batch of these items, in this order."""
        return self.explainer.outputs(self.clips_BTHWC[chosen], [self.targets[index] for index in chosen])


def ask(case: tiny.Case, *, targets: Sequence[int]) -> Asked:
    explainer = explainer_of(case)
    clips_BTHWC = tiny.clips(case, num_clips=len(targets), seed=case.seed)
    return Asked(
        explainer=explainer,
        clips_BTHWC=clips_BTHWC,
        targets=tuple(targets),
        outputs=explainer.outputs(clips_BTHWC, targets),
        oracle=tuple(
            differentiate(explainer.prepared, clip, target) for clip, target in zip(clips_BTHWC, targets, strict=True)
        ),
    )


@functools.cache
def drawn(seed: int) -> Asked:
    targets = np.random.default_rng(seed).integers(TOP_CLASS, tiny.NUM_CLASSES, NUM_CLIPS)
    return ask(tiny.random_case(seed), targets=targets.tolist())


def most_taps(method: str, case: Asked) -> tuple[str, ...]:
    """All of the network's taps; the last for a method that takes no more."""
    return case.explainer.tap_names[-1 if method in ONE_TAP_ONLY else 0 :]


def test_every_method_has_its_formula_here() -> None:
    assert set(OF_TAP) == set(METHODS)
    assert {name for name, method in METHODS.items() if method.max_taps == 1} == set(ONE_TAP_ONLY)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_map_is_its_formulas_on_any_network_taps_targets_and_size(seed: int, method: str, coordinates: str) -> None:
    case = drawn(seed)
    taps = drawn_taps(method, available=case.explainer.tap_names, seed=seed)
    got = served(case.outputs, taps=taps, method=method, coordinates=coordinates)
    for item, oracle in enumerate(case.oracle):
        wanted, empty = oracle.map(method, taps=taps, coordinates=coordinates)
        assert wanted.slack < 1e-3  # else the comparison would say little: another formula is off by some tenths
        assert case.outputs[EXPLAINED][item] == oracle.explained
        assert got.empty_taps[item] == empty
        assert np.abs(got.maps_BTHW[item] - wanted.map_THW).max() <= wanted.slack


def test_the_networks_drawn_have_gates_empty_taps_top_classes_and_several_sizes() -> None:
    cases = [drawn(seed) for seed in SEEDS]
    assert {bool(case.explainer.prepared.card.gates) for case in cases} == {True, False}
    assert len({case.clips_BTHWC.shape for case in cases}) > 3
    assert TOP_CLASS in {target for case in cases for target in case.targets}
    for method in METHODS:
        emptiness = {
            bool(oracle.map(method, taps=[tap], coordinates="half-pixel")[1])
            for case in cases
            for oracle in case.oracle
            for tap in case.explainer.tap_names
        }
        # A sum of ReLU(G) A is empty only where nothing speaks for the class.
        assert False in emptiness
        assert True in emptiness or method in ("layercam", "sum3dcam-elementwise"), method


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_summing_channels_before_upsampling_gives_the_sum_of_upsampled_channels(coordinates: str) -> None:
    """Why one grid per tap suffices. Float64 on both sides, so 1e-12 of the largest value."""
    oracle = drawn(0).oracle[0]
    for tap, gradient in oracle.gradients.items():
        channels = trilinear(gradient, oracle.size_THW, coordinates=coordinates)
        together = trilinear(gradient.sum(0, keepdim=True), oracle.size_THW, coordinates=coordinates)[0]
        np.testing.assert_allclose(together, channels.sum(0), rtol=0, atol=1e-12 * np.abs(channels).max(), err_msg=tap)


# The degenerate last tap: behind global average pooling and fc, d logit_k / d A is w_k / (t h w) everywhere.

LAST_TAP = tiny.Case(taps=("layer4",), num_frames=32, size_px=64, seed=6)
SUMS_OF_WEIGHTS = (3.0, 0.5, -2.0, 0.0, -0.125)  # one per class


@functools.cache
def behind_pooling() -> tuple[np.ndarray, Mapping[str, np.ndarray], tuple[Differentiated, ...]]:
    """Weights (K,c) of the fc, and what every class of one clip gets: from the joint graph, from autograd.

    Weights are multiples of 1/8 and the last grid has 2^3 cells, so every sum of them is exact.
    """
    explainer = explainer_of(LAST_TAP)
    weight = explainer.prepared.classifier.network.get_parameter("fc.weight")
    weights_Kc = np.random.default_rng(0).integers(-8, 9, tuple(weight.shape)) / 8
    weights_Kc[:, 0] += np.array(SUMS_OF_WEIGHTS) - weights_Kc.sum(1)
    with torch.no_grad():
        weight.copy_(torch.from_numpy(weights_Kc))
    clips_BTHWC = np.repeat(tiny.clips(LAST_TAP, num_clips=1), tiny.NUM_CLASSES, axis=0)
    classes = range(tiny.NUM_CLASSES)
    oracle = tuple(differentiate(explainer.prepared, clips_BTHWC[0], label) for label in classes)
    return weights_Kc, explainer.outputs(clips_BTHWC, classes), oracle


def test_the_last_taps_gradient_grid_is_one_number_over_space_and_time() -> None:
    """Exact: see `behind_pooling`."""
    weights_Kc, outputs, oracle = behind_pooling()
    grid_Kthw = outputs["gradient_layer4"]
    assert grid_Kthw.shape[1:] == (2, 2, 2)
    by_hand_K = weights_Kc.sum(1) / 8
    np.testing.assert_array_equal(grid_Kthw, np.broadcast_to(by_hand_K[:, None, None, None], grid_Kthw.shape))
    for label, differentiated in enumerate(oracle):
        np.testing.assert_array_equal(grid_Kthw[label], differentiated.gradients["layer4"].sum(0).numpy())


@pytest.mark.parametrize("method", ["sum3dcam", "avgpool-3dcam"])
def test_the_last_tap_is_empty_for_every_class_whose_weights_sum_to_zero_or_less(method: str) -> None:
    weights_Kc, outputs, _ = behind_pooling()
    result = served(outputs, taps=["layer4"], method=method)
    speaks_K = weights_Kc.sum(1) > 0
    assert speaks_K.tolist() == [True, True, False, False, False]
    assert [empty == ("layer4",) for empty in result.empty_taps] == (~speaks_K).tolist()
    assert result.maps_BTHW.any((1, 2, 3)).tolist() == speaks_K.tolist()
    assert outputs[SALIENCY].any((1, 2, 3)).tolist() == speaks_K.tolist()


@pytest.mark.parametrize("method", ["sum3dcam", "avgpool-3dcam"])
def test_the_last_taps_map_is_its_activations_whichever_class_is_asked_for(method: str) -> None:
    _, outputs, oracle = behind_pooling()
    activation = n(trilinear(oracle[0].activations["layer4"].sum(0)[None], (32, 64, 64), coordinates="half-pixel")[0])
    assert activation is not None
    maps_KTHW = served(outputs, taps=["layer4"], method=method).maps_BTHW
    for label in (0, 1):
        np.testing.assert_allclose(maps_KTHW[label], activation.map_THW, rtol=0, atol=FLOAT32_TOLERANCE)


def test_the_element_wise_map_of_the_last_tap_tells_classes_apart() -> None:
    _, outputs, _ = behind_pooling()
    result = served(outputs, taps=["layer4"], method="sum3dcam-elementwise")
    assert result.empty_taps == ((),) * tiny.NUM_CLASSES
    for label in range(1, tiny.NUM_CLASSES):
        assert np.abs(result.maps_BTHW[label] - result.maps_BTHW[0]).max() > 0.05


# The negative-max trap: eq. 2 as printed divides by max x, which turns an all-negative map into one of at least 1.

SHAPES = {"conv": (8, 16, 16), "layer1": (4, 8, 8)}
SIZE = {"num_frames": 8, "size_px": 32}


def grids_of(tap: str, *, seed: int, **sign_of_grid: int) -> dict[str, np.ndarray]:
    """Every grid of one tap for two items, all positive but for those whose sign is -1."""
    rng = np.random.default_rng(seed)
    return {
        grid_name(grid, tap): (sign_of_grid.get(grid, 1) * rng.uniform(0.5, 1.5, (2, *SHAPES[tap]))).astype(np.float32)
        for grid in GRIDS
    }


# What must be negative for the tap to be dark; either factor of a product suffices.
DARKENED = [
    *[(method, dict.fromkeys(METHODS[method].grids, -1)) for method in METHODS if method != "counterfactual"],
    ("sum3dcam", {"gradient": -1}),
    ("sum3dcam", {"activation": -1}),
    ("counterfactual", {}),  # the gradient speaks for the class everywhere
    ("counterfactual", {"activation": -1}),
]


@pytest.mark.parametrize(("method", "signs"), DARKENED)
def test_a_tap_whose_map_is_negative_everywhere_is_zero_and_reported_empty(method: str, signs: dict[str, int]) -> None:
    dark = grids_of("conv", seed=1, **signs)
    assert all((dark[f"{grid}_conv"] / dark[f"{grid}_conv"].max()).min() > 0 for grid in signs)  # the trap
    result = build_maps(dark, taps=["conv"], method=method, **SIZE)
    assert not result.maps_BTHW.any()
    assert result.empty_taps == (("conv",), ("conv",))


def test_every_method_is_tried_in_the_dark() -> None:
    assert {method for method, _ in DARKENED} == set(METHODS)


@pytest.mark.parametrize(("method", "signs"), [case for case in DARKENED if case[0] not in ONE_TAP_ONLY])
def test_a_dark_tap_changes_nothing_of_a_lit_taps_map(method: str, signs: dict[str, int]) -> None:
    lit = grids_of("layer1", seed=2, gradient=-1 if method == "counterfactual" else 1)
    together = build_maps(grids_of("conv", seed=1, **signs) | lit, taps=["conv", "layer1"], method=method, **SIZE)
    assert together.empty_taps == (("conv",), ("conv",))
    assert together.maps_BTHW.max() == 1
    np.testing.assert_array_equal(together.maps_BTHW, build_maps(lit, taps=["layer1"], method=method, **SIZE).maps_BTHW)


@pytest.mark.parametrize("signs", [signs for method, signs in DARKENED if method == "sum3dcam"])
def test_a_dark_taps_saliency_is_zero_in_the_graph_too(signs: dict[str, int]) -> None:
    saliency = Saliency((Tap("conv", 1, SHAPES["conv"]),), **SIZE, dtype=torch.float64)
    dark = {name: torch.from_numpy(grid).double() for name, grid in grids_of("conv", seed=1, **signs).items()}
    assert not saliency(dark)[SALIENCY].any()


# Of y and -y, of y and c y.


@functools.cache
def gated() -> Asked:
    return ask(tiny.Case(gates=("conv", "layer3"), num_frames=17, size_px=33, seed=9), targets=(3, 0, 2))


def test_the_counterfactual_of_a_logit_is_the_map_of_its_negation() -> None:
    """Exact: rounding does not know a sign, so every gradient of -y is the negation of y's, bit for bit."""
    case = gated()
    negated = with_head_times(case.explainer, -1.0).outputs(case.clips_BTHWC, case.targets)
    np.testing.assert_array_equal(negated[LOGITS], -case.outputs[LOGITS])
    taps = case.explainer.tap_names
    against = served(case.outputs, taps=taps, method="counterfactual")
    for_negation = served(negated, taps=taps, method="sum3dcam")
    assert against.maps_BTHW.any((1, 2, 3)).all()
    assert against.empty_taps == for_negation.empty_taps
    np.testing.assert_array_equal(against.maps_BTHW, for_negation.maps_BTHW)


def test_a_logit_times_a_power_of_two_has_the_same_maps_to_the_bit() -> None:
    """Exact: such a factor touches exponents alone."""
    case, factor = gated(), 2.0**-10
    scaled = with_head_times(case.explainer, factor).outputs(case.clips_BTHWC, case.targets)
    np.testing.assert_array_equal(scaled[LOGITS], factor * case.outputs[LOGITS])
    np.testing.assert_array_equal(scaled[SALIENCY], case.outputs[SALIENCY])
    for method in METHODS:
        taps = most_taps(method, case)
        got, unscaled = (served(outputs, taps=taps, method=method) for outputs in (scaled, case.outputs))
        assert got.empty_taps == unscaled.empty_taps
        np.testing.assert_array_equal(got.maps_BTHW, unscaled.maps_BTHW)


def test_a_logit_times_any_positive_constant_has_the_same_maps() -> None:
    case = gated()
    scaled = with_head_times(case.explainer, 3.7).outputs(case.clips_BTHWC, case.targets)
    assert tiny.relative_error(scaled[SALIENCY], case.outputs[SALIENCY]) <= STRUCTURE_TOLERANCE
    for method in METHODS:
        taps = most_taps(method, case)
        got = served(scaled, taps=taps, method=method)
        for item, oracle in enumerate(case.oracle):
            wanted, empty = oracle.map(method, taps=taps, coordinates="half-pixel")
            assert got.empty_taps[item] == empty
            assert np.abs(got.maps_BTHW[item] - wanted.map_THW).max() <= wanted.slack


# Neither ReLU nor the product commutes with upsampling. One row of two cells, read at four places:
# half-pixel positions 0, 1/4, 3/4, 1. The weights are quarters, so float32 is exact but for divisions.


def row(**grids: Sequence[float]) -> dict[str, np.ndarray]:
    return {f"{grid}_conv": np.array(values, np.float32).reshape(1, 1, 1, -1) for grid, values in grids.items()}


def row_map(method: str, **grids: Sequence[float]) -> list[float]:
    result = build_maps(row(**grids), taps=["conv"], method=method, num_frames=1, size_px=4)
    assert (result.maps_BTHW == result.maps_BTHW[:, :, :1]).all()
    return result.maps_BTHW[0, 0, 0].tolist()


@pytest.mark.parametrize("method", ["sum-gradcam", "layercam", "hirescam", "sum3dcam-elementwise"])
def test_relu_comes_after_upsampling(method: str) -> None:
    # (1, -1) is read as 1, 1/2, -1/2, -1; its positive part (1, 0) would be read as 1, 3/4, 1/4, 0.
    (grid,) = METHODS[method].grids
    assert row_map(method, **{grid: (1, -1)}) == [1, 0.5, 0, 0]


def test_relu_comes_before_upsampling_in_gradcam_alone() -> None:
    assert row_map("gradcam", gradcam=(1, -1)) == [1, 0.75, 0.25, 0]


@pytest.mark.parametrize(("method", "sign"), [("sum3dcam", 1), ("counterfactual", -1)])
def test_the_product_comes_after_upsampling(method: str, sign: int) -> None:
    # (1, -1) gives n = 1, 1/2, 0, 0 and (2, 4) is read as 2, 5/2, 7/2, 4, n = 1/2, 5/8, 7/8, 1:
    # the products 1/2, 5/16, 0, 0 have the largest 1/2. At the cells they are 1/2 and 0: read as 1, 3/4, 1/4, 0.
    assert row_map(method, gradient=(sign, -sign), activation=(2, 4)) == [1, 0.625, 0, 0]


def test_on_a_network_a_product_taken_too_early_is_another_map() -> None:
    case = gated()
    maps_BTHW = served(case.outputs, taps=["layer1"], method="sum3dcam").maps_BTHW
    for got_THW, oracle in zip(maps_BTHW, case.oracle, strict=True):
        early = product(n(oracle.gradients["layer1"].sum(0).numpy()), n(oracle.activations["layer1"].sum(0).numpy()))
        assert early is not None
        upsampled = n(trilinear(torch.from_numpy(early.map_THW)[None], oracle.size_THW, coordinates="half-pixel")[0])
        assert upsampled is not None
        assert np.abs(got_THW - upsampled.map_THW).max() > 0.05


# Batches.

BATCH = 5


@functools.cache
def batch() -> Asked:
    case = tiny.Case(gates=("layer2",), num_frames=16, size_px=33, seed=11)
    return ask(case, targets=(TOP_CLASS, 0, 4, TOP_CLASS, 2))


def largest_errors(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Per output, where it is beyond float64's tolerance."""
    assert got.keys() == wanted.keys()
    errors = {name: tiny.relative_error(got[name], wanted[name]) for name in wanted}
    return {name: error for name, error in errors.items() if not error <= FLOAT64_TOLERANCE}


@pytest.mark.parametrize("first", range(BATCH))
@pytest.mark.parametrize("size", [1, 2, 4])
def test_an_items_answer_is_the_same_in_a_batch_of_any_size_at_any_place(first: int, size: int) -> None:
    case = batch()
    chosen = [(first + step) % BATCH for step in range(size)]
    assert largest_errors(case.again(chosen), {name: value[chosen] for name, value in case.outputs.items()}) == {}


def test_a_permuted_batch_has_permuted_answers() -> None:
    case = batch()
    order = [3, 0, 4, 2, 1]
    assert largest_errors(case.again(order), {name: value[order] for name, value in case.outputs.items()}) == {}


@pytest.mark.parametrize("method", METHODS)
def test_the_run_side_maps_each_item_as_if_alone_to_the_bit(method: str) -> None:
    case = batch()
    taps = most_taps(method, case)
    together = served(case.outputs, taps=taps, method=method)
    for index in range(BATCH):
        alone = served(
            {name: value[index : index + 1] for name, value in case.outputs.items()}, taps=taps, method=method
        )
        assert alone.empty_taps[0] == together.empty_taps[index]
        np.testing.assert_array_equal(alone.maps_BTHW[0], together.maps_BTHW[index])


def test_one_clip_asked_for_every_class_in_one_batch_gets_each_classs_own_answer() -> None:
    case = batch()
    classes = [*range(tiny.NUM_CLASSES), TOP_CLASS]
    clips_BTHWC = np.repeat(case.clips_BTHWC[:1], len(classes), axis=0)
    together = case.explainer.outputs(clips_BTHWC, classes)
    top = int(together[LOGITS][0].argmax())
    assert together[EXPLAINED].tolist() == [*range(tiny.NUM_CLASSES), top]
    for index, label in enumerate(classes):
        alone = case.explainer.outputs(clips_BTHWC[:1], [label])
        assert largest_errors({name: value[index : index + 1] for name, value in together.items()}, alone) == {}
    grids = together["gradient_conv"]
    for label in range(tiny.NUM_CLASSES):
        unlike = [other for other in range(tiny.NUM_CLASSES) if other != label]
        assert np.abs(grids[unlike] - grids[label]).max((1, 2, 3)).min() > 0.1 * np.abs(grids[label]).max()
