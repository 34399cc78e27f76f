"""What every engine is, and how its graph is held against its card."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sum3dcam.contract import CLIP, EXPLAIN_GRAPH, TARGET, Card
from sum3dcam.errors import ArtifactError

Arrays = Mapping[str, NDArray[Any]]


class Engine(Protocol):
    """A loaded graph.

    `provider` is what it runs on, as found out after loading, not what was asked for; `sha256` is the file's.
    """

    @property
    def card(self) -> Card: ...
    @property
    def name(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def sha256(self) -> str: ...

    def run(self, clip_BTHWC: NDArray[np.uint8], *, target_B: NDArray[np.int64]) -> Arrays:
        """The card's outputs by name; a labels graph ignores the target."""
        ...


def input_names(card: Card) -> tuple[str, ...]:
    """The inputs that a graph of the card's kind has, in their order."""
    return (CLIP, TARGET) if card.graph == EXPLAIN_GRAPH else (CLIP,)


def check_same(what: str, *, got: Sequence[object], card: Sequence[object]) -> None:
    """Raises ArtifactError where the graph and its card disagree."""
    if tuple(got) != tuple(card):
        raise ArtifactError(
            f"the graph's {what} are not those of its card; export it again", got=list(got), allowed=list(card)
        )


def file_sha256(path: Path) -> str:
    """The digest by which a reply names its artefact."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
