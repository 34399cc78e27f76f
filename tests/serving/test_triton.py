"""Triton's batches without Triton: what it hands over, and what it is handed back."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sum3dcam.errors import BadOptionError, UnknownOptionError
from sum3dcam.serving.predictor import Predictor
from sum3dcam.serving.telemetry import Telemetry
from sum3dcam.serving.triton import answer, read_options


def column(*items: bytes) -> NDArray[Any]:
    return np.array([[item] for item in items], np.object_)


@pytest.fixture
def predictor(engines: Any) -> Predictor:
    return Predictor(*engines)


@pytest.fixture
def telemetry(engines: Any) -> Telemetry:
    return Telemetry("m", version="1.0", engines=engines)


def test_requests_of_several_items_keep_their_order_and_their_own_options(
    predictor: Predictor, telemetry: Telemetry, clip_bytes: Callable[..., bytes]
) -> None:
    clips = [clip_bytes(seed) for seed in range(4)]
    texts = [b'{"explain": "boxes"}', b'{"top_k": 1}', b"", b'{"explain": "maps", "threshold": 0.5}']
    wishes: list[dict[str, Any]] = [{"explain": "boxes"}, {"top_k": "1"}, {}, {"explain": "maps", "threshold": "0.5"}]
    requests = [
        {"data": column(*clips[:2]), "options": column(*texts[:2])},
        {"data": column(clips[2])},
        {"data": column(clips[3]), "options": column(texts[3])},
    ]
    replies = answer(requests, predictor=predictor, telemetry=telemetry)
    assert [reply["reply"].shape for reply in replies] == [(2, 1), (1, 1), (1, 1)]
    bodies = [body for reply in replies for body in reply["reply"][:, 0]]
    alone = [predictor.predict([{"data": clip, **wish}])[0] for clip, wish in zip(clips, wishes, strict=True)]
    assert bodies == [reply.body for reply in alone]
    assert all(type(body) is bytes for body in bodies)


def test_a_bad_item_is_answered_and_its_neighbours_never_notice(
    predictor: Predictor, telemetry: Telemetry, clip_bytes: Callable[..., bytes]
) -> None:
    (good,) = predictor.predict([{"data": clip_bytes()}])
    data = column(clip_bytes(), b"", clip_bytes(), clip_bytes())
    options = column(b"{}", b"{}", b"[", b'{"tpo_k": 3}')
    (reply,) = answer([{"data": data, "options": options}], predictor=predictor, telemetry=telemetry)
    assert reply["reply"][0, 0] == good.body
    errors = [json.loads(body)["error"]["code"] for body in reply["reply"][1:, 0]]
    assert errors == ["empty_body", "bad_option", "unknown_option"]


@pytest.mark.parametrize("text", [b"[1]", b"x", b'{"a": null}', b'{"a": true}', b'{"a": ["b"]}', b"\xff", b"[" * 10**5])
def test_options_that_are_no_flat_object_are_refused(text: bytes) -> None:
    with pytest.raises(BadOptionError, match="'options'"):
        read_options(text)


@pytest.mark.parametrize("key", ["data", "body", "model_name"])
def test_a_part_of_the_request_is_no_option(key: str) -> None:
    with pytest.raises(UnknownOptionError, match=key):
        read_options(json.dumps({key: "x"}).encode())
