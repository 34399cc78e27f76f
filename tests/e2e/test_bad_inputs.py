"""A bad input gets its own error, the same on both transports, and its neighbours never notice."""

import json
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
    in_one_batch: Any,
) -> None:
    bad = bad_inputs[kind]
    requests = [(video, GOOD) for video in videos[:7]]
    requests.insert(3, (bad.data, bad.options))
    alone = http(bad.data, bad.options).body
    for send in (http, grpc_send):
        answers, failed = in_one_batch(send, requests)
        assert failed == 1
        replies = [reply.body for reply in answers]
        assert replies.pop(3) == alone
        assert replies == good_alone


def test_all_seven_in_one_batch_with_a_good_one(
    bad_inputs: dict[str, Any], videos: list[bytes], good_alone: list[bytes], http: Any, in_one_batch: Any
) -> None:
    requests = [(bad_inputs[kind].data, bad_inputs[kind].options) for kind in KINDS] + [(videos[0], GOOD)]
    (*bad, good), failed = in_one_batch(http, requests)
    assert failed == 7
    assert [json.loads(reply.body)["error"]["code"] for reply in bad] == [bad_inputs[kind].code for kind in KINDS]
    assert good.body == good_alone[0]
