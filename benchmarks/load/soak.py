"""Requests at a share of a cluster's capacity, with a fault in each period: what became of them, and what grew."""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from tqdm import tqdm

from load.endurance import LOST, WRONG, Examiner, Ledger, Question
from load.faults import FAULTS, FaultError, Subject
from load.gate import WrongAnswerError
from load.latency import describe
from load.resident import LEFT_OVER, Watch, columns, slopes
from load.scenarios import windows_agree
from load.senders import GrpcSender, HttpSender
from load.server import CONFIG
from load.traffic import OK, Run, closed_loop, open_loop, poisson_times
from sum3dcam.serving import cluster, proxy
from sum3dcam.serving.archive import read_archive
from sum3dcam.serving.cluster import KEYS_FILE
from sum3dcam.serving.settings import read_properties

CLIENTS = 16
WARM_SECONDS, MOST_WARM_WINDOWS = 3.0, 6
CAPACITY_SECONDS = 10.0
BOUND_SECONDS = 1.0
READ_EVERY_SECONDS = 2.0
# Longer than all tries of one request.
DRAIN_SECONDS = 180.0
MOST_UNDER_WAY = 4096
# A fault shows after some moments.
SETTLE_SECONDS = 2.0
WHOLE_WITHIN_SECONDS = 120.0


@dataclass(frozen=True)
class Plan:
    """How long, how hard, and how often something breaks."""

    seconds: float
    share: float
    fault_every_seconds: float
    seed: int


async def soak(run_dir: Path, *, archive: Path, questions: Sequence[Question], plan: Plan) -> dict[str, Any]:
    """Everything but where it was measured."""
    running = cluster.load(run_dir)
    assert running is not None
    (api_key,) = proxy.read_api_keys(run_dir / KEYS_FILE)
    served = read_archive(archive)
    edge = urlsplit(running.url)
    async with AsyncExitStack() as stack:
        senders = [
            await stack.enter_async_context(sender)
            for sender in (
                HttpSender(running.url, model=served.model, api_key=api_key),
                GrpcSender(running.grpc_address, model=served.model, api_key=api_key),
            )
        ]
        subject = Subject(
            run_dir=run_dir,
            host=edge.hostname or "",
            http_port=edge.port or 0,
            api_key=api_key,
            limits=proxy.read_limits([served.config], properties=read_properties(CONFIG)),
            senders=senders,
            good=questions[0].data,
            chance=random.Random(plan.seed),
        )
        examiner = Examiner(questions, senders=senders)
        capacity = await _capacity(examiner)
        examiner.ledger = Ledger()
        watch = Watch(run_dir)
        background = [
            asyncio.create_task(one)
            for one in (watch.keep_reading(every_seconds=READ_EVERY_SECONDS), _show_progress(examiner, plan=plan))
        ]
        breaking = asyncio.create_task(_break(subject, plan=plan))
        rate = plan.share * capacity
        times = poisson_times(rate, seconds=plan.seconds, rng=np.random.default_rng(plan.seed))
        began = time.monotonic()
        try:
            run = await open_loop(
                examiner.ask,
                times=times,
                seconds=plan.seconds,
                max_in_flight=MOST_UNDER_WAY,
                keep_every=sys.maxsize,
                drain_seconds=DRAIN_SECONDS,
            )
            faults = await breaking
            watch.readings.append(last := watch.read())
        finally:
            for task in (*background, breaking):
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*background)
        return {
            "capacity_per_second": capacity,
            "rate_per_second": rate,
            "answers": _answers(run, examiner.ledger),
            "load": describe(run, bound_seconds=BOUND_SECONDS),
            "timeline": _timeline(run, examiner.ledger, began=began),
            "faults": faults,
            "memory": {"slopes": slopes(watch.readings), **columns(watch.readings, began=began)},
            "complaints": complaints(run, examiner.ledger, faults=faults, left_over=last.processes.get(LEFT_OVER, 0)),
        }


async def _capacity(examiner: Examiner) -> float:
    """Right answers per second with CLIENTS always waiting, once warm."""
    rates: list[float] = []
    while len(rates) < MOST_WARM_WINDOWS and not windows_agree(rates):
        rates.append(await _rate(examiner, seconds=WARM_SECONDS))
    return await _rate(examiner, seconds=CAPACITY_SECONDS)


