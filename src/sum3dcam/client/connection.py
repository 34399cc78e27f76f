"""Where the server is, for every command that asks one: the options that say it, the client, the file to send."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sum3dcam.client.request import check_size
from sum3dcam.client.settings import (
    API_KEY_VARIABLE,
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_MODEL,
    DEFAULT_TIMEOUT_SECONDS,
    Settings,
    Tls,
    read_api_key,
)
from sum3dcam.errors import UnreadableMediaError

if TYPE_CHECKING:
    from sum3dcam.client.grpc import GrpcClient
    from sum3dcam.client.http import HttpClient

DEFAULT_URL = "http://127.0.0.1:8080"

_FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True)
class Connection:
    """What a command's options say of the server: addresses of one transport, `DEFAULT_URL` where there are none."""

    urls: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    model: str = DEFAULT_MODEL
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    api_key_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


_OPTIONS = (
    click.option("--url", "urls", multiple=True, help=f"Ask over HTTP; several take turns.  [default: {DEFAULT_URL}]"),
    click.option(
        "--grpc", "addresses", multiple=True, metavar="HOST:PORT", help="Ask over gRPC; with TLS grpcs://HOST:PORT."
    ),
    click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name under which the model is served."),
    click.option("--timeout", type=float, default=DEFAULT_TIMEOUT_SECONDS, show_default=True, help="Seconds to wait."),
    click.option("--max-message-bytes", type=int, default=DEFAULT_MAX_MESSAGE_BYTES, show_default=True),
    click.option("--api-key-file", type=_FILE, help=f"Holds the API key.  [default: ${API_KEY_VARIABLE}]"),
    click.option("--ca-file", type=_FILE, help="PEM: trust servers whose certificate this authority signed."),
    click.option("--cert-file", "certificate_file", type=_FILE, help="PEM: the certificate to show to the server."),
    click.option("--key-file", type=_FILE, help="PEM: its private key, where --cert-file does not hold it."),
)


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that say where the server is and how to ask it; the command gets them as `connection`."""

    @wraps(command)
    def with_connection(*arguments: Any, **given: Any) -> Any:
        said = {field.name: given.pop(field.name) for field in fields(Connection)}
        return command(*arguments, connection=Connection(**said), **given)

    for option in reversed(_OPTIONS):
        with_connection = option(with_connection)
    return with_connection


def connect(connection: Connection) -> "HttpClient | GrpcClient":
    """A client for the addresses given, or for `DEFAULT_URL`, with the API key of the file or the environment.

    Raises:
        click.UsageError: addresses of both transports, or a key without its certificate.
        BadOptionError: an address, a certificate or a key that cannot be used.
    """
    if connection.urls and connection.addresses:
        raise click.UsageError("--url and --grpc name two servers; give one of them.")
    if connection.key_file is not None and connection.certificate_file is None:
        raise click.UsageError("--key-file is the key of --cert-file; give both.")
    files = {name: getattr(connection, name) for name in ("ca_file", "certificate_file", "key_file")}
    settings: Settings = {
        "model": connection.model,
        "timeout_seconds": connection.timeout,
        "max_message_bytes": connection.max_message_bytes,
        "api_key": read_api_key(connection.api_key_file),
        "tls": Tls(**files) if any(files.values()) else None,
    }
    if connection.addresses:
        from sum3dcam.client.grpc import GrpcClient

        return GrpcClient(connection.addresses, **settings)
    from sum3dcam.client.http import HttpClient

    return HttpClient(connection.urls or DEFAULT_URL, **settings)


def read_video(video: Path, *, max_message_bytes: int) -> bytes:
    """The file's bytes.

    Raises:
        TooLargeError: it is beyond what may be sent; nothing was read.
        UnreadableMediaError: it is not there, or no file.
    """
    try:
        check_size(video.stat().st_size, max_message_bytes=max_message_bytes)
        return video.read_bytes()
    except OSError as error:
        raise UnreadableMediaError("the file cannot be read", got=error.strerror) from error
