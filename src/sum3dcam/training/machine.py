"""What a training runs on: a device, and the processes that torch's launcher started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

PRECISIONS = ("fp32", "bf16")

# The first process renders or decodes while the others wait for it.
PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class Machine:
    """One process's place: `rank` of `processes`, its device, how it computes, and its threads that make examples."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    workers: int = 1
    rank: int = 0
    processes: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, classifier: nn.Module) -> nn.Module:
        """The module to train, whose gradients are the mean over all processes.

        On GPUs batch norms that learn see the clips of all processes; on CPUs, where torch has no such batch norm,
        each sees its own process's, and the first one's running statistics are kept.
        """
        if self.processes == 1:
            return classifier
        if self.device.type == "cuda":
            classifier = nn.SyncBatchNorm.convert_sync_batchnorm(classifier)
        return DistributedDataParallel(classifier)

    def gather(self, mine_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The elementwise maximum over processes."""
        if self.processes == 1:
            return mine_N
        whole_N = torch.from_numpy(mine_N).to(self.device)
        distributed.all_reduce(whole_N, distributed.ReduceOp.MAX)
        return whole_N.cpu().numpy()

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process goes through the block before the others do: what it caches they find."""
        if self.processes > 1 and not self.is_first:
            distributed.barrier()
        yield
        if self.processes > 1 and self.is_first:
            distributed.barrier()


@contextmanager
def machine(device: str, *, precision: str | None, workers: int) -> Iterator[Machine]:
    """This process on that device, or, under torchrun, one of all with a GPU of its own where `device` is cuda.

    `precision` None is bf16 on a GPU and fp32 on a CPU. Float32 on a GPU is exact, without TF32, as it is served.

    Raises:
        ValueError: no such device here.
    """
    here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    here += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if device not in here:
        raise ValueError(f"--device: got {device}, wanted one that this torch has: {', '.join(here)}")
    torch.backends.cudnn.allow_tf32 = False
    chosen = precision or ("fp32" if device == "cpu" else "bf16")
    alone = Machine(torch.device(device), precision=chosen, workers=workers)
    if "LOCAL_RANK" not in os.environ:
        yield alone
        return
    own = alone.device if device == "cpu" else torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if own.type == "cuda":
        torch.cuda.set_device(own)
    distributed.init_process_group("gloo" if own.type == "cpu" else "nccl", timeout=PATIENCE)
    yield replace(alone, device=own, rank=distributed.get_rank(), processes=distributed.get_world_size())
    # Not after an error: the others still wait for this process, which torchrun ends together with them.
    distributed.destroy_process_group()