async def _rate(examiner: Examiner, *, seconds: float) -> float:
    run = await closed_loop(examiner.ask, clients=CLIENTS, seconds=seconds, keep_every=sys.maxsize)
    if examiner.ledger.wrong:
        raise WrongAnswerError(f"before anything broke: {examiner.ledger.wrong[:3]}")
    return run.rate_per_second


async def _break(subject: Subject, *, plan: Plan) -> list[dict[str, Any]]:
    """One fault in the middle of each period, in turn; each waits until the cluster is whole again after the last."""
    began, records = time.monotonic(), []
    names = list(FAULTS)
    for turn in range(int(plan.seconds / plan.fault_every_seconds)):
        await asyncio.sleep(began + (turn + 0.5) * plan.fault_every_seconds - time.monotonic())
        name, at = names[turn % len(names)], time.monotonic()
        record: dict[str, Any] = {"fault": name, "at_seconds": at - began}
        try:
            record |= await FAULTS[name](subject)
            await asyncio.sleep(SETTLE_SECONDS)
            async with asyncio.timeout(WHOLE_WITHIN_SECONDS):
                while not await asyncio.to_thread(subject.is_whole):
                    await asyncio.sleep(0.5)
        except (FaultError, TimeoutError) as error:
            record["error"] = str(error) or "the cluster did not become whole again"
        record["whole_after_seconds"] = time.monotonic() - at
        records.append(record)
    return records


async def _show_progress(examiner: Examiner, *, plan: Plan) -> None:
    with tqdm(total=round(plan.seconds), unit="s", disable=None) as bar:
        for _ in range(bar.total):
            await asyncio.sleep(1)
            told = examiner.ledger
            bar.set_postfix(
                right=told.right_at_once + told.right_again, tries_failed=len(told.failures), wrong=len(told.wrong)
            )
            bar.update()


def _answers(run: Run, ledger: Ledger) -> dict[str, Any]:
    ends = Counter(sample.code for sample in run.samples)
    return {
        "asked": len(run.samples) + run.missed,
        "right": ends[OK],
        "right_at_once": ledger.right_at_once,
        "wrong": ends[WRONG],
        "lost": sum(ends.values()) - ends[OK] - ends[WRONG] + run.missed,
        "failed_tries": dict(Counter(failure.code for failure in ledger.failures)),
        "wrong_answers": ledger.wrong[:5],
    }


def _timeline(run: Run, ledger: Ledger, *, began: float) -> dict[str, Any]:
    """Answers and failed tries per second, and latencies, in windows of a sixtieth of the run or 5 s."""
    width = max(run.seconds / 60, 5.0)
    windows = [width * place for place in range(round(run.seconds / width))]
    latencies = [
        [one.latency_seconds for one in run.samples if one.code == OK and begin <= one.intended < begin + width]
        for begin in windows
    ]
    failed = [sum(begin <= one.at - began < begin + width for one in ledger.failures) for begin in windows]
    return {
        "width_seconds": width,
        "begin_seconds": windows,
        "answered_per_second": [len(one) / width for one in latencies],
        "failed_tries_per_second": [count / width for count in failed],
        **{
            f"p{share}_seconds": [float(np.percentile(one, share)) if one else None for one in latencies]
            for share in (50, 99)
        },
    }


def complaints(run: Run, ledger: Ledger, *, faults: Sequence[dict[str, Any]], left_over: int) -> list[str]:
    """Why this run is no success; nothing where it is one."""
    answers = _answers(run, ledger)
    crashed = answers["failed_tries"].get("decoder_crashed", 0)
    killed = sum(fault.get("processes", 0) for fault in faults)
    return [
        *(f"{answers[end]} answers {end}" for end in (WRONG, LOST) if answers[end]),
        *(f"{fault['fault']}: {fault['error']}" for fault in faults if "error" in fault),
        *([f"{left_over} processes left over"] if left_over else []),
        *([f"{crashed} files 'crashed' a decoder, {killed} decoders were killed"] if crashed > killed else []),
    ]
