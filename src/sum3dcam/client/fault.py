"""What a server or a proxy says instead of an answer, as an error of the tree."""

from collections.abc import Mapping

from sum3dcam.errors import (
    OverloadedError,
    RequestError,
    ServerError,
    Sum3DCamError,
    TooLargeError,
    UnauthorizedError,
    UnreachableError,
    WorkerDiedError,
)

_NO_KEY = "the server wants an API key, or a client certificate, that it accepts"
_NOT_NOW = "the server could not take the request now; try again later"
_NO_SERVER = "the proxy got no answer from a server"

# By HTTP status; gRPC's own codes have one of these each.
_FAULTS: Mapping[int, tuple[type[Sum3DCamError], str]] = {
    400: (RequestError, "the server refused the request"),
    401: (UnauthorizedError, _NO_KEY),
    403: (UnauthorizedError, _NO_KEY),
    404: (RequestError, "the server has no model '{model}'"),
    413: (TooLargeError, "the request is larger than the server's max_request_size"),
    429: (OverloadedError, _NOT_NOW),
    502: (UnreachableError, _NO_SERVER),
    503: (OverloadedError, _NOT_NOW),
    504: (UnreachableError, _NO_SERVER),
}


def find_fault(status: int, *, said: str, model: str) -> Sum3DCamError:
    """The typed error behind a status that came without the contract's envelope; `said` is all that did come."""
    # TorchServe calls it 413 after a SIGKILL, and RESOURCE_EXHAUSTED over gRPC: its guess is a lack of memory.
    if "Worker died" in said:
        return WorkerDiedError("a worker died with the request, or with another of its batch", got=said)
    kind, message = _FAULTS.get(status, (ServerError, "the server failed"))
    return kind(message.format(model=model), got=said)
