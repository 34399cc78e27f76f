"""Sends requests when a plan says so, whatever the server does, and records what became of each.

A closed loop has N clients, each of which waits for its answer before it asks again: it finds the throughput. An open
loop sends at times that were drawn before the run: what a slow server keeps waiting still counts from the time it was
meant to leave, so a stall shows in every request intended meanwhile (no coordinated omission).
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

OK = "ok"
UNANSWERED = "unanswered"
# A send this much later than intended is counted as late: an event loop's own clock is good for a millisecond or two.
LATE_SEND_SECONDS = 0.010
# Shares from which the generator's own figures are doubtful.
BUSY_CPU_SHARE = 0.8
LATE_SENDS_SHARE = 0.01


@dataclass(frozen=True)
class Answer:
    """What came back: OK or the code of an error, and the body."""

    code: str
    body: bytes


@dataclass(frozen=True)
class Sample:
    """One request; seconds since its run began. `done` of one that was never answered is when the wait was given up."""

    serial: int
    intended: float
    sent: float
    done: float
    code: str

    @property
    def latency_seconds(self) -> float:
        """From the intended send; infinite for a request that failed."""
        return self.done - self.intended if self.code == OK else math.inf


@dataclass(frozen=True)
class Run:
    """The requests intended within `seconds`.

    `missed` of them never left, since `max_in_flight` others were under way. `cpu_seconds` are the generator's own,
    over `wall_seconds` (with the wait for the last answers). `kept` holds some answers' bodies by their serial.
    """

    seconds: float
    samples: Sequence[Sample]
    missed: int
    wall_seconds: float
    cpu_seconds: float
    kept: dict[int, bytes] = field(default_factory=dict)

    @property
    def cpu_share(self) -> float:
        """Of one core; this generator is one thread."""
        return self.cpu_seconds / self.wall_seconds

    @property
    def late_sends(self) -> int:
        return sum(sample.sent - sample.intended > LATE_SEND_SECONDS for sample in self.samples)

    @property
    def is_saturated(self) -> bool:
        """Whether the generator, not the server, may be what was measured."""
        late = self.late_sends > LATE_SENDS_SHARE * max(len(self.samples), 1)
        return self.missed > 0 or late or self.cpu_share > BUSY_CPU_SHARE

    @property
    def rate_per_second(self) -> float:
        """Good answers per second until the last of them: batches answered at once would blur a window's ends."""
        done = [sample.done for sample in self.samples if sample.code == OK]
        return len(done) / max(self.seconds, *done) if done else 0.0


Ask = Callable[[int], Awaitable[Answer]]


def poisson_times(rate_per_second: float, *, seconds: float, rng: np.random.Generator) -> list[float]:
    """Arrivals in [0, seconds), drawn all before the first is sent.

    >>> len(poisson_times(100, seconds=50, rng=np.random.default_rng(0)))
    5028
    """
    # Given their number, a Poisson process's arrivals are uniform and independent.
    times: list[float] = np.sort(rng.uniform(0, seconds, rng.poisson(rate_per_second * seconds))).tolist()
    return times


class _Recorder:
    """The samples of one run. `under_way` counts the requests that wait for their answer."""

    def __init__(self, ask: Ask, *, keep_every: int) -> None:
        self._ask, self._keep_every = ask, keep_every
        self.samples: list[Sample] = []
        self.kept: dict[int, bytes] = {}
        self.under_way = 0
        self._began, self._cpu_began = time.perf_counter(), time.process_time()

    def now(self) -> float:
        return time.perf_counter() - self._began

    async def one(self, serial: int, *, intended: float | None = None) -> None:
        sent, code = self.now(), UNANSWERED
        try:
            answer = await self._ask(serial)
            code = answer.code
            if code == OK and serial % self._keep_every == 0:
                self.kept[serial] = answer.body
        finally:
            self.under_way -= 1
            due = sent if intended is None else intended
            self.samples.append(Sample(serial=serial, intended=due, sent=sent, done=self.now(), code=code))

    def run(self, *, seconds: float, missed: int) -> Run:
        return Run(
            seconds=seconds,
            samples=sorted(self.samples, key=lambda sample: sample.intended),
            missed=missed,
            wall_seconds=self.now(),
            cpu_seconds=time.process_time() - self._cpu_began,
            kept=self.kept,
        )


async def closed_loop(
    ask: Ask,
    *,
    clients: int,
    seconds: float,
    first_serial: int = 0,
    keep_every: int = 20,
    drain_seconds: float = 60.0,
    max_requests: int = 1_000_000,
) -> Run:
    """`clients` that ask one request after another until the time is up; then their last answers are waited for."""
    recorder = _Recorder(ask, keep_every=keep_every)
    serials = iter(range(first_serial, first_serial + max_requests))

    async def client() -> None:
        while recorder.now() < seconds and (serial := next(serials, None)) is not None:
            recorder.under_way += 1
            await recorder.one(serial)

    await _finish([asyncio.create_task(client()) for _ in range(clients)], timeout=seconds + drain_seconds)
    return recorder.run(seconds=seconds, missed=0)


async def open_loop(
    ask: Ask,
    *,
    times: Sequence[float],
    seconds: float,
    max_in_flight: int = 1024,
    first_serial: int = 0,
    keep_every: int = 20,
    drain_seconds: float = 30.0,
) -> Run:
    """Sends at each of `times`, seconds from now; late where this process is behind, never where the server is.

    `max_in_flight` bounds what this process holds; a request whose time comes when so many are under way is missed.
    """
    recorder = _Recorder(ask, keep_every=keep_every)
    tasks = []
    for serial, intended in enumerate(times, start=first_serial):
        # Also when it is late: the loop must get its turn to read answers.
        await asyncio.sleep(max(intended - recorder.now(), 0))
        if recorder.under_way < max_in_flight:
            recorder.under_way += 1
            tasks.append(asyncio.create_task(recorder.one(serial, intended=intended)))
    await _finish(tasks, timeout=drain_seconds)
    return recorder.run(seconds=seconds, missed=len(times) - len(tasks))


async def _finish(tasks: Sequence[asyncio.Task[None]], *, timeout: float) -> None:
    """Waits, cancels what is left then, and raises what a task raised."""
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
    finally:
        for task in tasks:
            task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
