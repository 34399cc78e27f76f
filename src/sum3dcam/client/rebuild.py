"""Full maps from a reply that carries only the low-resolution grids: a hundredth of the bytes, the same map."""

from collections.abc import Mapping, Sequence

from sum3dcam.attribution.maps import build_maps, taps_by_stream
from sum3dcam.client.prediction import Array, Attribution, Prediction
from sum3dcam.errors import RequestError


def rebuild_maps(
    prediction: Prediction, *, method: str | None = None, taps: Sequence[str] | None = None, size_px: int | None = None
) -> Array:
    """The maps that the server would have sent: float32 (N,E,T,H,W) in [0,1].

    Args:
        prediction: a reply to explain="grids"; one to explain="maps" gives its maps as they are.
        method: another method than was asked for, as far as the grids of the reply allow.
        taps: some of the taps that were asked for, instead of all.
        size_px: side of the maps; only for a server whose reply does not name its model's.

    Raises:
        RequestError: the reply carries neither maps nor grids, or maps alone where other ones are wanted; or nothing
            tells the maps' size.
        BadOptionError: an unknown method, or taps without the grids that it reads.
    """
    if prediction.maps_NETHW is not None:
        if method is not None or taps is not None:
            raise RequestError("the reply carries maps, not the grids of which others are made; ask explain='grids'")
        return prediction.maps_NETHW
    attribution = _attribution(prediction)
    return _build(
        prediction,
        method=method or attribution.method,
        taps=attribution.taps if taps is None else taps,
        size_px=size_px,
    )


def rebuild_stream_maps(prediction: Prediction, *, size_px: int | None = None) -> Mapping[str, Array]:
    """The maps of each stream alone that the server would have sent, keyed by stream, each as `rebuild_maps`.

    Empty where the taps lie in one stream. Arguments are those of `rebuild_maps`.

    Raises:
        RequestError: as `rebuild_maps`, or the reply does not say to which stream its taps belong.
    """
    if prediction.maps_NETHW is not None:
        return prediction.stream_maps
    attribution, tap_streams = _attribution(prediction), prediction.model.get("tap_streams")
    if tap_streams is None:
        raise RequestError("the reply does not say to which stream its taps belong; ask a server of this release")
    taps_of = taps_by_stream(attribution.taps, tap_streams=tap_streams)
    return {
        stream: _build(prediction, method=attribution.method, taps=taps, size_px=size_px)
        for stream, taps in taps_of.items()
    }


def _attribution(prediction: Prediction) -> Attribution:
    if not prediction.grids or prediction.attribution is None:
        raise RequestError("the reply carries no tensors; ask with explain='maps' or explain='grids'")
    return prediction.attribution


def _build(prediction: Prediction, *, method: str, taps: Sequence[str], size_px: int | None) -> Array:
    size = size_px if size_px is not None else prediction.model.get("size_px")
    if size is None:
        raise RequestError("the reply does not say how large the model's maps are; give size_px")
    attribution = _attribution(prediction)
    # One batch of all clips and classes.
    grids = {name: grid.reshape(-1, *grid.shape[2:]) for name, grid in prediction.grids.items()}
    maps_BTHW = build_maps(
        grids,
        taps=taps,
        method=method,
        num_frames=prediction.clip_length,
        size_px=int(size),
        coordinates=attribution.coordinates,
        normalisation=attribution.normalisation,
    ).maps_BTHW
    return maps_BTHW.reshape(len(prediction.clips), -1, *maps_BTHW.shape[1:])
