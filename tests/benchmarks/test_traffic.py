"""When requests leave, and what is recorded of them. Oracle of the stall: the latencies follow from the times alone."""

import asyncio
import math
import time

import numpy as np
import pytest
from load.latency import describe, percentile
from load.senders import HttpSender
from load.traffic import OK, UNANSWERED, Answer, closed_loop, open_loop, poisson_times
from scipy.stats import kstest

# Between a server's answer and its reader on a busy machine.
SLACK_SECONDS = 0.1


async def at_once(serial: int) -> Answer:
    return Answer(OK, b"")


def test_poisson_arrivals_have_the_rate_and_exponential_gaps() -> None:
    times = poisson_times(200.0, seconds=100.0, rng=np.random.default_rng(1))
    assert abs(len(times) - 20_000) < 4 * math.sqrt(20_000)  # a Poisson count's deviation is its mean's root
    assert (min(times) >= 0, max(times) < 100.0) == (True, True)
    assert kstest(np.diff(times), "expon", args=(0, 1 / 200)).pvalue > 0.01
    # Uniform arrivals would give every second 200; a Poisson count varies by as much as its mean.
    per_second = np.bincount(np.asarray(times, int))
    assert 0.6 < per_second.var() / per_second.mean() < 1.5


def test_a_stall_shows_in_all_requests_intended_meanwhile(serve) -> None:
    begins, ends, rate, seconds = 0.5, 1.5, 100.0, 3.0
    times = poisson_times(rate, seconds=seconds, rng=np.random.default_rng(2))

    async def main():
        began = math.inf

        async def script(path: str, body: bytes) -> tuple[int, bytes]:
            now = time.perf_counter() - began
            if begins <= now < ends:
                await asyncio.sleep(ends - now)
            return 200, b"{}"

        async with serve(script) as url, HttpSender(url, model="m") as sender:
            began = time.perf_counter()
            return await open_loop(lambda serial: sender.send(b"video", {}), times=times, seconds=seconds)

    for _ in range(3):
        run = asyncio.run(main())
        if run.late_sends < 0.1 * len(times):  # or the machine was too busy to send, which says nothing
            break
    assert [sample.intended for sample in run.samples] == times
    # Sends do not wait for answers: they went on all through the stall.
    stalled = [sample for sample in run.samples if begins <= sample.intended < ends]
    assert len(stalled) > 80
    assert sum(sample.sent < ends - SLACK_SECONDS for sample in stalled) > 0.7 * len(stalled)
    # Whatever else slows this machine, none of them was answered before the stall's end. (Those of its first moments
    # may have been sent just before it.)
    wanted = [max(ends - at, 0.0) if begins + SLACK_SECONDS <= at < ends else 0.0 for at in times]
    latencies = [sample.latency_seconds for sample in run.samples]
    for share in (0.5, 0.9):
        assert percentile(latencies, share=share) > percentile(wanted, share=share) - 0.01
    assert percentile(latencies, share=0.9) > 0.6  # 100 of 300 wait half a second on average, the tenth longest 0.7


def test_latency_counts_from_the_intended_send_when_this_process_is_late() -> None:
    async def blocks(serial: int) -> Answer:
        time.sleep(0.02)  # a generator that cannot keep up
        return Answer(OK, b"")

    times = [index / 200 for index in range(100)]
    run = asyncio.run(open_loop(blocks, times=times, seconds=0.5))
    assert len(run.samples) == 100
    # Twenty milliseconds of work each, five between them: the last leaves 1.5 s late, and that is its latency.
    assert run.samples[-1].latency_seconds > 1.2
    assert run.late_sends > 80
    assert run.is_saturated
    described = describe(run, bound_seconds=0.1)["generator"]
    assert described["saturated"]
    assert described["worst_send_seconds"] > 1.2


def test_a_generator_that_keeps_up_is_not_called_saturated() -> None:
    async def sleeps(serial: int) -> Answer:
        await asyncio.sleep(0.01)
        return Answer(OK, b"")

    run = asyncio.run(open_loop(sleeps, times=[index / 20 for index in range(20)], seconds=1.0))
    assert (run.missed, run.cpu_share < 0.5) == (0, True)
    assert run.late_sends <= 2  # a busy machine's hiccup


def test_sends_beyond_what_may_be_under_way_are_missed_and_counted_as_failed() -> None:
    async def stalls(serial: int) -> Answer:
        await asyncio.sleep(0.5)
        return Answer(OK, b"")

    times = [index / 1000 for index in range(100)]
    run = asyncio.run(open_loop(stalls, times=times, seconds=0.1, max_in_flight=40))
    assert (len(run.samples), run.missed, run.is_saturated) == (40, 60, True)
    described = describe(run, bound_seconds=1.0)
    assert (described["intended"], described["missed"]) == (100, 60)
    assert described["late_share"] == pytest.approx(0.6)
    assert described["percentiles"]["p50"]["seconds"] is None


def test_what_is_never_answered_ends_with_the_wait_and_is_no_latency() -> None:
    async def never(serial: int) -> Answer:
        await asyncio.sleep(3600)
        return Answer(OK, b"")

    run = asyncio.run(open_loop(never, times=[0.0] * 30, seconds=0.1, drain_seconds=0.2))
    assert describe(run, bound_seconds=1.0)["errors"] == {UNANSWERED: 30}
    assert all(math.isinf(sample.latency_seconds) for sample in run.samples)
    closed = asyncio.run(closed_loop(never, clients=3, seconds=0.1, drain_seconds=0.2))
    assert [sample.code for sample in closed.samples] == [UNANSWERED] * 3


def test_a_closed_loop_never_has_more_under_way_than_clients() -> None:
    under_way, most = 0, 0

    async def counts(serial: int) -> Answer:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        return Answer(OK, b"")

    run = asyncio.run(closed_loop(counts, clients=4, seconds=0.5, first_serial=100))
    assert most == 4
    assert sorted(sample.serial for sample in run.samples) == list(range(100, 100 + len(run.samples)))


def test_loops_are_bounded_in_count() -> None:
    run = asyncio.run(closed_loop(at_once, clients=2, seconds=60, max_requests=50))
    assert len(run.samples) == 50
    assert run.wall_seconds < 30


def test_throughput_counts_good_answers_until_the_last_of_them() -> None:
    async def half_fail(serial: int) -> Answer:
        await asyncio.sleep(0.01)
        return Answer(OK if serial % 2 else "HTTP 503", b"")

    run = asyncio.run(closed_loop(half_fail, clients=1, seconds=0.6))
    good = [sample.done for sample in run.samples if sample.code == OK]
    assert 5 < len(good) < 61  # one at a time, ten milliseconds each, every other one good
    assert run.rate_per_second == pytest.approx(len(good) / max(0.6, good[-1]))
    assert describe(run, bound_seconds=1)["errors"]["HTTP 503"] == sum(s.code != OK for s in run.samples)


def test_what_a_sender_raises_is_not_swallowed() -> None:
    async def broken(serial: int) -> Answer:
        raise KeyError("a mistake of this program")

    with pytest.raises(KeyError):
        asyncio.run(open_loop(broken, times=[0.0], seconds=0.1))
