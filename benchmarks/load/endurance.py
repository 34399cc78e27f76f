"""Requests whose answers are known, asked again until they come: each ends as right, wrong or lost."""

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from load.inprocess import InProcess
from load.inputs import NPY, PAYLOADS, VIDEO, make_inputs
from load.senders import Sender
from load.traffic import OK, Answer
from sum3dcam.errors import DecoderCrashedError, RequestError, from_json

WRONG, LOST = "wrong", "lost"
# Between the tries of one request, two minutes in all: an instance comes back and works off what waits. Repeating
# is safe, since an answer depends on nothing but the request.
PAUSES_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, *(10.0,) * 11)
SCENES = 4
# What is sent and what is asked of it.
CASES = ((VIDEO, "labels"), (NPY, "boxes"), (VIDEO, "maps"), (NPY, "labels"))


@dataclass(frozen=True)
class Question:
    """A request with the bytes that answer it."""

    data: bytes
    options: Mapping[str, str]
    answer: bytes


@dataclass(frozen=True)
class Failure:
    """A try that got no answer; `at` is a reading of time.monotonic()."""

    at: float
    code: str


@dataclass
class Ledger:
    """What became of all tries. `wrong` holds the first bytes of answers that were not those wanted."""

    right_at_once: int = 0
    right_again: int = 0
    wrong: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def make_questions(here: InProcess) -> list[Question]:
    """Videos and clips with the answers that the archive's predictor gives in this process."""
    card = here.explain.card
    questions = []
    for kind, payload in CASES:
        inputs, options = make_inputs(kind, num_frames=card.num_frames, size_px=card.size_px), PAYLOADS[payload]
        for scene in inputs.pool[:SCENES]:
            (answer,) = here.answer([scene], options)
            questions.append(Question(data=scene, options=options, answer=answer))
    return questions


def is_final(code: str) -> bool:
    """Whether asking again would get the same: errors of the request itself.

    A decoder that was killed from outside looks as if the file had crashed it.

    >>> is_final("unreadable_media"), is_final("overloaded"), is_final("HTTP 500"), is_final("decoder_crashed")
    (True, False, False, False)
    """
    error = from_json({"code": code})
    return isinstance(error, RequestError) and not isinstance(error, DecoderCrashedError)


class Examiner:
    """Asks each question over every sender in turn, and holds the answers against those wanted, byte for byte."""

    def __init__(
        self,
        questions: Sequence[Question],
        *,
        senders: Sequence[Sender],
        pauses_seconds: Sequence[float] = PAUSES_SECONDS,
    ) -> None:
        self._rounds = list(itertools.product(questions, senders))
        self._pauses_seconds = pauses_seconds
        self.ledger = Ledger()

    async def ask(self, serial: int) -> Answer:
        """OK, WRONG or LOST."""
        question, sender = self._rounds[serial % len(self._rounds)]
        for pause in (*PAUSES_SECONDS, None):
            answer = await sender.send(question.data, question.options)
            if answer.code == OK and answer.body == question.answer:
                if pause == PAUSES_SECONDS[0]:
                    self.ledger.right_at_once += 1
                else:
                    self.ledger.right_again += 1
                return answer
            if answer.code == OK or is_final(answer.code):
                self.ledger.wrong.append(f"{answer.code} {answer.body[:300]!r}")
                return Answer(WRONG, b"")
            self.ledger.failures.append(Failure(time.monotonic(), answer.code))
            if pause is not None:
                await asyncio.sleep(pause)
        return Answer(LOST, b"")
