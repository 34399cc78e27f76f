"""Maps rebuilt from grids are the maps the server would have built."""

from typing import Any

import numpy as np
import pytest

from sum3dcam.attribution.maps import build_maps
from sum3dcam.client.prediction import read_reply
from sum3dcam.client.rebuild import rebuild_maps, rebuild_stream_maps
from sum3dcam.errors import RequestError

SIZE_PX = 24


def _grids(num_clips: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"layer1": (2, 6, 6), "layer2": (1, 3, 3)}
    return {
        f"{grid}_{tap}": rng.standard_normal((num_clips, *shape)).astype(np.float32)
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
    server = build_maps(grids, taps=["layer1", "layer2"], method="sum3dcam", num_frames=4, size_px=SIZE_PX)
    np.testing.assert_array_equal(rebuilt, server.maps_BTHW)


def test_maps_that_came_are_given_as_they_are(make: Any) -> None:
    prediction = read_reply(make.reply(make.envelope(), {"maps": make.blob_maps(2)}))
    assert rebuild_maps(prediction) is prediction.maps_NTHW


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
        server = build_maps(grids, taps=[tap], method="sum3dcam", num_frames=4, size_px=SIZE_PX)
        np.testing.assert_array_equal(rebuilt[stream], server.maps_BTHW)


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
