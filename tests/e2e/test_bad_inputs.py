"""A bad input gets its own error, the same on both transports, and its neighbours never notice."""

import json
from collections.abc import Callable
from typing import Any

import pytest

KINDS = ("empty body", "text", "truncated mp4", "audio only", "npy of floats", "zero frames", "unknown option")
GOOD = {"explain": "boxes"}


@pytest.fixture(scope="module")
def good_alone(videos: list[bytes], http: Any) -> list[bytes]:
    """What the good videos are answered with nobody beside them."""
    return [http(video, GOOD).body for video in videos[:7]]


@pytest.mark.parametrize("kind", KINDS)
def test_alone_it_gets_the_same_error_on_both_transports(
    kind: str, bad_inputs: dict[str, Any], http: Any, grpc_send: Any
) -> None:
    bad = bad_inputs[kind]
    over_http, over_grpc = http(bad.data, bad.options), grpc_send(bad.data, bad.options)
    envelope = json.loads(over_http.body)
    assert envelope["status"] == "error"
    assert envelope["error"]["code"] == bad.code
    assert bad.says in json.dumps(envelope["error"])
    assert (over_http.status, over_http.content_type) == (bad.http_status, "application/json")
    assert over_grpc.body == over_http.body


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_batch_its_neighbours_answers_are_byte_identical(
    kind: str,
    bad_inputs: dict[str, Any],
    videos: list[bytes],
    good_alone: list[bytes],
    http: Any,
    grpc_send: Any,
    together: Any,
    batches: Callable[[], list[tuple[int, int]]],
) -> None:
    bad = bad_inputs[kind]
    requests = [(video, GOOD) for video in videos[:7]]
    requests.insert(3, (bad.data, bad.options))
    alone = http(bad.data, bad.options).body
    for send in (http, grpc_send):
        replies = [reply.body for reply in together(send, requests)]
        assert batches()[-1] == (len(requests), 1), "the requests did not meet in one batch"
        assert replies.pop(3) == alone
        assert replies == good_alone


def test_all_seven_in_one_batch_with_a_good_one(
    bad_inputs: dict[str, Any], videos: list[bytes], good_alone: list[bytes], http: Any, together: Any, batches: Any
) -> None:
    requests = [(bad_inputs[kind].data, bad_inputs[kind].options) for kind in KINDS] + [(videos[0], GOOD)]
    *bad, good = together(http, requests)
    assert batches()[-1] == (8, 7)
    assert [json.loads(reply.body)["error"]["code"] for reply in bad] == [bad_inputs[kind].code for kind in KINDS]
    assert good.body == good_alone[0]
