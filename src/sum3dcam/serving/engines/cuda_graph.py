"""CUDA graphs: a call's kernels, recorded once per batch size and launched together, which at small batches is most of
its time."""

from collections.abc import Callable
from typing import Any

_WARM_UP_CALLS = 3  # before a recording: libraries choose their kernels and their workspaces at first calls

# (call, its tensors) -> what computes it again on whatever these tensors hold then, and the tensors of its outputs
Record = Callable[[Callable[..., Any], tuple[Any, ...]], tuple[Callable[[], None], Any]]


def record(call: Callable[..., Any], tensors: tuple[Any, ...]) -> tuple[Callable[[], None], Any]:
    """A recording of `call(*tensors)` on the GPU where the tensors are."""
    import torch

    with torch.cuda.device(tensors[0].device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_CALLS):
                call(*tensors)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = call(*tensors)
    return graph.replay, outputs


class CudaGraphs:
    """A call over tensors (B,...), replayed for batches of up to `max_clips`; its outputs hold until the next call."""

    def __init__(self, call: Callable[..., Any], *, max_clips: int, record: Record = record) -> None:
        self._call = call
        self._max_clips = max_clips
        self._record = record
        self._recorded: dict[int, tuple[Callable[[], None], tuple[Any, ...], Any]] = {}

    def __call__(self, *tensors: Any) -> Any:
        batch = len(tensors[0])
        if batch > self._max_clips:
            return self._call(*tensors)
        if batch not in self._recorded:
            own = tuple(tensor.clone() for tensor in tensors)
            replay, outputs = self._record(self._call, own)
            self._recorded[batch] = (replay, own, outputs)
        replay, own, outputs = self._recorded[batch]
        for place, tensor in zip(own, tensors, strict=True):
            place.copy_(tensor)
        replay()
        return outputs
