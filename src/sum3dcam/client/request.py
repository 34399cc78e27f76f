"""What both transports do before sending: options to text, and the size checked against the limit."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from sum3dcam.errors import TooLargeError


class Options(TypedDict, total=False):
    """The request's options. One that is left out, or None, is not sent: the server's default holds.

    Attributes:
        explain: "none", "boxes", "maps" or "grids".
        method: a key of `attribution.maps.METHODS`.
        taps: names of taps; a string is sent as it is ("layer1,layer2").
        target: class to explain, as an index or a label; "top" is each clip's best, "top-3" its three best. A
            sequence explains several: each gets its map and boxes.
        coordinates: "half-pixel" or "corners": what interpolation takes a grid's samples for.
        normalisation: "clip" or "frame": over what a map is divided by its maximum.
        top_k: how many labels to answer.
        threshold: a box holds what reaches threshold times the clip's maximum.
        box_mode: "union", "largest" or "all".
        tubes: "none", "linked" or "smoothed"; needs an explanation.
        map_dtype: "u8", "f16" or "f32".
        format: "json" or "safetensors".
        compression: "none", "zlib", or "delta-zlib", which stores u8 maps as differences first: less than half
            their bytes, for some milliseconds; undone by the client.
        deadline_ms: an item not begun by then is answered with an error, not computed. Milliseconds from its arrival
            at the worker, without what it waited in TorchServe's queue; from 10^12 on a Unix time, which counts that,
            too. The client itself waits no longer either way.
        request_id: comes back in the reply.
        traceparent: the caller's place in a trace (W3C Trace Context), for the server's log.
    """

    explain: str | None
    method: str | None
    taps: str | Sequence[str] | None
    target: int | str | Sequence[int | str] | None
    coordinates: str | None
    normalisation: str | None
    top_k: int | None
    threshold: float | None
    box_mode: str | None
    tubes: str | None
    map_dtype: str | None
    format: str | None
    compression: str | None
    deadline_ms: int | None
    request_id: str | None
    traceparent: str | None


def option_texts(options: Mapping[str, object]) -> dict[str, str]:
    """The options given, as the flat texts of the wire.

    >>> option_texts({"explain": "maps", "taps": ("layer1", "layer2"), "top_k": 3, "target": None})
    {'explain': 'maps', 'taps': 'layer1,layer2', 'top_k': '3'}
    """
    return {key: _text(value) for key, value in options.items() if value is not None}


def _text(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(str(item) for item in value)
    return str(value)


def check_size(num_bytes: int, *, max_message_bytes: int) -> None:
    """Refuses a request that the server would drop without saying why.

    Raises:
        TooLargeError: more bytes than the limit.
    """
    if num_bytes > max_message_bytes:
        raise TooLargeError(
            "the request is larger than max_message_bytes and was not sent; cut the video, or raise the limit here "
            "and the server's max_request_size with it",
            got=num_bytes,
            allowed=max_message_bytes,
        )


def reply_too_large(*, got: object, max_message_bytes: int) -> TooLargeError:
    """The error for a reply beyond the limit."""
    return TooLargeError(
        "the reply is larger than max_message_bytes; ask for less (explain='boxes' or 'grids', map_dtype='u8', a "
        "shorter video), or raise the limit",
        got=got,
        allowed=max_message_bytes,
    )
