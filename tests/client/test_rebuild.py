"""Maps rebuilt from grids are the maps the server would have built."""

from typing import Any

import numpy as np
import pytest

from sum3dcam.attribution.maps import build_maps
from sum3dcam.client.rebuild import rebuild_maps, rebuild_stream_maps
from sum3dcam.client.reply import read_reply
from sum3dcam.errors import BadOptionError, RequestError

SIZE_PX = 24


def _grids(num_clips: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"layer1": (2, 6, 6), "layer2": (1, 3, 3)}
    return {
        f"{grid}_{tap}": rng.standard_normal((num_clips, 1, *shape)).astype(np.float32)
        for tap, shape in shapes.items()
        for grid in ("activation", "gradient")
    }


@pytest.mark.parametrize("named_by", ["server", "caller"])
def test_rebuilt_maps_equal_the_servers(make: Any, named_by: str) -> None:
    grids = _grids(2)
    model = {"name": "m", **({"size_px": SIZE_PX} if named_by == "server" else {})}
    prediction = read_reply(make.reply(make.envelope(model=model), grids))
    rebuilt = rebuild_maps(prediction, size_px=None if named_by == "server" else SIZE_PX)
    # Oracle: what the server calls on the same grids, so the bits are equal.
    first = {name: grid[:, 0] for name, grid in grids.items()}
    server = build_maps(first, taps=["layer1", "layer2"], method="sum3dcam", num_frames=4, size_px=SIZE_PX)
    np.testing.assert_array_equal(rebuilt[:, 0], server.maps_BTHW)


def test_of_several_classes_each_has_its_own_map(make: Any) -> None:
    one, two = _grids(2), {name: -grid for name, grid in _grids(2).items()}
    grids = {name: np.concatenate([one[name], two[name]], axis=1) for name in one}
    envelope = make.envelope(model={"name": "m", "size_px": SIZE_PX})
    for clip in envelope["clips"]:
        clip["explanations"] *= 2
    rebuilt = rebuild_maps(read_reply(make.reply(envelope, grids)))
    assert rebuilt.shape == (2, 2, 4, SIZE_PX, SIZE_PX)
    for place, of_class in enumerate((one, two)):
        alone = rebuild_maps(read_reply(make.reply(make.envelope(model={"name": "m", "size_px": SIZE_PX}), of_class)))
        np.testing.assert_array_equal(rebuilt[:, place], alone[:, 0])


def test_the_grids_also_give_other_maps_than_the_one_asked_for(make: Any) -> None:
    grids = _grids(2)
    prediction = read_reply(make.reply(make.envelope(model={"name": "m", "size_px": SIZE_PX}), grids))
    rebuilt = rebuild_maps(prediction, method="counterfactual", taps=["layer1"])
    first = {name: grid[:, 0] for name, grid in grids.items()}
    server = build_maps(first, taps=["layer1"], method="counterfactual", num_frames=4, size_px=SIZE_PX)
    np.testing.assert_array_equal(rebuilt[:, 0], server.maps_BTHW)
    with pytest.raises(BadOptionError, match="taps"):
        rebuild_maps(prediction, method="layercam", taps=["layer1"])  # its grids did not come


def test_how_the_server_interpolates_and_divides_is_kept(make: Any) -> None:
    grids = _grids(2)
    envelope = make.envelope(model={"name": "m", "size_px": SIZE_PX})
    envelope["attribution"] |= {"coordinates": "corners", "normalisation": "frame"}
    first = {name: grid[:, 0] for name, grid in grids.items()}
    server = build_maps(
        first,
        taps=["layer1", "layer2"],
        method="sum3dcam",
        num_frames=4,
        size_px=SIZE_PX,
        coordinates="corners",
        normalisation="frame",
    )
    np.testing.assert_array_equal(rebuild_maps(read_reply(make.reply(envelope, grids)))[:, 0], server.maps_BTHW)


def test_maps_give_no_others(make: Any) -> None:
    prediction = read_reply(make.reply(make.envelope(), {"maps": make.blob_maps(2)}))
    with pytest.raises(RequestError, match="explain='grids'"):
        rebuild_maps(prediction, method="gradcam")


def test_maps_that_came_are_given_as_they_are(make: Any) -> None:
    prediction = read_reply(make.reply(make.envelope(), {"maps": make.blob_maps(2)}))
    assert rebuild_maps(prediction) is prediction.maps_NETHW


def test_a_reply_without_tensors_is_refused(make: Any) -> None:
    with pytest.raises(RequestError, match="explain='maps'"):
        rebuild_maps(read_reply(make.reply(make.envelope())))


def test_an_unknown_size_is_asked_for(make: Any) -> None:
    with pytest.raises(RequestError, match="size_px"):
        rebuild_maps(read_reply(make.reply(make.envelope(), _grids(2))))


def test_rebuilt_maps_of_streams_equal_the_servers(make: Any) -> None:
    model = {"name": "m", "size_px": SIZE_PX, "tap_streams": {"layer1": "rgb", "layer2": "flow"}}
    grids = _grids(2)
    rebuilt = rebuild_stream_maps(read_reply(make.reply(make.envelope(model=model), grids)))
    assert set(rebuilt) == {"rgb", "flow"}
    for stream, tap in (("rgb", "layer1"), ("flow", "layer2")):
        # Oracle: what the server calls on the grids of that stream's taps, so the bits are equal.
        first = {name: grid[:, 0] for name, grid in grids.items()}
        server = build_maps(first, taps=[tap], method="sum3dcam", num_frames=4, size_px=SIZE_PX)
        np.testing.assert_array_equal(rebuilt[stream][:, 0], server.maps_BTHW)


def test_maps_of_streams_that_came_are_given_as_they_are(make: Any) -> None:
    maps = make.blob_maps(2)
    prediction = read_reply(make.reply(make.envelope(), {"maps": maps, "maps_rgb": maps, "maps_flow": maps}))
    assert rebuild_stream_maps(prediction) is prediction.stream_maps


def test_taps_of_one_stream_give_no_map_of_streams(make: Any) -> None:
    model = {"name": "m", "size_px": SIZE_PX, "tap_streams": {"layer1": "rgb", "layer2": "rgb", "other": "flow"}}
    assert rebuild_stream_maps(read_reply(make.reply(make.envelope(model=model), _grids(2)))) == {}


@pytest.mark.parametrize("missing", ["tensors", "streams"])
def test_maps_of_streams_that_cannot_be_had_are_refused(make: Any, missing: str) -> None:
    model = {"name": "m", "size_px": SIZE_PX}
    tensors = {"tensors": None, "streams": _grids(2)}[missing]
    with pytest.raises(RequestError, match="explain=" if missing == "tensors" else "to which stream"):
        rebuild_stream_maps(read_reply(make.reply(make.envelope(model=model), tensors)))
