"""What a network file says of its network, in plain values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from sum3dcam.errors import CheckpointError


def same_key(key: str) -> str:
    """The key itself: a layout that names things as the network does."""
    return key


def same_tensor(tensor: Tensor) -> Tensor:
    """The tensor itself: a layout that shapes things as the network does."""
    return tensor


@dataclass(frozen=True)
class Layout:
    """How a public checkpoint names and shapes what the network's own state dict holds.

    `own_key` gives the network's key for the checkpoint's, or any other text for a key that is not of this layout;
    `own_tensor` the network's tensor (ranks may differ, values never).
    """

    name: str
    own_key: Callable[[str], str] = same_key
    own_tensor: Callable[[Tensor], Tensor] = same_tensor


@dataclass(frozen=True, eq=False)
class NetworkSpec:
    """A network as the outside needs it.

    `build(num_classes, num_frames)` gives a module: normalised (B,C,T,H,W) -> (logits, {tap: activation}).
    `mean` and `std` are per channel, in units of the uint8 pixel (0..255).
    `head` is the key of the state dict whose first size is the number of classes.
    `num_frames` and `size_px` are the clips it was trained on, unless others are asked for.
    `label_sets` tells which data set's list goes with a head of that many classes.
    `streams` are keys of contract.STREAM_CHANNELS; a network of several is made of `parts`, stream -> network, and its
    taps and keys begin with their stream.
    """

    build: Callable[[int, int], nn.Module]
    taps: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    head: str
    num_frames: int
    size_px: int
    preprocessing: str
    label_sets: Mapping[int, str]
    layouts: tuple[Layout, ...] = ()
    streams: tuple[str, ...] = ("rgb",)
    parts: Mapping[str, str] | None = None
    default_gates: tuple[str, ...] = ()

    def check_taps(self, names: Sequence[str], *, what: str) -> None:
        """Raises CheckpointError where a name is none of the network's taps; `what` is "tap" or "gate"."""
        unknown = [name for name in names if name not in self.taps]
        if unknown:
            raise CheckpointError(f"no such {what} in this network", got=unknown, allowed=list(self.taps))

    def stream_of(self, tap: str) -> str:
        """The stream in whose network the tap lies."""
        return next(stream for stream in self.streams if len(self.streams) == 1 or tap.startswith(f"{stream}_"))
