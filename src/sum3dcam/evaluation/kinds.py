"""Which maps are compared, and the trivial boxes that they must beat."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

# What kind of thing a row of the table is.
THREE_D_CAM = "3DCAM"
GRAD_CAM = "Grad-CAM"
COMPARATOR = "comparator"
TRIVIAL = "trivial"


@dataclass(frozen=True)
class MapKind:
    """A map to evaluate: a key of `attribution.maps.METHODS` (or a comparator's own name) over some taps."""

    name: str
    family: str
    method: str
    taps: tuple[str, ...]


@dataclass(frozen=True)
class Comparator:
    """A map that the artefact does not hold: `maps(clip_BTHWC uint8, class_B int64)` gives float32 (B,T,H,W)."""

    kind: MapKind
    maps: Callable[[npt.NDArray[np.uint8], npt.NDArray[np.int64]], npt.NDArray[np.float32]]


def map_kinds(taps: Sequence[str]) -> tuple[MapKind, ...]:
    """The kinds that these taps allow (shallow to deep, as on the card), each pair of method and taps once."""
    every = tuple(taps)
    per_tap = tuple(MapKind(f"3DCAM {tap}", THREE_D_CAM, "sum3dcam", (tap,)) for tap in every)
    wanted = (
        MapKind("Sum3DCAM all taps", THREE_D_CAM, "sum3dcam", every),
        MapKind("Sum3DCAM conv+layer1", THREE_D_CAM, "sum3dcam", ("conv", "layer1")),
        *per_tap,
        MapKind("Sum3DCAM-elementwise all taps", THREE_D_CAM, "sum3dcam-elementwise", every),
        MapKind("Sum3DCAM-elementwise layer1+2+3", THREE_D_CAM, "sum3dcam-elementwise", ("layer1", "layer2", "layer3")),
        MapKind("Sum3DCAM-elementwise layer1+2", THREE_D_CAM, "sum3dcam-elementwise", ("layer1", "layer2")),
        MapKind("Sum3DCAM-elementwise layer2", THREE_D_CAM, "sum3dcam-elementwise", ("layer2",)),
        MapKind("Sum3DCAM-elementwise layer3", THREE_D_CAM, "sum3dcam-elementwise", ("layer3",)),
        MapKind("Sum Grad-CAM all taps", GRAD_CAM, "sum-gradcam", every),
        MapKind("Sum Grad-CAM conv+layer1", GRAD_CAM, "sum-gradcam", ("conv", "layer1")),
        MapKind(f"Grad-CAM {every[-1]}", GRAD_CAM, "gradcam", every[-1:]),
    )
    possible: dict[tuple[str, tuple[str, ...]], MapKind] = {}
    for kind in wanted:
        if set(kind.taps) <= set(every):
            possible.setdefault((kind.method, kind.taps), kind)
    return tuple(possible.values())


# Sides of a centred box as shares of the frame; where there are several, the best ONE for the data set is taken, as
# the threshold of a map is.
TRIVIAL_BOXES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "Full frame": (1.0,),
        "Centre box 0.7": (0.7,),
        "Centre box, best size": tuple(step / 20 for step in range(1, 21)),
    }
)
