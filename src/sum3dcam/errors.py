"""The tree of errors. Each leaf has a stable `code` and an HTTP status; the wire carries both.

Three kinds, told apart by who must act:

- `RequestError`: the client's fault. Answered per item; its neighbours in the batch never notice.
- `ArtifactError`: the artefact's fault. The server refuses to start with it.
- anything else is ours: logged with its traceback, answered as `internal` without details.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class Sum3DCamError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: what is wrong and what to do about it, one sentence or two.
        got: the offending value, short and printable.
        allowed: what would have been accepted.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, got: Any = None, allowed: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.got = got
        self.allowed = allowed

    def __str__(self) -> str:
        parts = [self.message]
        if self.got is not None:
            parts.append(f"got: {self.got}")
        if self.allowed is not None:
            parts.append(f"allowed: {self.allowed}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The error object of the wire contract: {code, message, got, allowed}."""
        return {"code": self.code, "message": self.message, "got": self.got, "allowed": self.allowed}


class RequestError(Sum3DCamError):
    """The client's fault."""

    code = "bad_request"
    http_status = 400


class EmptyBodyError(RequestError):
    """The request carries no bytes."""

    code = "empty_body"


class UnknownOptionError(RequestError):
    """An option key that the contract does not know."""

    code = "unknown_option"


class BadOptionError(RequestError):
    """A known option with a value outside its range."""

    code = "bad_option"


class UnreadableMediaError(RequestError):
    """Bytes that are no video, image or .npy array, or are cut off."""

    code = "unreadable_media"
    http_status = 415


class NoVideoFramesError(RequestError):
    """A readable container without a single picture: audio only, or zero frames."""

    code = "no_video_frames"
    http_status = 422


class DecoderCrashedError(RequestError):
    """Bytes on which the decoder crashed, in a process of its own."""

    code = "decoder_crashed"
    http_status = 422


class BadArrayError(RequestError):
    """An .npy array of another dtype, rank or shape than the contract's."""

    code = "bad_array"
    http_status = 422


class TooLargeError(RequestError):
    """Input or reply beyond a configured limit."""

    code = "too_large"
    http_status = 413


class DeadlineExceededError(RequestError):
    """The deadline passed before the item was computed."""

    code = "deadline_exceeded"
    http_status = 504


class UnauthorizedError(RequestError):
    """Seen by a client: the API key or the client certificate is missing or not accepted."""

    code = "unauthorized"
    http_status = 401


class ArtifactError(Sum3DCamError):
    """An artefact that cannot be served: no card, another contract version, graph and card disagree."""

    code = "bad_artifact"


class CheckpointError(Sum3DCamError):
    """Weights that do not fit the network named."""

    code = "bad_checkpoint"


class ParityError(Sum3DCamError):
    """An exported graph whose answers differ from the oracle's beyond tolerance."""

    code = "parity"


class ServerError(Sum3DCamError):
    """Seen by a client: the server failed, and it is not the request's fault."""

    code = "server_error"
    http_status = 500


class OverloadedError(ServerError):
    """Seen by a client: the queue is full or no worker is up; the request was not computed."""

    code = "overloaded"
    http_status = 503


class WorkerDiedError(ServerError):
    """Seen by a client: the worker died with the request, or with another of its batch."""

    code = "worker_died"


class UnreachableError(ServerError):
    """Seen by a client: no answer at all; its leaves say how far the request came, itself that time ran out."""

    code = "unreachable"
    http_status = 503


class RefusedError(UnreachableError):
    """Seen by a client: there was no connection, so the request was not sent."""

    code = "refused"


class LostError(UnreachableError):
    """Seen by a client: the connection was lost before the answer; the request may have been computed."""

    code = "lost"


def _leaves(root: type[Sum3DCamError]) -> Mapping[str, type[Sum3DCamError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_leaves(child))
    return found


def from_json(error: Mapping[str, Any]) -> Sum3DCamError:
    """The typed error behind a wire error object; an unknown code becomes `ServerError`.

    >>> type(from_json({"code": "bad_option", "message": "no", "got": "x", "allowed": None})).__name__
    'BadOptionError'
    """
    kind = _leaves(Sum3DCamError).get(str(error.get("code")), ServerError)
    return kind(str(error.get("message", "")), got=error.get("got"), allowed=error.get("allowed"))
