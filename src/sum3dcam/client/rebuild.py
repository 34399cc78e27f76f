"""Full maps from a reply that carries only the low-resolution grids: a hundredth of the bytes, the same map."""

from collections.abc import Mapping, Sequence

from sum3dcam.attribution.maps import build_maps, taps_by_stream
from sum3dcam.client.prediction import Array, Prediction
from sum3dcam.errors import RequestError


def rebuild_maps(prediction: Prediction, *, size_px: int | None = None) -> Array:
    """The maps that the server would have sent: float32 (N,T,H,W) in [0,1].

    Args:
        prediction: a reply to explain="grids"; one to explain="maps" gives its maps as they are.
        size_px: side of the maps; only for a server whose reply does not name its model's.

    Raises:
        RequestError: the reply carries neither maps nor grids, or nothing tells the maps' size.
    """
    if prediction.maps_NTHW is not None:
        return prediction.maps_NTHW
    return _build(prediction, taps=_taps(prediction), size_px=size_px)


def rebuild_stream_maps(prediction: Prediction, *, size_px: int | None = None) -> Mapping[str, Array]:
    """The maps of each stream alone that the server would have sent, keyed by stream, each as `rebuild_maps`.

    Empty where the taps lie in one stream. Arguments are those of `rebuild_maps`.

    Raises:
        RequestError: as `rebuild_maps`, or the reply does not say to which stream its taps belong.
    """
    if prediction.maps_NTHW is not None:
        return prediction.stream_maps
    taps, tap_streams = _taps(prediction), prediction.model.get("tap_streams")
    if tap_streams is None:
        raise RequestError("the reply does not say to which stream its taps belong; ask a server of this release")
    taps_of = taps_by_stream(taps, tap_streams=tap_streams)
    return {stream: _build(prediction, taps=names, size_px=size_px) for stream, names in taps_of.items()}


def _taps(prediction: Prediction) -> tuple[str, ...]:
    if not prediction.grids:
        raise RequestError("the reply carries no tensors; ask with explain='maps' or explain='grids'")
    return prediction.clips[0].taps


def _build(prediction: Prediction, *, taps: Sequence[str], size_px: int | None) -> Array:
    size = size_px if size_px is not None else prediction.model.get("size_px")
    if size is None:
        raise RequestError("the reply does not say how large the model's maps are; give size_px")
    return build_maps(
        prediction.grids,
        taps=taps,
        method=str(prediction.clips[0].method),
        num_frames=prediction.clip_length,
        size_px=int(size),
    ).maps_BTHW
