"""Asks about many files, a bounded number at a time."""

from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from sum3dcam.client.comparison import Asks
from sum3dcam.client.connection import read_video
from sum3dcam.client.prediction import Prediction
from sum3dcam.client.request import Options
from sum3dcam.errors import Sum3DCamError
from sum3dcam.wire import error_envelope

Item = TypeVar("Item")


@dataclass(frozen=True)
class Outcome:
    """What became of one video: the answer without its tensors, the error, or both if only `then` failed."""

    video: Path
    envelope: Mapping[str, Any]
    prediction: Prediction | None
    error: Sum3DCamError | None


def ask_one(
    client: Asks, video: Path, *, options: Options, max_message_bytes: int, then: Callable[[Prediction], None]
) -> Outcome:
    """Asks about one video and hands the answer on; an error is part of the outcome."""
    prediction: Prediction | None = None
    try:
        answer = client.predict(read_video(video, max_message_bytes=max_message_bytes), **options)
        prediction = answer.without_tensors()
        then(answer)
    except Sum3DCamError as error:
        envelope = error_envelope(error, request_id=None) if prediction is None else prediction.envelope
        return Outcome(video=video, envelope=envelope, prediction=prediction, error=error)
    return Outcome(video=video, envelope=prediction.envelope, prediction=prediction, error=None)


def ask_all(ask: Callable[[Item], Outcome], items: Iterable[Item], *, concurrency: int) -> Generator[Outcome]:
    """The outcomes as they come, of at most `concurrency` items at a time.

    Who stops taking them (Ctrl-C) waits for those under way; the others are not begun.
    """
    left = iter(items)
    with ThreadPoolExecutor(max_workers=concurrency) as pool:
        running: set[Future[Outcome]] = {pool.submit(ask, item) for item in islice(left, concurrency)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(ask, item) for item in islice(left, len(done))}
            for future in done:
                yield future.result()
