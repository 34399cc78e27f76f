"""The reply on the wire: a JSON envelope, alone or in the header of a safetensors file."""

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from sum3dcam.contract import CONTRACT_VERSION, DIFFERENCES_KEY, ENVELOPE_KEY
from sum3dcam.errors import ServerError, Sum3DCamError, TooLargeError, from_json

Tensors = Mapping[str, NDArray[Any]]

_ZLIB = b"\x78\x01"  # a stream of the level used here


def encode_json(envelope: Mapping[str, Any]) -> bytes:
    """The envelope as compact UTF-8 JSON, half surrogate pairs escaped; NaN and infinity raise ValueError."""
    text = json.dumps(envelope, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace")


def encode_safetensors(envelope: Mapping[str, Any], *, tensors: Tensors) -> bytes:
    """A safetensors file of the tensors with the envelope in its metadata."""
    return _safetensors(tensors, metadata={ENVELOPE_KEY: encode_json(envelope).decode()})


def encode_differences(envelope: Mapping[str, Any], *, tensors: Tensors) -> bytes:
    """The same with its uint8 tensors as `differences`, which its metadata names."""
    smaller = [name for name, tensor in tensors.items() if tensor.dtype == np.uint8]
    return _safetensors(
        {name: differences(tensor) if name in smaller else tensor for name, tensor in tensors.items()},
        metadata={ENVELOPE_KEY: encode_json(envelope).decode(), DIFFERENCES_KEY: ",".join(smaller)},
    )


def _safetensors(tensors: Tensors, *, metadata: Mapping[str, str]) -> bytes:
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return safetensors.numpy.save(contiguous, metadata=dict(metadata))


def differences(tensor: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each value minus its left neighbour's, and then minus the upper one's of that, modulo 256: mostly small in a map.

    >>> differences(np.array([[5, 6], [7, 9]], np.uint8)).tolist()
    [[5, 1], [2, 1]]
    >>> undo_differences(np.array([[5, 1], [2, 1]], np.uint8)).tolist()
    [[5, 6], [7, 9]]
    """
    result = tensor.copy()
    result[..., 1:] -= tensor[..., :-1]
    result[..., 1:, :] -= result[..., :-1, :].copy()
    return result


def undo_differences(tensor: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What `differences` were taken of."""
    return tensor.cumsum(-2, np.uint8).cumsum(-1, np.uint8)


def compress(body: bytes) -> bytes:
    """A reply as zlib; the fastest level: the next ones save little more."""
    return zlib.compress(body, level=1)


def describe_tensors(tensors: Tensors, *, axes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The envelope's `tensors`: dtype, shape and axes of each.

    >>> describe_tensors({"maps": np.zeros((1, 2), np.uint8)}, axes={"maps": "NT"})
    {'maps': {'dtype': 'uint8', 'shape': [1, 2], 'axes': 'NT'}}
    """
    return {
        name: {"dtype": str(tensor.dtype), "shape": list(tensor.shape), "axes": axes[name]}
        for name, tensor in tensors.items()
    }


def error_envelope(error: Sum3DCamError, *, request_id: str | None) -> dict[str, Any]:
    """The envelope of an error; what JSON cannot say of got and allowed is said as text."""
    content = json.loads(json.dumps(error.to_json(), default=str))
    return {"contract_version": CONTRACT_VERSION, "status": "error", "request_id": request_id, "error": content}


def decompress(body: bytes, *, max_bytes: int) -> bytes:
    """What `compress` was given; 0 is no limit.

    Raises:
        TooLargeError: more than max_bytes, of which no more are inflated.
        zlib.error: no whole stream.
    """
    stream = zlib.decompressobj()
    plain = stream.decompress(body, max_bytes and max_bytes + 1)
    if max_bytes and len(plain) > max_bytes:
        raise TooLargeError(
            "the compressed reply inflates beyond the limit; ask for less, or raise it",
            got=f"more than {max_bytes} bytes",
            allowed=max_bytes,
        )
    if not stream.eof:
        raise zlib.error("the stream is cut off")
    return plain


def decode_reply(body: bytes, *, max_inflated_bytes: int = 0) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Envelope and tensors of a reply, whichever of the two forms it came in, compressed or not.

    Raises:
        Sum3DCamError: the typed error that an error envelope names.
        TooLargeError: a compressed one takes more than max_inflated_bytes; 0 is no limit.
        ServerError: the bytes are no reply.
    """
    tensors: dict[str, NDArray[Any]] = {}
    try:
        # A safetensors file begins with the length of its header in 8 bytes, which here would be beyond its end.
        if body[:2] == _ZLIB and int.from_bytes(body[:8], "little") > len(body):
            body = decompress(body, max_bytes=max_inflated_bytes)
        # A safetensors header is padded to 8 bytes, so its length never begins with a brace (123).
        if body[:1] == b"{":
            envelope = json.loads(body)
        else:
            # safetensors: 8 bytes little-endian length, then a JSON header whose __metadata__ holds strings.
            (header_bytes,) = struct.unpack_from("<Q", body)
            header = json.loads(body[8 : 8 + header_bytes])
            envelope = json.loads(header["__metadata__"][ENVELOPE_KEY])
            tensors = safetensors.numpy.load(body)
            for name in filter(None, header["__metadata__"].get(DIFFERENCES_KEY, "").split(",")):
                tensors[name] = undo_differences(tensors[name])
        error = None if envelope["status"] == "ok" else from_json(envelope["error"])
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        struct.error,
        safetensors.SafetensorError,
        zlib.error,
    ) as cause:
        raise ServerError("the bytes are no reply of a sum3dcam server", got=repr(body[:80])) from cause
    if error is not None:
        raise error
    return envelope, tensors
