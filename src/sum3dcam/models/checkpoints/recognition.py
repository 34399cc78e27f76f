"""Which network a state dict belongs to: told by its keys and shapes alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from sum3dcam.errors import CheckpointError
from sum3dcam.models import NETWORKS, build_network
from sum3dcam.models.spec import Layout, NetworkSpec

Shapes = Mapping[str, tuple[int, ...]]

SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class Fit:
    """How a state dict fits one network, read in one of its layouts.

    `state` has the network's own keys; `problems` lists what is missing, unexpected or wrongly shaped; `share` is the
    part of all keys, the network's and the file's, that agree.
    """

    model: str
    layout: str
    num_classes: int
    state: Mapping[str, Tensor]
    problems: tuple[str, ...]
    share: float


def recognise(state: Mapping[str, Tensor], *, model: str | None = None) -> Fit:
    """The network, and the layout, that the state dict fits.

    Args:
        state: bare keys, as `container.read_container` gives them.
        model: what it has to be; None takes what it is.

    Raises:
        CheckpointError: it fits none, or not the one asked for; lists what does not, and names the nearest.
    """
    fits = sorted((fit(state, name) for name in NETWORKS), key=lambda found: -found.share)
    nearest = fits[0]
    chosen = nearest if model is None else next(found for found in fits if found.model == model)
    if chosen.problems:
        raise CheckpointError(
            f"the weights do not fit {chosen.model}; the nearest network is {nearest.model}, with {nearest.share:.0%} "
            "of the keys",
            got=shortened(chosen.problems),
            allowed=f"the keys and shapes of {chosen.model}",
        )
    return chosen


def fit(state: Mapping[str, Tensor], model: str) -> Fit:
    """How the state dict fits one network in the layout, its own or a public one, in which it fits best."""
    spec = NETWORKS[model]
    return max((_read_as(state, layout, model) for layout in spec.layouts or (Layout(model),)), key=lambda f: f.share)


def _read_as(state: Mapping[str, Tensor], layout: Layout, model: str) -> Fit:
    spec = NETWORKS[model]
    own = {layout.own_key(key): layout.own_tensor(tensor) for key, tensor in state.items()}
    head = own.get(spec.head)
    num_classes = next(iter(spec.label_sets), 1) if head is None or not head.ndim else head.shape[0]
    wanted = own_shapes(spec, num_classes)
    given = {key: tuple(tensor.shape) for key, tensor in own.items()}
    agreeing = sum(given.get(key) == shape for key, shape in wanted.items())
    return Fit(
        model=model,
        layout=layout.name,
        num_classes=num_classes,
        state=own,
        problems=differences(given, wanted),
        share=agreeing / len(given.keys() | wanted.keys()),
    )


@lru_cache(maxsize=64)
def own_shapes(spec: NetworkSpec, num_classes: int) -> Shapes:
    """The keys and shapes of the bare network, which no clip length changes; allocates nothing."""
    with torch.device("meta"):
        return shapes_of(build_network(spec, num_classes=num_classes, num_frames=spec.num_frames).state_dict())


def shapes_of(state: Mapping[str, Tensor]) -> Shapes:
    """The keys and shapes of a state dict, without batch counters."""
    return {key: tuple(tensor.shape) for key, tensor in state.items() if not key.endswith("num_batches_tracked")}


def differences(given: Shapes, wanted: Shapes) -> tuple[str, ...]:
    """One line for every key that is missing, unexpected or of another shape.

    >>> differences({"a": (2, 3), "c": ()}, {"a": (2, 4), "b": (1,)})
    ('missing b (1,)', 'unexpected c ()', 'shape of a: got (2, 3), wanted (2, 4)')
    """
    return (
        *(f"missing {key} {shape}" for key, shape in wanted.items() if key not in given),
        *(f"unexpected {key[:80]} {shape}" for key, shape in given.items() if key not in wanted),
        *(
            f"shape of {key}: got {given[key]}, wanted {shape}"
            for key, shape in wanted.items()
            if key in given and given[key] != shape
        ),
    )


def shortened(problems: tuple[str, ...]) -> list[str]:
    """The first few, and how many more there are."""
    rest = len(problems) - SHOWN_PROBLEMS
    return [*problems[:SHOWN_PROBLEMS], *([f"... and {rest} more"] if rest > 0 else [])]
