"""How a client reaches its servers, the same for HTTP and gRPC, waiting or awaited."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TypedDict

from sum3dcam.errors import BadOptionError

DEFAULT_MODEL = "resnext-mini"
# Longer than the server gives a worker for a batch (responseTimeout): its own answer comes first.
DEFAULT_TIMEOUT_SECONDS = 360.0
# One number for what goes out and what comes back, on both transports.
DEFAULT_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# A host that does not answer at all is left for the next address after this.
CONNECT_TIMEOUT_SECONDS = 5.0

API_KEY_HEADER = "x-api-key"
API_KEY_VARIABLE = "SUM3DCAM_API_KEY"


@dataclass(frozen=True)
class Tls:
    """PEM files for https:// and grpcs:// addresses.

    Attributes:
        ca_file: whom to trust; None for the system's authorities over HTTP, gRPC's own list over gRPC.
        certificate_file: the client's own certificate, for servers that ask for one.
        key_file: its private key; None where the certificate's file holds it.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True)
class Retries:
    """How often a request is sent again; the time for it stays that of one request.

    Predictions may be computed twice without harm. What is sent again is only what was surely not computed, or lost
    through nobody's fault: never what a server or a proxy answered with "overloaded" or any other error.

    Attributes:
        rounds: how often every address is tried for a connection.
        resends: how often a request is sent again whose connection was lost before its answer.
        worker_deaths: how many workers a request may be under way with when they die, before it is given up; with 1
            it is never sent to a second.
    """

    rounds: int = 2
    resends: int = 1
    worker_deaths: int = 1


class Settings(TypedDict, total=False):
    """What every client takes besides its addresses.

    Attributes:
        model: name under which the model is served.
        timeout_seconds: longest time for one request, retries included.
        max_message_bytes: largest request sent and largest reply accepted.
        api_key: goes with every request as `x-api-key`.
        tls: certificates for https:// and grpcs:// addresses.
        retries: how often a request is sent again.
    """

    model: str
    timeout_seconds: float
    max_message_bytes: int
    api_key: str | None
    tls: Tls | None
    retries: Retries


DEFAULTS: Settings = {
    "model": DEFAULT_MODEL,
    "timeout_seconds": DEFAULT_TIMEOUT_SECONDS,
    "max_message_bytes": DEFAULT_MAX_MESSAGE_BYTES,
    "api_key": None,
    "tls": None,
    "retries": Retries(),
}


def key_headers(api_key: str | None) -> dict[str, str]:
    """The header, or gRPC metadata, that carries the key.

    Raises:
        BadOptionError: the key cannot be in a header. It is not shown.
    """
    if api_key is None:
        return {}
    if not re.fullmatch(r"[!-~]+", api_key):
        raise BadOptionError("the API key cannot be sent in a header", allowed="printable ASCII without spaces")
    return {API_KEY_HEADER: api_key}


def read_api_key(file: Path | None, *, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key in the file if one is named, else that of the environment variable SUM3DCAM_API_KEY, else None.

    Raises:
        BadOptionError: the file cannot be read.
    """
    if file is None:
        return environment.get(API_KEY_VARIABLE)
    return read_pem(file).decode("utf-8", "replace").strip()


def is_loopback(host: str) -> bool:
    """Whether this is an address of the machine itself: a proxy's loopback is another one, so it is asked directly.

    >>> [is_loopback(host) for host in ("localhost", "127.8.0.1", "::1", "10.0.0.1", "localhost.example")]
    [True, True, True, False, False]
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_pem(file: Path) -> bytes:
    """The bytes of a certificate or key.

    Raises:
        BadOptionError: the file cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadOptionError(f"{file} cannot be read", got=error.strerror) from error
