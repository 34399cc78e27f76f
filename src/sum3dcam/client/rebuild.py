"""Full maps from a reply that carries only the low-resolution grids: a hundredth of the bytes, the same map."""

from sum3dcam.attribution.maps import build_maps
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
    if not prediction.grids:
        raise RequestError("the reply carries no tensors; ask with explain='maps' or explain='grids'")
    size = size_px if size_px is not None else prediction.model.get("size_px")
    if size is None:
        raise RequestError("the reply does not say how large the model's maps are; give size_px")
    explained = prediction.clips[0]
    return build_maps(
        prediction.grids,
        taps=explained.taps,
        method=str(explained.method),
        num_frames=prediction.clip_length,
        size_px=int(size),
    ).maps_BTHW
