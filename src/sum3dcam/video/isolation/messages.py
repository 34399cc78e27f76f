"""What a server and its decoder processes tell each other: JSON and raw bytes, nothing that runs when it is read."""

import json
import math
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bytes of the JSON, bytes of the payload behind it.
_LENGTHS = struct.Struct("<QQ")


def send(
    to: socket.socket,
    fields: Mapping[str, Any],
    *,
    payload: bytes | memoryview = b"",
    deadline: float = math.inf,
) -> None:
    """Raises TimeoutError at the deadline (monotonic seconds), ConnectionError where nobody listens any more."""
    text = json.dumps(fields).encode()
    for part in (_LENGTHS.pack(len(text), len(payload)), text, payload):
        _set_timeout(to, deadline=deadline)
        to.sendall(part)


def receive(
    source: socket.socket, *, max_fields_bytes: int, max_payload_bytes: int, deadline: float = math.inf
) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """One message.

    Raises:
        EOFError: the other side has closed, or said more than allowed, or what is no message.
        TimeoutError: the deadline, in monotonic seconds, has passed.
        ConnectionError: the other side is gone.
    """
    lengths = _read(source, _LENGTHS.size, deadline=deadline)
    num_fields, num_payload = _LENGTHS.unpack(lengths.tobytes())
    if num_fields > max_fields_bytes or num_payload > max_payload_bytes:
        raise EOFError(f"a message of {num_fields} and {num_payload} bytes")
    text = _read(source, num_fields, deadline=deadline).tobytes()
    payload = _read(source, num_payload, deadline=deadline)
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EOFError("a message that is no JSON") from error
    return fields, payload


def _read(source: socket.socket, num_bytes: int, *, deadline: float) -> NDArray[np.uint8]:
    buffer = np.empty(num_bytes, np.uint8)
    view = buffer.data
    done = 0
    while done < num_bytes:
        _set_timeout(source, deadline=deadline)
        received = source.recv_into(view[done:])
        if not received:
            raise EOFError("the other side has closed")
        done += received
    return buffer


def _set_timeout(of: socket.socket, *, deadline: float) -> None:
    if deadline == math.inf:
        return  # as it was made: it waits for ever
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    of.settimeout(left)
