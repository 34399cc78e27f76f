"""What a worker tells of the batches it has answered: metrics, and a log line for each request."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from prometheus_client import CollectorRegistry

from sum3dcam.serving.answer import describe_model
from sum3dcam.serving.engines import Engine
from sum3dcam.serving.logs import FIELDS
from sum3dcam.serving.metrics import Metrics
from sum3dcam.serving.report import Report
from sum3dcam.serving.trace import Trace, parse_traceparent

logger = logging.getLogger(__name__)

HTTP, GRPC = "http", "grpc"


@dataclass(frozen=True)
class Caller:
    """Who sent a row, as the server tells it: how, under which id of the server's own, and within which trace."""

    transport: str
    server_id: str | None
    trace: Trace | None


def read_caller(headers: Mapping[str, Any], *, server_id: str | None) -> Caller:
    """A row's caller, from what TorchServe gives as its headers.

    Those are the HTTP request's, as texts under the names as they were sent, among the parameters' content types, which
    are no texts. A gRPC call has these alone: its metadata do not reach a worker. A traceparent that is none counts for
    nothing, as the recommendation wants it.
    """
    texts = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
    return Caller(
        transport=HTTP if texts else GRPC,  # no HTTP request with a body has no header at all
        server_id=server_id,
        trace=parse_traceparent(texts.get("traceparent", "")),
    )


class Telemetry:
    """The telemetry of one worker, which serves one model.

    Args:
        model: the name under which it is served; `version` is its archive's.
    """

    def __init__(
        self, model: str, *, version: str, engines: Sequence[Engine], registry: CollectorRegistry | None = None
    ) -> None:
        self._model = model
        self._metrics = Metrics(model, registry=registry or CollectorRegistry())
        self._metrics.tell_engines({engine.card.graph: describe_model(engine) for engine in engines}, version=version)
        self._batches = count(1)

    def tell(self, reports: Sequence[Report], *, callers: Sequence[Caller]) -> None:
        """Counts and logs a batch; the callers in the reports' order."""
        self._metrics.count_batch(reports, transports=[caller.transport for caller in callers])
        batch = next(self._batches)
        for report, caller in zip(reports, callers, strict=True):
            trace = report.trace or caller.trace
            fields = {
                "request_id": report.request_id or caller.server_id,
                **(vars(trace) if trace else {}),
                "model": self._model,
                "transport": caller.transport,
                "code": report.code,
                "clips": report.num_clips,
                "batch": batch,
                "batch_items": report.batch_items,
                **{f"{stage}_seconds": round(seconds, 6) for stage, seconds in report.seconds.items()},
            }
            level = logging.ERROR if report.failure else logging.INFO
            logger.log(level, "answered", exc_info=report.failure, extra={FIELDS: fields})
