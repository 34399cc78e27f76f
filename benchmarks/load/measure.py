"""All that serving.py measures, in an order that interleaves what is compared."""

import statistics
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from load.gate import WrongAnswerError, difference
from load.idle import idle_server
from load.inprocess import InProcess
from load.inputs import PAYLOADS, Inputs
from load.scenarios import BLOCK, Case, curve, first_serial, offline, server_search, single_stream, warm_up
from load.senders import SENDERS, Sender
from load.server import NOOP, Target
from load.traffic import OK, closed_loop

# Of the throughput found offline: from light load past the knee.
CURVE_SHARES = (0.1, 0.3, 0.5, 0.65, 0.8, 0.9, 1.0, 1.2, 1.5)
# The search for Server's rate begins between nothing and this share.
SERVER_SHARE = 1.1
CEILING_SECONDS = 1.5
IDLE_REPLY_BYTES = 1000
PHASE_REPEATS = 30

Json = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What, how hard, how long and how often. `seconds` is a closed loop's window, `load_seconds` an open loop's."""

    transports: Sequence[str]
    payloads: Sequence[str]
    inputs: Sequence[Inputs]
    loads: Sequence[str]
    bound_seconds: float
    clients: int
    seconds: float
    load_seconds: float
    rounds: int
    server_steps: int


async def measure(target: Target, plan: Plan, *, model: str, here: InProcess | None, found: Json) -> None:
    """Everything in the plan. A row is in `found` once it is measured: whoever loses patience keeps what there is.

    Args:
        found: `no_findings()`.
        here: the same archive in this process; None for a server of others, whose parts cannot be told apart.

    Raises:
        WrongAnswerError: an answer under load, or one got alone, is not what it should be.
    """
    blocks = count()
    found["ceilings"] += await _ceilings(plan, blocks=blocks)
    async with AsyncExitStack() as stack:
        cases = await _cases(stack, target, plan, model=model, blocks=blocks)
        everyone = [*cases, *(await _cases(stack, target, plan, model=NOOP, blocks=blocks) if here else [])]
        for case in cases:
            found["first_answers"].append(await _first_answer(case, here=here))
        for case in everyone:
            found["warm_up"].append({**case.name, "per_second": await warm_up(case, clients=plan.clients)})
        for case in everyone:
            found["single_stream"].append(await single_stream(case, seconds=plan.seconds))
        if here is not None:
            found["phases"] += _phases(plan, here, blocks=blocks)
        await _offline(target, plan, everyone, here=here, blocks=blocks, found=found)
        # Load is laid on with the first payload and input alone; another run takes others.
        loaded = [case for case in cases if case.payload == plan.payloads[0] and case.inputs is plan.inputs[0]]
        for load in plan.loads:
            for case in loaded:
                rate = offline_rate(found["offline"], name=case.name)
                found[load].append(await LOADS[load](case, plan, rate))


async def _cases(stack: AsyncExitStack, target: Target, plan: Plan, *, model: str, blocks: Iterator[int]) -> list[Case]:
    senders: dict[str, Sender] = {
        transport: await stack.enter_async_context(SENDERS[transport](target.addresses[transport], model=model))
        for transport in plan.transports
    }
    return [
        Case(
            model=model,
            transport=transport,
            payload=payload,
            inputs=inputs,
            sender=sender,
            bound_seconds=plan.bound_seconds,
            blocks=blocks,
        )
        for payload in plan.payloads
        for inputs in plan.inputs
        for transport, sender in senders.items()
    ]


async def _ceilings(plan: Plan, *, blocks: Iterator[int]) -> list[Json]:
    """What this generator does against a server that does nothing: no figure near it is the server's."""
    found = []
    with idle_server(reply_bytes=IDLE_REPLY_BYTES) as addresses:
        async with AsyncExitStack() as stack:
            one_payload = replace(plan, payloads=plan.payloads[:1])
            for case in await _cases(stack, Target(addresses), one_payload, model="idle", blocks=blocks):
                run = await closed_loop(
                    case.ask, clients=plan.clients, seconds=CEILING_SECONDS, first_serial=first_serial(case)
                )
                found.append(
                    {
                        **case.name,
                        "per_second": run.rate_per_second,
                        "cpu_seconds_per_answer": run.cpu_seconds / max(len(run.samples), 1),
                        "errors": sum(sample.code != OK for sample in run.samples),
                    }
                )
    return found


