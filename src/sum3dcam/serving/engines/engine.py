"""What every engine is, and how its graph is held against its card."""

from collections.abc import Collection, Mapping, Sequence
from itertools import compress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sum3dcam.attribution.maps import METHODS
from sum3dcam.contract import (
    CLIP,
    DEFAULT_METHOD,
    EXPLAIN_GRAPH,
    EXPLAINED,
    GRIDS,
    LOGITS,
    SALIENCY,
    TARGET,
    TOP_CLASS,
    Card,
    grid_name,
)
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


# How many parts of its graph an engine keeps; each may hold its weights once more.
PARTS_KEPT = 3


def part_outputs(card: Card, wanted: Collection[str] | None) -> tuple[str, ...]:
    """The outputs of the smallest part of the graph that is made for `wanted`, in the card's order.

    A part ends at the lowest tap wanted and has the wanted kinds of grids of that tap and of all above it, so that
    requests for few taps share few parts.
    """
    if wanted is None or any(name.startswith(SALIENCY) for name in wanted):
        return card.outputs
    grids = [[grid_name(grid, tap.name) for grid in GRIDS] for tap in card.taps]
    lowest = next((at for at, names in enumerate(grids) if not set(names).isdisjoint(wanted)), len(grids))
    kinds = [any(names[kind] in wanted for names in grids) for kind in range(len(GRIDS))]
    kept = {LOGITS, EXPLAINED, *(name for names in grids[lowest:] for name in compress(names, kinds))}
    return tuple(name for name in card.outputs if name in kept)


def input_names(card: Card) -> tuple[str, ...]:
    """The inputs that a graph of the card's kind has, in their order."""
    return (CLIP, TARGET) if card.graph == EXPLAIN_GRAPH else (CLIP,)


def check_same(what: str, *, got: Sequence[object], card: Sequence[object]) -> None:
    """Raises ArtifactError where the graph and its card disagree."""
    if tuple(got) != tuple(card):
        raise ArtifactError(
            f"the graph's {what} are not those of its card; export it again", got=list(got), allowed=list(card)
        )


def try_one_clip(engine: Engine) -> None:
    """Runs one clip of the card's shape for what most requests ask: what cannot run must not start.

    Raises:
        ArtifactError: it does not run.
    """
    card = engine.card
    grids = [grid_name(grid, tap) for tap in card.tap_names for grid in METHODS[DEFAULT_METHOD].grids]
    clip = np.zeros((1, *card.clip_shape_THWC), np.uint8)
    try:
        engine.run(clip, target_B=np.array([TOP_CLASS]), outputs=grids if card.graph == EXPLAIN_GRAPH else None)
    except ArtifactError:
        raise
    except Exception as error:
        raise ArtifactError("the graph is not that of its card; export it again", got=str(error).strip()) from error
