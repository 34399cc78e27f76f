"""The reply as a server sends it: bytes with their content type and HTTP status."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sum3dcam import wire
from sum3dcam.contract import JSON_TYPE, SAFETENSORS_TYPE
from sum3dcam.errors import Sum3DCamError, TooLargeError

OK = 200


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
        raise TooLargeError(
            "the reply is beyond the server's max_response_size; ask for explain=grids or boxes, map_dtype=u8, fewer "
            "taps, or send a shorter video",
            got=len(reply.body),
            allowed=max_reply_bytes,
        )
    return reply


def error_reply(error: Sum3DCamError, *, request_id: str | None) -> Reply:
    """The error as an envelope with the error's own HTTP status."""
    envelope = wire.error_envelope(error, request_id=request_id)
    return Reply(body=wire.encode_json(envelope), content_type=JSON_TYPE, http_status=error.http_status)
