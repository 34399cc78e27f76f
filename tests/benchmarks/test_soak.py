"""What a soak counts: right, wrong and lost answers, and memory that grows."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
from load import endurance
from load.endurance import LOST, WRONG, Examiner, Question
from load.resident import Reading, slopes
from load.soak import complaints
from load.traffic import OK, Answer, closed_loop

QUESTION = Question(data=b"video", options={}, answer=b"the answer")


class Scripted:
    """Answers with each of these in turn, then with the last."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = list(answers)

    async def send(self, data: bytes, options: Mapping[str, str]) -> Answer:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endurance, "PAUSES_SECONDS", (0.0, 0.0))


def examined(*answers: tuple[str, bytes]) -> tuple[str, Examiner]:
    examiner = Examiner([QUESTION], senders=[Scripted([Answer(*one) for one in answers])])
    return asyncio.run(examiner.ask(0)).code, examiner


def test_a_request_is_asked_again_until_its_answer_comes() -> None:
    code, examiner = examined(("overloaded", b""), ("ConnectionResetError", b""), (OK, b"the answer"))
    assert code == OK
    assert (examiner.ledger.right_at_once, examiner.ledger.right_again) == (0, 1)
    assert [failure.code for failure in examiner.ledger.failures] == ["overloaded", "ConnectionResetError"]


@pytest.mark.parametrize(
    "answer", [(OK, b"another answer"), (OK, b""), ("unreadable_media", b""), ("unauthorized", b"")]
)
def test_another_answer_is_wrong_and_never_asked_again(answer: tuple[str, bytes]) -> None:
    code, examiner = examined(answer, (OK, b"the answer"))
    assert code == WRONG
    assert len(examiner.ledger.wrong) == 1


def test_what_never_comes_is_lost() -> None:
    code, examiner = examined(("gRPC UNAVAILABLE", b""))
    assert code == LOST
    assert len(examiner.ledger.failures) == 3


@pytest.mark.parametrize(
    ("answer", "fault", "left_over", "says"),
    [
        ((OK, b"the answer"), {}, 0, []),
        ((OK, b"another"), {}, 0, ["1 answers wrong"]),
        (("overloaded", b""), {}, 0, ["1 answers lost"]),
        ((OK, b"the answer"), {"error": "kept"}, 0, ["slow clients: kept"]),
        ((OK, b"the answer"), {}, 2, ["2 processes left over"]),
    ],
)
def test_each_failure_is_complained_of(
    answer: tuple[str, bytes], fault: dict[str, Any], left_over: int, says: list[str]
) -> None:
    examiner = Examiner([QUESTION], senders=[Scripted([Answer(*answer)])])
    run = asyncio.run(closed_loop(examiner.ask, clients=1, seconds=5, max_requests=1))
    assert complaints(run, examiner.ledger, faults=[{"fault": "slow clients", **fault}], left_over=left_over) == says


def test_decoders_that_nobody_killed_are_complained_of() -> None:
    answers = [Answer("decoder_crashed", b""), Answer(OK, b"the answer")]
    for killed, number in ((1, 0), (0, 1)):
        examiner = Examiner([QUESTION], senders=[Scripted(answers)])
        run = asyncio.run(closed_loop(examiner.ask, clients=1, seconds=5, max_requests=1))
        faults = [{"fault": "decoders killed", "processes": killed}]
        assert len(complaints(run, examiner.ledger, faults=faults, left_over=0)) == number


def test_slope_is_the_line_s_whatever_restarts_do_to_it() -> None:
    # 60 MiB per hour with noise; every tenth reading falls into a restart. The interval is Theil and Sen's 95 %.
    rng = np.random.default_rng(0)
    readings = []
    for second in range(0, 1800, 2):
        worker = 0.0 if second % 20 == 0 else 500 + second / 60 + rng.normal(0, 2)
        readings.append(Reading(at=1000.0 + second, mib={"workers": worker, "proxy": 20.0}, processes={}))
    found = slopes(readings)
    low, high = found["workers"]["interval"]
    assert low < 60 < high
    assert high - low < 20
    assert found["proxy"]["mib_per_hour"] == 0
    assert abs(found["all"]["mib_per_hour"] - found["workers"]["mib_per_hour"]) < 1e-6
