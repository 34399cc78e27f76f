"""What the rows of one call have become so far, and what each has taken."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from sum3dcam.errors import Sum3DCamError
from sum3dcam.serving.codec import Reply, error_reply
from sum3dcam.serving.report import DECODE, OK_CODE, WORKER, Report
from sum3dcam.serving.request import Request
from sum3dcam.serving.trace import Trace

Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Batch:
    """The rows by their place in the call; `outputs` also by the job's clip and place. `begun` is in the timer's time.

    Args:
        clock: Unix time in seconds.
        timer: seconds since any moment, never set back.
    """

    num_items: int
    clock: Callable[[], float]
    timer: Callable[[], float]
    arrived_unix: float
    began: float
    request_ids: dict[int, str | None] = field(default_factory=dict)
    traces: dict[int, Trace | None] = field(default_factory=dict)
    begun: dict[int, float] = field(default_factory=dict)
    requests: dict[int, Request] = field(default_factory=dict)
    outputs: dict[int, dict[tuple[int, int], Outputs]] = field(default_factory=dict)
    replies: dict[int, Reply] = field(default_factory=dict)
    codes: dict[int, str] = field(default_factory=dict)
    failures: dict[int, Exception] = field(default_factory=dict)
    seconds: dict[int, dict[str, float]] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str, items: Sequence[int]) -> Iterator[None]:
        """Adds the time inside to what the stage has taken of each of these items."""
        began = self.timer()
        try:
            yield
        finally:
            elapsed = self.timer() - began
            for item in items:
                of_item = self.seconds.setdefault(item, {})
                of_item[stage] = of_item.get(stage, 0.0) + elapsed

    def decoded(self, item: int) -> None:
        """Notes that the item's decoder has answered; the first time it is said counts, from whichever thread."""
        self.seconds.setdefault(item, {}).setdefault(DECODE, self.timer() - self.begun[item])

    def fail(self, items: Sequence[int], error: Sum3DCamError, *, failure: Exception | None = None) -> None:
        """Makes the error the items' answer."""
        for item in items:
            self.replies[item] = error_reply(error, request_id=self.request_ids.get(item))
            self.codes[item] = error.code
            if failure is not None:
                self.failures[item] = failure

    def report(self, item: int, *, ended: float) -> Report:
        """The item's report, once it has its reply."""
        request = self.requests.get(item)
        return Report(
            code=self.codes.get(item, OK_CODE),
            request_id=self.request_ids.get(item),
            trace=self.traces.get(item),
            batch_items=self.num_items,
            num_clips=0 if request is None else len(request.clips_NTHWC),
            seconds={**self.seconds.get(item, {}), WORKER: ended - self.began},
            failure=self.failures.get(item),
        )
