"""In which order examples come, and who makes them."""

import numpy as np
import pytest
from tests.training.tiny import STAGES, clip_set

from sum3dcam.training.examples import Batch, batches, order
from sum3dcam.training.machine import Machine


def all_batches(machine: Machine, *, first_step: int = 0) -> list[Batch]:
    return list(
        batches(
            clip_set(), stage=STAGES[0], first_step=first_step, steps_before=0, seed=1, num_frames=4, machine=machine
        )
    )


def test_every_epoch_shuffles_anew_and_takes_each_clip_once() -> None:
    epochs = [
        np.concatenate([order(step, num_clips=12, batch_clips=4, seed=0, steps_before=0) for step in steps])
        for steps in (range(3), range(3, 6))
    ]
    assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(12))] * 2
    assert epochs[0].tolist() != epochs[1].tolist()


@pytest.mark.parametrize("workers", [1, 3])
def test_a_batch_is_the_same_from_whatever_step_on_and_with_however_many_threads(workers: int) -> None:
    whole = all_batches(Machine())
    late = all_batches(Machine(workers=workers), first_step=2)
    for one, other in zip(whole[2:], late, strict=True):
        assert one.keys == other.keys
        for field in ("clips_BTHWC", "labels_B", "gain_BC", "bias_BC"):
            assert np.array_equal(getattr(one, field), getattr(other, field))


def test_processes_share_a_batch_out() -> None:
    whole = all_batches(Machine())
    shares = [all_batches(Machine(rank=rank, processes=2)) for rank in (0, 1)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert np.array_equal(batch.clips_BTHWC[0::2], first.clips_BTHWC)
        assert np.array_equal(batch.clips_BTHWC[1::2], second.clips_BTHWC)
        assert (batch.keys[0::2], batch.keys[1::2]) == (first.keys, second.keys)


def test_a_batch_that_cannot_be_shared_out_evenly_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got a batch of 4 clips.*multiple of 3"):
        all_batches(Machine(processes=3))
