"""What every engine is, and how its graph is held against its card."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sum3dcam.contract import (
    CLIP,
    EXPLAIN_GRAPH,
    EXPLAINED,
    GRIDS,
    LOGITS,
    TARGET,
    TOP_CLASS,
    Card,
    grid_name,
    streams_of,
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


# Sums of what the backward computes in any case; the other kinds multiply every gradient first.
SUMMED_GRIDS = ("activation", "gradient", "gradcam")


def part_outputs(card: Card, wanted: Collection[str] | None) -> tuple[str, ...]:
    """The outputs, in the card's order, of the smallest part of the graph that is made and has all that is wanted.

    A part takes an engine seconds to make and may hold the weights once more; so there are these few, whatever clients
    ask for, and none is given up. The choice knows nothing of earlier requests: no answer depends on them.
    """
    if wanted is None:
        return card.outputs
    return next((part for part in _parts(card) if set(wanted) <= set(part)), card.outputs)


def _parts(card: Card) -> Iterator[tuple[str, ...]]:
    """From the smallest; the whole graph comes after them."""
    if card.graph == EXPLAIN_GRAPH:
        streams = [[tap.name for tap in card.taps if tap.stream == stream] for stream in streams_of(card.taps)]
        yield _with_grids(card, GRIDS, taps=[taps[-1] for taps in streams])
        yield _with_grids(card, SUMMED_GRIDS, taps=[tap for taps in streams for tap in taps[1:]])
        yield _with_grids(card, SUMMED_GRIDS, taps=card.tap_names)
        yield _with_grids(card, GRIDS, taps=card.tap_names)


def _with_grids(card: Card, kinds: Sequence[str], *, taps: Collection[str]) -> tuple[str, ...]:
    kept = {LOGITS, EXPLAINED, *(grid_name(kind, tap) for kind in kinds for tap in taps)}
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


def try_one_clip(engine: Engine, *, outputs: Collection[str] | None) -> None:
    """Runs a clip of the card's shape: what cannot run must not start.

    Raises:
        ArtifactError: it does not run.
    """
    clip = np.zeros((1, *engine.card.clip_shape_THWC), np.uint8)
    try:
        engine.run(clip, target_B=np.array([TOP_CLASS]), outputs=outputs)
    except ArtifactError:
        raise
    except Exception as error:
        raise ArtifactError("the graph is not that of its card; export it again", got=str(error).strip()) from error
