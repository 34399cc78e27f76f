"""Examples to learn from, and the order in which they come: a function of seed and step alone."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sum3dcam.training.machine import Machine
from sum3dcam.training.stages import Stage

Clips = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Example:
    """clip_THWC uint8 and its label's index, with the change of light still to apply: pixel * gain + bias.

    gain_C and bias_C are float32, in units of the uint8 pixel. `key` names the video, for people.
    """

    clip_THWC: Clips
    label: int
    key: str
    gain_C: Floats
    bias_C: Floats


def same_light() -> tuple[Floats, Floats]:
    """The gain and bias that leave pixels as they are."""
    return np.ones(3, np.float32), np.zeros(3, np.float32)


class Source(Protocol):
    """A set of N clips: each augmented, or as a server would see its middle."""

    @property
    def labels_N(self) -> Labels:
        """Each clip's label, int64 (N,)."""
        ...

    def augmented(self, index: int, *, num_frames: int, size_px: int, rng: np.random.Generator) -> Example: ...

    def plain(self, index: int, *, num_frames: int, size_px: int) -> Example: ...


@dataclass(frozen=True)
class Batch:
    """Examples side by side; what a field holds is said at `Example`."""

    clips_BTHWC: Clips
    labels_B: Labels
    gain_BC: Floats
    bias_BC: Floats
    keys: tuple[str, ...]


def joined(examples: list[Example]) -> Batch:
    """The examples as one batch, in their order."""
    return Batch(
        clips_BTHWC=np.stack([example.clip_THWC for example in examples]),
        labels_B=np.array([example.label for example in examples], np.int64),
        gain_BC=np.stack([example.gain_C for example in examples]),
        bias_BC=np.stack([example.bias_C for example in examples]),
        keys=tuple(example.key for example in examples),
    )


def order(step: int, *, num_clips: int, batch_clips: int, seed: int, steps_before: int) -> npt.NDArray[np.int64]:
    """The clips of a stage's batch: every epoch shuffles anew and takes each clip at most once.

    >>> batches = [order(step, num_clips=5, batch_clips=2, seed=0, steps_before=0) for step in range(2)]
    >>> len(set(np.concatenate(batches).tolist()))
    4
    """
    epoch, place = divmod(step, num_clips // batch_clips)
    shuffled_N = np.random.default_rng([seed, steps_before, epoch, num_clips]).permutation(num_clips)
    return shuffled_N[place * batch_clips : (place + 1) * batch_clips]


def batches(
    source: Source,
    *,
    stage: Stage,
    first_step: int,
    steps_before: int,
    seed: int,
    num_frames: int,
    machine: Machine,
) -> Iterator[Batch]:
    """This process's share of a stage's batches from `first_step` on, made ahead by `machine.workers` threads.

    All randomness of an example comes from (seed, step, place in the batch), whichever process and thread makes it.

    Raises:
        ValueError: a batch has more clips than the source, or cannot be shared out evenly.
    """
    num_clips = len(source.labels_N)
    if stage.batch_clips > num_clips or stage.batch_clips % machine.processes:
        raise ValueError(
            f"got a batch of {stage.batch_clips} clips, wanted at most {num_clips}, all that there are, and a "
            f"multiple of {machine.processes}, the number of processes; change --batch"
        )

    def example(step: int, place: int, index: int) -> Example:
        rng = np.random.default_rng([seed, steps_before + step, place])
        return source.augmented(index, num_frames=num_frames, size_px=stage.size_px, rng=rng)

    pool = ThreadPoolExecutor(machine.workers)
    waiting: deque[list[Future[Example]]] = deque()

    def start(step: int) -> None:
        if step < stage.steps:
            indices_B = order(
                step, num_clips=num_clips, batch_clips=stage.batch_clips, seed=seed, steps_before=steps_before
            )
            places = range(machine.rank, stage.batch_clips, machine.processes)
            waiting.append([pool.submit(example, step, place, int(indices_B[place])) for place in places])

    try:
        for step in range(first_step, min(first_step + BATCHES_AHEAD, stage.steps)):
            start(step)
        for step in range(first_step, stage.steps):
            batch = joined([future.result() for future in waiting.popleft()])
            start(step + BATCHES_AHEAD)
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
