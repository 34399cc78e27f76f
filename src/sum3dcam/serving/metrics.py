"""What a server counts and times for Prometheus.

Workers write to files where PROMETHEUS_MULTIPROC_DIR names a folder for them, and to the registry alone where it does
not. The exporter adds the files up, those of workers that have ended too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sum3dcam.serving.report import COMPUTE, DECODE, ENCODE, STAGES, WORKER, Report

# What the server in front of the workers times.
QUEUE, TOTAL = "queue", "total"

_SAYS = {
    QUEUE: "Seconds from a request's arrival at the server until a worker took it, waiting for its batch included",
    DECODE: "Seconds from a worker's reading a request to its decoded video, waiting for a decoder included",
    COMPUTE: "Seconds in the engine; a run shared with other requests counts whole for each",
    ENCODE: "Seconds from the engine's outputs to the reply's bytes: maps, boxes, serialisation",
    WORKER: "Seconds from a batch's arrival at the worker to its replies, once for each of its requests",
    TOTAL: "Seconds from a request's arrival at the server to its reply",
}
# From labels of a small network to what a batch may take before its worker is killed (responseTimeout, 300 s).
_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_BUCKETS_ITEMS = (1, 2, 4, 8, 16, 32, 64)


def stage_histogram(stage: str, *, registry: CollectorRegistry) -> Histogram:
    """`sum3dcam_<stage>_seconds` by model and transport."""
    return Histogram(
        f"sum3dcam_{stage}_seconds", _SAYS[stage], ["model", "transport"], buckets=_BUCKETS_SECONDS, registry=registry
    )


class Metrics:
    """The metrics of one worker, which serves one model."""

    def __init__(self, model: str, *, registry: CollectorRegistry) -> None:
        self._model = model
        self._seconds = {stage: stage_histogram(stage, registry=registry) for stage in STAGES}
        self._items = Histogram(
            "sum3dcam_batch_items",
            "Size of the batch in which a request was answered, once for each request",
            ["model", "transport"],
            buckets=_BUCKETS_ITEMS,
            registry=registry,
        )
        self._batches = Counter("sum3dcam_batches", "Batches answered", ["model"], registry=registry)
        self._requests = Counter(
            "sum3dcam_requests",
            "Requests answered, by code: ok or an error's",
            ["model", "transport", "code"],
            registry=registry,
        )
        self._engine = Gauge(
            "sum3dcam_engine_info",
            "1 for what runs each graph of a model",
            ["model", "version", "network", "graph", "engine", "provider", "certified"],
            registry=registry,
            multiprocess_mode="max",
        )

    def tell_engines(self, models: Mapping[str, Mapping[str, Any]], *, version: str) -> None:
        """Says what the model is and what runs it.

        Args:
            models: `answer.describe_model` of each graph's engine.
            version: the archive's.
        """
        for graph, said in models.items():
            certified = str(said["certified"]).lower()
            self._engine.labels(
                self._model, version, said["name"], graph, said["engine"], said["provider"], certified
            ).set(1)

    def count_batch(self, reports: Sequence[Report], *, transports: Sequence[str]) -> None:
        """Counts a batch's requests and what each has taken; the transports in the reports' order."""
        self._batches.labels(self._model).inc()
        for report, transport in zip(reports, transports, strict=True):
            self._requests.labels(self._model, transport, report.code).inc()
            self._items.labels(self._model, transport).observe(report.batch_items)
            for stage, seconds in report.seconds.items():
                self._seconds[stage].labels(self._model, transport).observe(seconds)
