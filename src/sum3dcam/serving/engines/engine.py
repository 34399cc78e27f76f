"""What every engine is, and how its graph is held against its card."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sum3dcam.contract import CLIP, EXPLAIN_GRAPH, TARGET, TOP_CLASS, Card
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

    def run(
        self, clip_BTHWC: NDArray[np.uint8], *, target_B: NDArray[np.int64], outputs: Collection[str] | None = None
    ) -> Arrays:
        """The outputs asked for by name, and perhaps others; for None all of the card's.

        A labels graph ignores the target. An engine that can computes no more of the graph than is asked for.
        """
        ...


def input_names(card: Card) -> tuple[str, ...]:
    """The inputs that a graph of the card's kind has, in their order."""
    return (CLIP, TARGET) if card.graph == EXPLAIN_GRAPH else (CLIP,)


def one_clip(card: Card) -> Mapping[str, NDArray[Any]]:
    """A black clip (1,T,H,W,C) uint8 of the card's shape and the top class as its target (1,) int64, by their names."""
    return {CLIP: np.zeros((1, *card.clip_shape_THWC), np.uint8), TARGET: np.array([TOP_CLASS])}


def check_same(what: str, *, got: Sequence[object], card: Sequence[object]) -> None:
    """Raises ArtifactError where the graph and its card disagree."""
    if tuple(got) != tuple(card):
        raise ArtifactError(
            f"the graph's {what} are not those of its card; export it again", got=list(got), allowed=list(card)
        )


def try_one_clip(engine: Engine, *, outputs: Collection[str] | None) -> None:
    """Runs a clip of the card's shape: what cannot run must not start.

    Raises:
        ArtifactError: it does not run.
    """
    given = one_clip(engine.card)
    try:
        engine.run(given[CLIP], target_B=given[TARGET], outputs=outputs)
    except ArtifactError:
        raise
    except Exception as error:
        raise ArtifactError("the graph is not that of its card; export it again", got=str(error).strip()) from error
