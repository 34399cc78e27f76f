"""MLPerf's scenarios over one transport, payload and input, and what surrounds them: warm-up, the curve, the gate."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from load.gate import check_answers
from load.inputs import PAYLOADS, Inputs
from load.latency import HOLDS, describe, server_verdict
from load.senders import Sender
from load.traffic import Answer, Run, closed_loop, open_loop, poisson_times

WARM_WINDOW_SECONDS = 1.0
WARM_AGREE = 0.1
WARM_WINDOWS = 6
CHECKED = 4  # answers per run that are asked for again, alone
DRAIN_SECONDS = 20.0
# A verdict takes 299 requests at the least: a try at a low rate lasts longer, up to so many times as long.
TRY_REQUESTS = 350
TRY_TIMES = 4


@dataclass(frozen=True)
class Case:
    """What is measured: one payload and input over one transport to one model.

    All cases draw the blocks of serials for their runs from one iterator: no bytes are sent twice, but by the gate.
    """

    model: str
    transport: str
    payload: str
    inputs: Inputs
    sender: Sender
    bound_seconds: float
    blocks: Iterator[int]

    @property
    def name(self) -> dict[str, str]:
        return {
            "model": self.model,
            "transport": self.transport,
            "payload": self.payload,
            "input": self.inputs.kind,
        }

    async def ask(self, serial: int) -> Answer:
        return await self.sender.send(self.inputs.data(serial), PAYLOADS[self.payload])


# More than any run sends.
BLOCK = 10_000_000


def first_serial(case: Case) -> int:
    return next(case.blocks) * BLOCK


async def _checked(case: Case, run: Run) -> dict[str, Any]:
    gate = await check_answers(case.ask, run.kept, most=CHECKED)
    return {**case.name, **describe(run, bound_seconds=case.bound_seconds), "gate": gate}


async def warm_up(case: Case, *, clients: int) -> list[float]:
    """Answers per second of windows, until two that follow each other agree; the last are the warm ones."""
    rates: list[float] = []
    while len(rates) < WARM_WINDOWS and not windows_agree(rates):
        run = await closed_loop(case.ask, clients=clients, seconds=WARM_WINDOW_SECONDS, first_serial=first_serial(case))
        rates.append(run.rate_per_second)
    return rates


def windows_agree(rates: Sequence[float]) -> bool:
    """Whether the last two windows differ by a tenth at most.

    >>> windows_agree([50.0, 90.0]), windows_agree([50.0, 90.0, 93.0])
    (False, True)
    """
    return any(abs(after - before) <= WARM_AGREE * after for before, after in pairwise(rates[-2:]))


async def single_stream(case: Case, *, seconds: float) -> dict[str, Any]:
    """One request at a time."""
    run = await closed_loop(
        case.ask, clients=1, seconds=seconds, first_serial=first_serial(case), drain_seconds=DRAIN_SECONDS
    )
    return await _checked(case, run)


async def offline(case: Case, *, clients: int, seconds: float) -> dict[str, Any]:
    """As much as the server can do: `clients` requests are always waiting. (MLPerf sends all at once; a queue is
    bounded here.)"""
    run = await closed_loop(
        case.ask, clients=clients, seconds=seconds, first_serial=first_serial(case), drain_seconds=DRAIN_SECONDS
    )
    return {**await _checked(case, run), "clients": clients}


async def poisson(case: Case, *, rate_per_second: float, seconds: float, seed: int) -> dict[str, Any]:
    """Poisson arrivals at a rate, whatever the server does."""
    times = poisson_times(rate_per_second, seconds=seconds, rng=np.random.default_rng(seed))
    run = await open_loop(
        case.ask, times=times, seconds=seconds, first_serial=first_serial(case), drain_seconds=DRAIN_SECONDS
    )
    return {**await _checked(case, run), "rate_per_second": rate_per_second}


async def server_search(case: Case, *, highest: float, seconds: float, steps: int) -> dict[str, Any]:
    """Halves the range of rates below `highest` again and again; the highest at which the bound held, and every try."""
    low, high, tries = 0.0, highest, []
    for step in range(steps):
        rate = (low + high) / 2
        lasts = min(max(seconds, TRY_REQUESTS / rate if rate else seconds), TRY_TIMES * seconds)
        found = await poisson(case, rate_per_second=rate, seconds=lasts, seed=step)
        found["verdict"] = server_verdict(found)
        low, high = (rate, high) if found["verdict"] == HOLDS else (low, rate)
        tries.append(found)
        await asyncio.sleep(0.5)  # an empty queue for the next
    return {**case.name, "bound_seconds": case.bound_seconds, "highest_rate_per_second": low or None, "tries": tries}


async def curve(case: Case, *, rates: Sequence[float], seconds: float) -> dict[str, Any]:
    """Poisson arrivals at each of the rates, in a shuffled order: a slow drift of the machine bends no curve."""
    points = []
    for place in np.random.default_rng(len(rates)).permutation(len(rates)).tolist():
        points.append(await poisson(case, rate_per_second=rates[place], seconds=seconds, seed=100 + place))
        await asyncio.sleep(0.5)
    return {**case.name, "points": sorted(points, key=lambda point: float(point["rate_per_second"]))}