async def _first_answer(case: Case, *, here: InProcess | None) -> Json:
    """Sizes of a request and its reply, which has to be what the predictor says in this process."""
    serial = first_serial(case)
    data, answer = case.inputs.data(serial), await case.ask(serial)
    if answer.code != OK:
        raise WrongAnswerError(f"{case.name}: the first request failed: {answer.code}")
    if here is not None:
        (wanted,) = here.answer([data], PAYLOADS[case.payload])
        if wanted != answer.body and (wrong := difference(answer.body, wanted)):
            raise WrongAnswerError(f"{case.name}: served and in process differ: {wrong}")
    return {**case.name, "request_bytes": len(data), "reply_bytes": len(answer.body)}


def _phases(plan: Plan, here: InProcess, *, blocks: Iterator[int]) -> list[Json]:
    return [
        {
            "payload": payload,
            "input": inputs.kind,
            "seconds": here.phases(inputs, PAYLOADS[payload], repeats=PHASE_REPEATS, first_serial=next(blocks) * BLOCK),
        }
        for payload in plan.payloads
        for inputs in plan.inputs
    ]


async def _offline(
    target: Target, plan: Plan, cases: Sequence[Case], *, here: InProcess | None, blocks: Iterator[int], found: Json
) -> None:
    """Throughputs in process and served, round by round: what disturbs the machine disturbs all of them."""
    for number in range(plan.rounds):
        for payload in plan.payloads:
            for inputs in plan.inputs:
                if here is not None:
                    rate = here.rate_per_second(
                        inputs, PAYLOADS[payload], seconds=plan.seconds, first_serial=next(blocks) * BLOCK
                    )
                    found["in_process"].append({"payload": payload, "input": inputs.kind, "per_second": rate})
                for case in cases:
                    # The hop's own throughput is told by one round.
                    again = case.model == NOOP and number > 0
                    if case.payload == payload and case.inputs is inputs and not again:
                        found["offline"].append(await _offline_with_cpu(target, case, plan))


async def _offline_with_cpu(target: Target, case: Case, plan: Plan) -> Json:
    before = target.cpu_seconds()
    found = await offline(case, clients=plan.clients, seconds=plan.seconds)
    answers = max(found["intended"] + found["gate"]["compared"], 1)
    spent = {who: seconds - before[who] for who, seconds in target.cpu_seconds().items()}
    return {**found, "cpu_seconds_per_answer": {who: seconds / answers for who, seconds in spent.items()}}


def offline_rate(served: Sequence[Json], *, name: Mapping[str, str]) -> float:
    """The median of a case's rounds."""
    rates: list[float] = [
        row["answered_per_second"] for row in served if all(row[key] == value for key, value in name.items())
    ]
    return statistics.median(rates)


async def _server(case: Case, plan: Plan, offline_per_second: float) -> Json:
    return await server_search(
        case, highest=SERVER_SHARE * offline_per_second, seconds=plan.load_seconds, steps=plan.server_steps
    )


async def _curve(case: Case, plan: Plan, offline_per_second: float) -> Json:
    rates = [share * offline_per_second for share in CURVE_SHARES]
    return {**await curve(case, rates=rates, seconds=plan.load_seconds), "offline_per_second": offline_per_second}


LOADS: Mapping[str, Callable[[Case, Plan, float], Awaitable[Json]]] = {"server": _server, "curve": _curve}


# What `measure` finds, section by section, each a list of rows.
SECTIONS = ("ceilings", "first_answers", "warm_up", "single_stream", "phases", "in_process", "offline", *LOADS)


def no_findings() -> Json:
    """Every section, empty."""
    return {section: [] for section in SECTIONS}
