"""Where the server is, for every command that asks one: the options that say it, the client, the file to send."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sum3dcam.client.request import DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_MODEL, DEFAULT_TIMEOUT_SECONDS, check_size
from sum3dcam.errors import UnreadableMediaError

if TYPE_CHECKING:
    from sum3dcam.client.grpc import GrpcClient
    from sum3dcam.client.http import HttpClient

DEFAULT_URL = "http://127.0.0.1:8080"

Command = TypeVar("Command", bound=Callable[..., Any])

_SERVER = (
    click.option("--url", help=f"Ask over HTTP.  [default: {DEFAULT_URL}]"),
    click.option("--grpc", "address", metavar="HOST:PORT", help="Ask over gRPC instead."),
    click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name under which the model is served."),
)
_LIMITS = (
    click.option("--timeout", type=float, default=DEFAULT_TIMEOUT_SECONDS, show_default=True, help="Seconds to wait."),
    click.option("--max-message-bytes", type=int, default=DEFAULT_MAX_MESSAGE_BYTES, show_default=True),
)


def server_options(command: Command) -> Command:
    """Adds the options that name the server and its model."""
    return _add(command, _SERVER)


def limit_options(command: Command) -> Command:
    """Adds the options on how long to wait and how much to send."""
    return _add(command, _LIMITS)


def _add(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def connect(
    *, url: str | None, address: str | None, model: str, timeout: float, max_message_bytes: int
) -> "HttpClient | GrpcClient":
    """A client for the one address given, or for `DEFAULT_URL`.

    Raises:
        click.UsageError: two addresses.
    """
    if url is not None and address is not None:
        raise click.UsageError("--url and --grpc name two servers; give one of them.")
    if address is not None:
        from sum3dcam.client.grpc import GrpcClient

        return GrpcClient(address, model=model, timeout_seconds=timeout, max_message_bytes=max_message_bytes)
    from sum3dcam.client.http import HttpClient

    return HttpClient(url or DEFAULT_URL, model=model, timeout_seconds=timeout, max_message_bytes=max_message_bytes)


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
