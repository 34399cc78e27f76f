"""Oracles: torch's F.interpolate in float64 for the upsampling, METHOD.md's formulas in float64 for the maps.

Tolerance 2e-6 of a map whose max is 1: float32 keeps 6e-8 per operation; three interpolations, two divisions and up to
five sums add a few of these.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sum3dcam.attribution.grids import Saliency
from sum3dcam.attribution.interpolation import upsample, upsample_matrix
from sum3dcam.attribution.maps import METHODS, build_maps, choose_taps, normalise
from sum3dcam.contract import COORDINATES, DEFAULT_METHOD, EMPTY_MAX, GRIDS, NORMALISATIONS, SALIENCY, Tap, grid_name
from sum3dcam.errors import BadArrayError, BadOptionError

ATOL = 2e-6
ALIGN_CORNERS = {"half-pixel": False, "corners": True}
TAP_SHAPES = {"conv": (16, 28, 28), "layer1": (8, 14, 14), "layer3": (2, 7, 5), "layer4": (1, 4, 4)}


def torch_up(grid, *, size, coordinates="half-pixel"):
    tensor = torch.from_numpy(np.asarray(grid, np.float64))[None, None]
    return F.interpolate(tensor, size=size, mode="trilinear", align_corners=ALIGN_CORNERS[coordinates])[0, 0].numpy()


def n(values):
    """n(x) = ReLU(x) / max ReLU(x), zero where there is nothing to divide by."""
    positive = np.maximum(values, 0)
    return positive / positive.max() if positive.max() > EMPTY_MAX else np.zeros_like(positive)


# Oracle of the option: one n for the clip, or one for each frame.
N = {"clip": n, "frame": lambda values: np.stack([n(frame) for frame in values])}


def random_grids(*, batch=2, taps=tuple(TAP_SHAPES), seed=0):
    rng = np.random.default_rng(seed)
    return {
        grid_name(grid, tap): rng.standard_normal((batch, *TAP_SHAPES[tap])).astype(np.float32)
        for tap in taps
        for grid in GRIDS
    }


def build(grids, *, taps, method, **changes):
    return build_maps(grids, taps=taps, method=method, **{"num_frames": 16, "size_px": 32, **changes})


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("shape", [(16, 28, 28), (1, 4, 4), (2, 7, 5), (3, 1, 9), (16, 40, 33)])
def test_upsampling_equals_torch_trilinear_in_float64(shape, coordinates):
    grid = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    ours = upsample(grid, num_frames=16, size_px=32, coordinates=coordinates)
    assert ours.dtype == np.float32
    oracle = torch_up(grid, size=(16, 32, 32), coordinates=coordinates)
    np.testing.assert_allclose(ours, oracle, rtol=0, atol=ATOL * np.abs(grid).max())


def test_corner_coordinates_give_one_output_sample_the_first_input():
    np.testing.assert_array_equal(upsample_matrix(5, 1, "corners"), [[1, 0, 0, 0, 0]])


def test_the_shared_interpolation_matrix_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        upsample_matrix(4, 8)[0, 0] = 2.0


def test_normalise_divides_the_positive_part_by_its_max():
    np.testing.assert_array_equal(normalise(np.array([[[-4.0, 1.0, 2.0]]], np.float32)), [[[0.0, 0.5, 1.0]]])


@pytest.mark.parametrize("largest", [-3.0, 0.0, 1e-21, np.inf, np.nan])
def test_normalise_calls_values_without_a_positive_finite_max_empty(largest):
    assert normalise(np.array([[[-4.0, largest]]], np.float32)) is None


def test_normalise_keeps_a_max_just_above_the_empty_rule():
    np.testing.assert_allclose(normalise(np.array([[[1e-20, 2e-20]]], np.float32)), [[[0.5, 1.0]]], rtol=1e-6)


FORMULAS = {
    "sum3dcam": lambda g, up, n: n(up(g["gradient"])) * n(up(g["activation"])),
    "counterfactual": lambda g, up, n: n(up(-g["gradient"])) * n(up(g["activation"])),
    "sum3dcam-elementwise": lambda g, up, n: n(up(g["layercam"])),
    "layercam": lambda g, up, n: n(up(g["layercam"])),
    "sum-gradcam": lambda g, up, n: n(up(g["gradcam"])),
    "hirescam": lambda g, up, n: n(up(g["hirescam"])),
    "gradcam": lambda g, up, n: up(np.maximum(g["gradcam"], 0)),
    # The gradient at the global pool is one number per channel; n of their sum is 1 or nothing.
    "avgpool-3dcam": lambda g, up, n: n(up(g["activation"])) * (g["gradient"].sum() > 0),
}


def test_every_method_has_a_formula_to_be_tested_against():
    assert set(FORMULAS) == set(METHODS)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("method", METHODS)
def test_maps_follow_the_formula_summed_over_taps_and_divided_by_their_max(method, coordinates, normalisation):
    taps = tuple(TAP_SHAPES) if METHODS[method].max_taps is None else ("layer3",)
    grids = random_grids()
    grids["gradient_layer3"] += 0.5  # its sum is positive in both items: avgpool-3dcam is not empty
    result = build(grids, taps=taps, method=method, coordinates=coordinates, normalisation=normalisation)
    assert result.maps_BTHW.shape == (2, 16, 32, 32)
    assert result.maps_BTHW.dtype == np.float32
    assert result.empty_taps == ((), ())
    for item in range(2):
        total = sum(
            FORMULAS[method](
                {grid: grids[grid_name(grid, tap)][item] for grid in GRIDS},
                lambda grid: torch_up(grid, size=(16, 32, 32), coordinates=coordinates),
                N[normalisation],
            )
            for tap in taps
        )
        np.testing.assert_allclose(result.maps_BTHW[item], N[normalisation](total), rtol=0, atol=ATOL)


def test_a_frame_without_evidence_stays_dark_when_each_frame_is_divided_by_its_own_max():
    grid = np.array([4.0, 1.0, 0.0, -2.0], np.float32).reshape(1, 4, 1, 1)
    result = build({"layercam_tap": grid}, taps=("tap",), method="layercam", num_frames=4, normalisation="frame")
    assert result.maps_BTHW[0, :, 0, 0].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert result.empty_taps == ((),)


def test_an_unknown_normalisation_is_refused_with_those_allowed():
    with pytest.raises(BadOptionError) as caught:
        build(random_grids(), taps=("conv",), method="sum3dcam", normalisation="video")
    assert caught.value.allowed == list(NORMALISATIONS)


def test_the_average_pools_3dcam_is_empty_where_the_head_speaks_against_the_class():
    # Behind global average pooling the gradient grid is one number everywhere: the sum of the class's weights.
    activation = np.array([1.0, 3.0], np.float32).reshape(1, 1, 1, 2)
    for weights, maps, empty in ((2.0, [1 / 3, 1.0], ()), (-2.0, [0.0, 0.0], ("tap",))):
        grids = {"activation_tap": activation, "gradient_tap": np.full_like(activation, weights)}
        result = build(grids, taps=("tap",), method="avgpool-3dcam", num_frames=1, size_px=2)
        np.testing.assert_allclose(result.maps_BTHW[0, 0, 0], maps, atol=ATOL)
        assert result.empty_taps == (empty,)


def test_a_tap_whose_two_factors_are_lit_at_different_voxels_is_empty():
    activation = np.array([1.0, 0.0, 0.0, 0.0], np.float32).reshape(1, 4, 1, 1)
    grids = {"activation_tap": activation, "gradient_tap": activation[:, ::-1]}
    result = build(grids, taps=("tap",), method="sum3dcam", num_frames=4)
    assert not result.maps_BTHW.any()
    assert result.empty_taps == (("tap",),)


def test_the_graphs_saliency_is_the_default_method_over_its_taps():
    grids = random_grids()
    grids["gradient_layer4"][0] = -1.0  # empty in one item: both sides must leave it out
    taps = tuple(Tap(name, 1, shape) for name, shape in TAP_SHAPES.items())
    saliency = Saliency(taps, num_frames=16, size_px=32, dtype=torch.float64)
    oracle = saliency({name: torch.from_numpy(grid).double() for name, grid in grids.items()})[SALIENCY].numpy()
    ours = build(grids, taps=tuple(TAP_SHAPES), method=DEFAULT_METHOD)
    assert ours.empty_taps == (("layer4",), ())
    np.testing.assert_allclose(ours.maps_BTHW, oracle, rtol=0, atol=ATOL)


def test_the_graph_gives_each_streams_saliency_over_that_streams_taps_alone():
    """Oracle: the numpy maps over those taps. The parity gate cannot see a mix-up: its two sides share the sum."""
    grids = random_grids()
    streams = {name: "rgb" if index % 2 else "flow" for index, name in enumerate(TAP_SHAPES)}
    taps = tuple(Tap(name, 1, shape, streams[name]) for name, shape in TAP_SHAPES.items())
    saliency = Saliency(taps, num_frames=16, size_px=32, dtype=torch.float64)
    found = saliency({name: torch.from_numpy(grid).double() for name, grid in grids.items()})
    assert tuple(found) == (SALIENCY, "saliency_flow", "saliency_rgb")
    for output, chosen in (
        (SALIENCY, tuple(streams)),
        *((f"saliency_{stream}", tuple(n for n, s in streams.items() if s == stream)) for stream in ("rgb", "flow")),
    ):
        wanted = build(grids, taps=chosen, method=DEFAULT_METHOD).maps_BTHW
        np.testing.assert_allclose(found[output].numpy(), wanted, rtol=0, atol=ATOL, err_msg=output)


def test_sum3dcam_upsamples_before_relu_and_product():
    # Grids of opposite signs: their products at the grid points are all zero, between the points they are not.
    gradient = np.array([[[[1.0, -0.5]]]], np.float32)
    activation = np.array([[[[-0.5, 1.0]]]], np.float32)
    grids = {"gradient_conv": gradient, "activation_conv": activation}
    result = build(grids, taps=["conv"], method="sum3dcam", num_frames=1, size_px=9)
    assert result.maps_BTHW[0, 0, 0].argmax() == 4
    assert result.maps_BTHW.max() == 1.0


def test_a_tap_with_a_negative_gradient_is_empty_and_leaves_the_others_alone():
    grids = random_grids(taps=("conv", "layer4"))
    grids["gradient_layer4"] = -np.abs(grids["gradient_layer4"])
    result = build(grids, taps=("conv", "layer4"), method="sum3dcam")
    assert result.empty_taps == (("layer4",), ("layer4",))
    np.testing.assert_array_equal(result.maps_BTHW, build(grids, taps=("conv",), method="sum3dcam").maps_BTHW)


def test_a_tap_is_empty_when_its_activation_is():
    grids = random_grids(taps=("conv",))
    grids["activation_conv"][1] = 0
    result = build(grids, taps=("conv",), method="sum3dcam")
    assert result.empty_taps == ((), ("conv",))
    assert not result.maps_BTHW[1].any()


def test_a_map_of_empty_taps_alone_is_zero():
    grids = {"layercam_layer4": np.zeros((1, 1, 4, 4), np.float32)}
    result = build(grids, taps=("layer4",), method="layercam")
    assert not result.maps_BTHW.any()
    assert result.empty_taps == (("layer4",),)


def test_an_item_does_not_depend_on_its_neighbours():
    grids = random_grids(batch=3)
    alone = {name: grid[1:2] for name, grid in grids.items()}
    together = build(grids, taps=tuple(TAP_SHAPES), method="sum3dcam").maps_BTHW[1]
    np.testing.assert_array_equal(build(alone, taps=tuple(TAP_SHAPES), method="sum3dcam").maps_BTHW[0], together)


def test_the_grids_are_not_modified():
    grids = random_grids()
    before = {name: grid.copy() for name, grid in grids.items()}
    for method in METHODS:
        build(grids, taps=("layer3",), method=method)
    for name, grid in grids.items():
        np.testing.assert_array_equal(grid, before[name])


def test_a_grid_already_at_full_size_is_not_modified_either():
    grids = {"layercam_conv": np.full((1, 16, 32, 32), -1.0, np.float32)}
    build(grids, taps=("conv",), method="layercam")
    assert (grids["layercam_conv"] == -1.0).all()


def test_only_the_grids_that_the_method_names_are_needed():
    grids = random_grids(taps=("conv",))
    for method, chosen in METHODS.items():
        build(
            {grid_name(grid, "conv"): grids[grid_name(grid, "conv")] for grid in chosen.grids},
            taps=["conv"],
            method=method,
        )
        assert set(chosen.grids) <= set(GRIDS)


def test_taps_default_to_all_and_for_gradcam_to_the_deepest():
    assert choose_taps(None, method="sum3dcam", available=("conv", "layer4")) == ("conv", "layer4")
    assert choose_taps(None, method="gradcam", available=("conv", "layer4")) == ("layer4",)


@pytest.mark.parametrize("asked", [(), ("layer9",), ("conv", "conv")])
def test_bad_taps_are_refused_with_those_allowed(asked):
    with pytest.raises(BadOptionError) as caught:
        choose_taps(asked, method="sum3dcam", available=("conv", "layer4"))
    assert caught.value.allowed == ["conv", "layer4"]
    assert caught.value.got == asked


def test_gradcam_of_two_taps_is_refused_and_names_the_way_out():
    with pytest.raises(BadOptionError, match=r"'gradcam' explains 1 tap; name one, or ask for a method that sums"):
        build(random_grids(), taps=("conv", "layer4"), method="gradcam")


def test_an_unknown_method_is_refused_with_those_allowed():
    with pytest.raises(BadOptionError) as caught:
        build({}, taps=("conv",), method="magic")
    assert caught.value.allowed == list(METHODS)


def test_an_unknown_coordinate_rule_is_refused():
    with pytest.raises(BadOptionError, match="coordinate rule"):
        upsample_matrix(2, 4, "nearest")


def test_a_tap_whose_grids_are_missing_is_refused():
    with pytest.raises(BadOptionError):
        build({"activation_conv": np.ones((1, 1, 2, 2), np.float32)}, taps=("conv",), method="sum3dcam")


def test_grids_of_another_rank_are_refused():
    with pytest.raises(BadArrayError, match=r"\(B,t,h,w\)"):
        build({"layercam_conv": np.ones((1, 2, 2), np.float32)}, taps=("conv",), method="layercam")
