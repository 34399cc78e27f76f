"""What this machine can do at most, measured now: float32 matrix products and memory traffic."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

PRODUCT_SIZE = 2048  # three matrices of 16 MiB: none of a processor's caches is what is measured
COPY_BYTES = 256 * 2**20
REPEATS = 7


@dataclass(frozen=True)
class Roof:
    """FLOP per second of sgemm and bytes per second read and written by a copy; medians.

    On the CPU the faster of two libraries' products: MKL's, behind torch.mm, suffers more where others use the same
    cache, and engines with oneDNN's would then stand above the roof.
    """

    flop_per_second: float
    bytes_per_second: float


def measure_roof(device: str = "cpu", *, dtype: torch.dtype = torch.float32) -> Roof:
    """Both roofs; on the CPU with the threads that torch has now."""
    size = PRODUCT_SIZE if device == "cpu" else 4 * PRODUCT_SIZE
    left, right = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    products: list[Callable[[], object]] = [lambda: torch.mm(left, right, out=product)]
    if device == "cpu":
        products.append(lambda: torch.conv2d(left[None, :, None], right[:, :, None, None]))
    source = torch.rand(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    synchronize = (lambda: None) if device == "cpu" else torch.cuda.synchronize
    return Roof(
        flop_per_second=2 * size**3 / min(_seconds(run, synchronize) for run in products),
        bytes_per_second=2 * COPY_BYTES / _seconds(lambda: target.copy_(source), synchronize),
    )


def _seconds(run: Callable[[], object], synchronize: Callable[[], None]) -> float:
    samples = []
    for repeat in range(REPEATS + 1):
        synchronize()
        began = time.perf_counter()
        run()
        synchronize()
        if repeat:  # the first warms up
            samples.append(time.perf_counter() - began)
    return statistics.median(samples)
