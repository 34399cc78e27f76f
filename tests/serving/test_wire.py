"""The two forms of a reply, there and back."""

import json
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load

from sum3dcam import wire
from sum3dcam.client.reply import read_reply
from sum3dcam.errors import BadOptionError, ServerError, TooLargeError
from sum3dcam.serving.codec import encode_reply, error_reply

ENVELOPE = {"contract_version": 1, "status": "ok", "model": {"name": "Jürgen"}, "clips": []}


def test_json_comes_back() -> None:
    assert wire.decode_reply(wire.encode_json(ENVELOPE)) == (ENVELOPE, {})


def test_safetensors_carries_envelope_and_tensors() -> None:
    tensors = {
        "maps": np.arange(24, dtype=np.uint8).reshape(1, 2, 3, 4),
        "grid": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    }
    body = wire.encode_safetensors(ENVELOPE, tensors=tensors)
    envelope, decoded = wire.decode_reply(body)
    assert envelope == ENVELOPE
    assert decoded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(decoded[name], tensor)
    # Any safetensors reader opens it.
    np.testing.assert_array_equal(load(body)["grid"], tensors["grid"])


def test_safetensors_without_tensors_still_carries_the_envelope() -> None:
    assert wire.decode_reply(wire.encode_safetensors(ENVELOPE, tensors={})) == (ENVELOPE, {})


def test_same_reply_has_the_same_bytes() -> None:
    tensors = {name: np.zeros((2, 2), np.float32) for name in "cab"}
    assert len({wire.encode_safetensors(ENVELOPE, tensors=tensors) for _ in range(5)}) == 1


def test_error_envelope_raises_its_type_on_the_other_side() -> None:
    reply = error_reply(BadOptionError("no", got=b"x", allowed=["a", "b"]), request_id="r")
    assert reply.http_status == 400
    assert json.loads(reply.body)["request_id"] == "r"
    with pytest.raises(BadOptionError) as caught:
        wire.decode_reply(reply.body)
    assert (caught.value.message, caught.value.allowed) == ("no", ["a", "b"])


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{}", b"[]", b"<html>", b"\x08" + bytes(7) + b"notjson!", bytes(100), b'{"status": "error"}']
)
def test_other_bytes_are_a_server_error(body: bytes) -> None:
    with pytest.raises(ServerError):
        wire.decode_reply(body)


def test_not_a_number_never_travels() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_reply({"score": float("nan")}, tensors={}, format="json", max_reply_bytes=100)


@pytest.mark.parametrize("compression", ["zlib", "delta-zlib"])
@pytest.mark.parametrize("format", ["json", "safetensors"])
def test_a_compressed_reply_is_read_like_any_other(format: str, compression: str) -> None:
    envelope = {"status": "ok", "filler": "x" * 300}
    tensors = {} if format == "json" else {"maps": np.zeros((1, 1, 16, 112, 112), np.uint8)}
    plain, packed = (
        encode_reply(envelope, tensors=tensors, format=format, compression=how, max_reply_bytes=10**6).body
        for how in ("none", compression)
    )
    assert len(packed) < len(plain) / 2
    for body in (plain, packed):
        found, arrays = wire.decode_reply(body)
        assert found == envelope
        assert {name: array.tolist() for name, array in arrays.items()} == {
            name: array.tolist() for name, array in tensors.items()
        }
    with pytest.raises(ServerError, match="no reply"):
        wire.decode_reply(packed[:-20])


def test_a_reply_that_inflates_beyond_the_limit_is_not_inflated() -> None:
    tensors = {"maps": np.zeros((1, 1, 16, 112, 112), np.uint8)}
    body = encode_reply(
        {"status": "ok"}, tensors=tensors, format="safetensors", compression="zlib", max_reply_bytes=10**6
    ).body
    plain = len(wire.decompress(body, max_bytes=0))
    for limit in (plain, plain + 1, 0):
        assert wire.decode_reply(body, max_inflated_bytes=limit)[1]["maps"].nbytes == 16 * 112 * 112
    with pytest.raises(TooLargeError, match="inflates"):
        wire.decode_reply(body, max_inflated_bytes=plain - 1)
    bomb = wire.compress(bytes(2 * 10**8))
    assert len(bomb) < 10**6
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="inflates"):
        read_reply(bomb, max_message_bytes=10**6)
    assert tracemalloc.get_traced_memory()[1] < 2 * 10**7
    tracemalloc.stop()


def test_differences_wrap_and_are_undone() -> None:
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 256, (2, 1, 3, 5, 7), np.uint8)
    expected = np.diff(np.diff(maps.astype(int), axis=-1, prepend=0), axis=-2, prepend=0) % 256
    np.testing.assert_array_equal(wire.differences(maps), expected)
    np.testing.assert_array_equal(wire.undo_differences(wire.differences(maps)), maps)


def test_of_a_reply_as_differences_only_the_u8_tensors_are_some() -> None:
    smooth_HW = np.add.outer(np.arange(112), np.arange(112)).astype(np.uint8)
    tensors = {"maps": np.tile(smooth_HW, (1, 1, 16, 1, 1)), "activation_conv": np.linspace(0, 1, 8, dtype=np.float32)}
    sizes = {}
    for compression in ("none", "zlib", "delta-zlib"):
        reply = encode_reply(
            {"status": "ok"}, tensors=tensors, format="safetensors", compression=compression, max_reply_bytes=10**6
        )
        sizes[compression] = len(reply.body)
        for name, tensor in wire.decode_reply(reply.body)[1].items():
            np.testing.assert_array_equal(tensor, tensors[name])
    assert sizes["delta-zlib"] < sizes["zlib"] / 2 < sizes["none"] / 4


# 376 and 65,912 bytes of header: lengths that begin as zlib's streams do; the second has a third byte that is not zero.
@pytest.mark.parametrize("at_least", [0, 65_536])
def test_a_header_that_begins_like_zlib_is_read_as_a_header(at_least: int) -> None:
    for filler in range(at_least, at_least + 800):
        body = encode_reply(
            {"status": "ok", "filler": "x" * filler},
            tensors={"a": np.zeros(1)},
            format="safetensors",
            max_reply_bytes=10**6,
        ).body
        if body[:2] == b"\x78\x01":
            assert wire.decode_reply(body)[0]["filler"] == "x" * filler
            return
    raise AssertionError("no header had that length")


def test_half_a_surrogate_pair_travels_escaped() -> None:
    reply = error_reply(BadOptionError("no such value", got="\ud800", allowed=["a"]), request_id="\udfff")
    assert json.loads(reply.body)["error"]["got"] == "\ud800"
    assert b"\\udfff" in reply.body
