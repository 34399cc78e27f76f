"""CUDA graphs: a call's kernels, recorded once per batch size and launched together, which at small batches is most of
its time."""

from collections.abc import Callable, Collection
from typing import Any

_WARM_UP_CALLS = 3  # before a recording: libraries choose their kernels and their workspaces at first calls

# (call, its tensors) -> what computes it again on whatever these tensors hold then, and the tensors of its outputs
Record = Callable[[Callable[..., Any], tuple[Any, ...]], tuple[Callable[[], None], Any]]


class Recorder:
    """Records calls on one GPU, all on one stream and into one pool of memory, which they share: of calls recorded here
    no two may be replayed at once, and none may be dropped while another is kept."""

    def __init__(self, device: str) -> None:
        import torch

        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, call: Callable[..., Any], tensors: tuple[Any, ...]) -> tuple[Callable[[], None], Any]:
        import torch

        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_UP_CALLS):
                    call(*tensors)
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                outputs = call(*tensors)
        return graph.replay, outputs


class CudaGraphs:
    """A call over tensors (B,...), replayed for some batch sizes; its outputs hold until the next call.

    All are recorded here and now, so that no request waits for it or finds no memory left, the largest first: what it
    takes the others have room in.

    Args:
        one: the call's tensors for a batch of one.
        batch_sizes: what is recorded; other sizes are called.
    """

    def __init__(
        self, call: Callable[..., Any], one: tuple[Any, ...], *, batch_sizes: Collection[int], record: Record
    ) -> None:
        self._call = call
        self._recorded: dict[int, tuple[Callable[[], None], tuple[Any, ...], Any]] = {}
        for batch in sorted(batch_sizes, reverse=True):
            own = tuple(tensor.repeat(batch, *[1] * (tensor.dim() - 1)) for tensor in one)
            replay, outputs = record(call, own)
            self._recorded[batch] = (replay, own, outputs)

    def __call__(self, *tensors: Any) -> Any:
        batch = len(tensors[0])
        if batch not in self._recorded:
            return self._call(*tensors)
        replay, own, outputs = self._recorded[batch]
        for place, tensor in zip(own, tensors, strict=True):
            place.copy_(tensor)
        replay()
        return outputs
