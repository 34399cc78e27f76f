"""The parts of a graph that are made, the same where they are certified and where they are served."""

from collections.abc import Collection, Iterator, Sequence

import onnx

from sum3dcam.attribution.maps import grids_read
from sum3dcam.contract import DEFAULT_METHOD, EXPLAIN_GRAPH, EXPLAINED, GRIDS, LOGITS, Card, grid_name, streams_of

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


def usual_outputs(card: Card) -> tuple[str, ...]:
    """What requests read of the graph that say nothing of how to explain: the logits, or all taps' default method."""
    return grids_read(DEFAULT_METHOD, taps=card.tap_names) if card.graph == EXPLAIN_GRAPH else (LOGITS,)


def cut(graph: onnx.GraphProto, *, outputs: Collection[str]) -> None:
    """Takes out what none of these outputs needs; nodes come after all that they read."""
    needed = set(outputs)
    for at in reversed(range(len(graph.node))):
        node = graph.node[at]
        if needed.isdisjoint(node.output):
            del graph.node[at]
        else:
            needed.update(node.input)
    for values in (graph.initializer, graph.output):
        for at in reversed(range(len(values))):
            if values[at].name not in needed:
                del values[at]


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
