"""What the answer of one request was and took: what a predictor tells, whatever becomes of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sum3dcam.serving.trace import Trace

DECODE, COMPUTE, ENCODE, WORKER = STAGES = ("decode", "compute", "encode", "worker")
OK_CODE = "ok"


@dataclass(frozen=True)
class Report:
    """What one row's answer was and took, for metrics and logs: of what a user sent it holds two names alone.

    `seconds` are wall time by stage: DECODE from the row's being read to its decoder's answer, COMPUTE in the engine, a
    run shared with other rows counted whole, ENCODE from outputs to bytes, and WORKER from the batch's arrival to its
    replies. A stage that the row did not reach is missing. `num_clips` is 0 where there was no video. `failure` is what
    was raised where the fault is ours.
    """

    code: str
    request_id: str | None
    trace: Trace | None
    batch_items: int
    num_clips: int
    seconds: Mapping[str, float]
    failure: Exception | None = None
