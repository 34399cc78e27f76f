"""The reply as a server sends it: bytes with their content type and HTTP status."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sum3dcam import wire
from sum3dcam.contract import COMPRESSED_SHARE, JSON_TYPE, SAFETENSORS_TYPE
from sum3dcam.errors import Sum3DCamError, TooLargeError

OK = 200
_TOO_LARGE = (
    "the reply is beyond the server's max_response_size; ask for explain=grids or boxes, map_dtype=u8, fewer classes "
    "or taps, or send a shorter video"
)


@dataclass(frozen=True)
class Reply:
    """One item's answer. gRPC drops status and content type, so the body says both as well."""

    body: bytes
    content_type: str
    http_status: int


def encode_reply(
    envelope: Mapping[str, Any],
    *,
    tensors: wire.Tensors,
    format: str,
    compression: str = "none",
    max_reply_bytes: int,
) -> Reply:
    """The envelope and its tensors in the format asked for.

    Raises:
        TooLargeError: more bytes than the server may send: beyond max_response_size TorchServe kills the worker.
    """
    if format == "json":
        reply = Reply(body=wire.encode_json(envelope), content_type=JSON_TYPE, http_status=OK)
    else:
        encode = wire.encode_differences if compression == "delta-zlib" else wire.encode_safetensors
        reply = Reply(body=encode(envelope, tensors=tensors), content_type=SAFETENSORS_TYPE, http_status=OK)
    if compression != "none":
        reply = replace(reply, body=wire.compress(reply.body))
    if len(reply.body) > max_reply_bytes:
        raise TooLargeError(_TOO_LARGE, got=len(reply.body), allowed=max_reply_bytes)
    return reply


def check_tensor_bytes(num_bytes: int, *, compression: str, max_reply_bytes: int) -> None:
    """Refuses an answer before it is computed whose tensors alone would be beyond the limit, or fill the memory.

    Raises:
        TooLargeError: more bytes than `encode_reply` could send; where they are compressed, than COMPRESSED_SHARE times
            as many.
    """
    allowed = max_reply_bytes * (1 if compression == "none" else COMPRESSED_SHARE)
    if num_bytes > allowed:
        raise TooLargeError(_TOO_LARGE, got=num_bytes, allowed=allowed)


def error_reply(error: Sum3DCamError, *, request_id: str | None) -> Reply:
    """The error as an envelope with the error's own HTTP status."""
    envelope = wire.error_envelope(error, request_id=request_id)
    return Reply(body=wire.encode_json(envelope), content_type=JSON_TYPE, http_status=error.http_status)
