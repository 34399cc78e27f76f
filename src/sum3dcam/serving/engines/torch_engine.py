"""What runs a loaded torch module, whatever file it came from.

Of the run side, only this module and the engines that use it import torch, and only when one of them loads a file.
"""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam.contract import CLIP, TARGET, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.parts import part_outputs
from sum3dcam.serving.engines.engine import Arrays, input_names


class TorchEngine:
    """A callable over tensors on one device; it gives the card's outputs as a tuple."""

    def __init__(self, call: Callable[..., Any], *, name: str, card: Card, device: str, sha256: str) -> None:
        self.name = name
        self.card = card
        self.sha256 = sha256
        self.provider = device
        self._call = call
        self._inputs = input_names(card)

    def run(
        self, clip_BTHWC: NDArray[np.uint8], *, target_B: NDArray[np.int64], outputs: Collection[str] | None = None
    ) -> Arrays:
        """As `Engine.run`; computes the whole graph and gives what is asked for."""
        import torch

        given = {CLIP: clip_BTHWC, TARGET: target_B}
        with torch.inference_mode():
            found = self._call(*(torch.from_numpy(given[name]).to(self.provider) for name in self._inputs))
        values = zip(self.card.outputs, found if isinstance(found, tuple) else (found,), strict=True)
        wanted = part_outputs(self.card, outputs)
        return {name: value.cpu().numpy() for name, value in values if name in wanted}


def claim_device(device: str, *, num_threads: int) -> None:
    """Makes this process compute in exact float32, as certified, with so many threads; 0 leaves them.

    Raises:
        ArtifactError: torch cannot run on `device`.
    """
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        raise ArtifactError(f"this torch cannot run on {device}", got="CUDA is not available", allowed=["cpu"])
    torch.backends.cudnn.allow_tf32 = False
    if num_threads:
        torch.set_num_threads(num_threads)
