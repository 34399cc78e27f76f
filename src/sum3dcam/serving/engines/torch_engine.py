"""What runs a loaded torch module, whatever file it came from.

Of the run side, only this module, the engines that use it and what it uses import torch, and only when one of them
loads a file.
"""

from collections.abc import Callable, Collection
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam.contract import CLIP, TARGET, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.parts import part_outputs
from sum3dcam.serving.engines.cuda_graph import CudaGraphs, Recorder
from sum3dcam.serving.engines.engine import Arrays, input_names, one_clip


class TorchEngine:
    """A callable over tensors on one device; it gives the card's outputs as a tuple."""

    def __init__(self, call: Callable[..., Any], *, name: str, card: Card, device: str, sha256: str) -> None:
        self.name = name
        self.card = card
        self.sha256 = sha256
        self.provider = device
        self._call = call
        self._inputs = input_names(card)

    def replay(self, batch_sizes: Collection[int]) -> None:
        """From now on batches of these sizes are recorded CUDA graphs, replayed; the device must be a GPU.

        Raises:
            RuntimeError: a call cannot be recorded, or the GPU's memory does not hold them all.
        """
        import torch

        one = one_clip(self.card)
        with torch.inference_mode():
            tensors = tuple(torch.from_numpy(one[name]).to(self.provider) for name in self._inputs)
            self._call = CudaGraphs(self._call, tensors, batch_sizes=batch_sizes, record=Recorder(self.provider))

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


def put_channels_last(module: Any) -> None:
    """Lays the weights of a module's 3D convolutions out as the pixels of a clip come: a GPU's fastest are of those."""
    import torch

    for weight in chain(module.parameters(), module.buffers()):
        if weight.dim() == 5:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)


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
