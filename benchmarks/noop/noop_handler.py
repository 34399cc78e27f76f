"""A model that computes nothing, for TorchServe: it answers with the bytes it was packed with, by `explain`.

What it costs is the hop: the transport, TorchServe's queue and batching, the socket to the worker. One class, as
TorchServe wants it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SUFFIX = ".reply"


class NoopHandler:
    """Answers each row with the file named after its option `explain`."""

    def __init__(self) -> None:
        self._replies: dict[str, bytes] = {}

    def initialize(self, context: Any) -> None:
        """Reads the replies beside it."""
        folder = Path(context.system_properties["model_dir"])
        self._replies = {path.stem: path.read_bytes() for path in folder.glob(f"*{SUFFIX}")}

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """The rows' replies, in order."""
        return [self._replies[_text(row.get("explain", "none"))] for row in data]


def _text(value: str | bytes | bytearray) -> str:
    return value if isinstance(value, str) else bytes(value).decode()
