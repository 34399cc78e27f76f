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
    """FLOP per second of sgemm and bytes per second read and written by a copy; medians."""

    flop_per_second: float
    bytes_per_second: float


def measure_roof() -> Roof:
    """Both roofs with the threads that torch has now."""
    left, right = torch.rand(PRODUCT_SIZE, PRODUCT_SIZE), torch.rand(PRODUCT_SIZE, PRODUCT_SIZE)
    product = torch.empty_like(left)
    source = torch.rand(COPY_BYTES // 4)
    target = torch.empty_like(source)
    return Roof(
        flop_per_second=2 * PRODUCT_SIZE**3 / _seconds(lambda: torch.mm(left, right, out=product)),
        bytes_per_second=2 * COPY_BYTES / _seconds(lambda: target.copy_(source)),
    )


def _seconds(run: Callable[[], object]) -> float:
    samples = []
    for repeat in range(REPEATS + 1):
        began = time.perf_counter()
        run()
        if repeat:  # the first warms up
            samples.append(time.perf_counter() - began)
    return statistics.median(samples)
