"""Triton's requests to rows, and replies back: each is a batch of items, whose media and options are BYTES tensors."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam.errors import BadOptionError, RequestError, UnknownOptionError
from sum3dcam.serving.codec import error_reply
from sum3dcam.serving.options import TRANSPORT_KEYS
from sum3dcam.serving.predictor import Predictor
from sum3dcam.serving.telemetry import Caller, Telemetry

# Tensors of Python's bytes, (B,1).
DATA = "data"  # a video, an image or an .npy clip
OPTIONS = "options"  # optional: a JSON object of flat options
REPLY = "reply"

# Triton does not tell a model who asks, and over which of its transports.
CALLER = Caller(transport="triton", server_id=None, trace=None)

Tensors = Mapping[str, NDArray[Any]]


def answer(requests: Sequence[Tensors], *, predictor: Predictor, telemetry: Telemetry) -> list[dict[str, NDArray[Any]]]:
    """Each request's replies, (B,1); Triton has no status of its own for an item, so the envelope's is all there is."""
    items = [item for request in requests for item in _items(request)]
    rows, replies = {}, {}
    for place, (data, options) in enumerate(items):
        try:
            rows[place] = {**read_options(options), DATA: data}
        except RequestError as error:
            replies[place] = error_reply(error, request_id=None)
    answers = predictor.answer(list(rows.values()))
    telemetry.tell([report for _, report in answers], callers=[CALLER] * len(answers))
    replies |= zip(rows, (reply for reply, _ in answers), strict=True)
    bodies = iter([replies[place].body for place in range(len(items))])
    return [{REPLY: np.array([[next(bodies)] for _ in request[DATA]], np.object_)} for request in requests]


def read_options(text: bytes) -> dict[str, str | int | float]:
    """An item's options, not yet held against the contract; none for an empty text.

    >>> read_options(b'{"explain": "boxes", "top_k": 3}')
    {'explain': 'boxes', 'top_k': 3}

    Raises:
        BadOptionError: no JSON object of texts and numbers.
        UnknownOptionError: a key that names no option, but a part of the request.
    """
    try:
        options = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict) or not all(type(value) in (str, int, float) for value in options.values()):
        raise BadOptionError(
            f"the tensor '{OPTIONS}' is no JSON object of texts and numbers",
            got=repr(text[:80]),
            allowed='as {"explain": "boxes", "top_k": 3}',
        )
    for key in TRANSPORT_KEYS:
        if key in options:
            raise UnknownOptionError(f"'{key}' is no option; media go in the tensor '{DATA}'", got=key)
    return options


def _items(request: Tensors) -> Iterator[tuple[bytes, bytes]]:
    """Media and options of each of a request's items."""
    none = np.full_like(request[DATA], b"")
    yield from zip(request[DATA][:, 0], request.get(OPTIONS, none)[:, 0], strict=True)
