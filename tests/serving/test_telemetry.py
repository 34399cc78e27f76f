"""What a worker counts and logs of the rows that it has answered."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from sum3dcam.serving.logs import log_as_json
from sum3dcam.serving.predictor import Predictor
from sum3dcam.serving.report import Report
from sum3dcam.serving.telemetry import Caller, Telemetry, read_caller
from sum3dcam.serving.trace import Trace

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
REPORT = Report(
    code="ok", request_id="r", trace=None, batch_items=2, num_clips=1, seconds={"decode": 0.5, "worker": 2.0}
)
BODY = {"body": {"content-type": "video/mp4"}}
HTTP, GRPC = Caller("http", "h", TRACE), Caller("grpc", "g", None)


@pytest.fixture
def log() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The lines that the package's loggers have written as a worker's do."""
    stream, logger = io.StringIO(), logging.getLogger("sum3dcam")
    log_as_json("sum3dcam", stream=stream)
    logger.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def telemetry(engines: Any, registry: CollectorRegistry) -> Telemetry:
    return Telemetry("tiny", version="2.0", engines=engines, registry=registry)


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        ({**BODY, "Host": "h", "Traceparent": TRACEPARENT}, Caller("http", "id", TRACE)),
        ({**BODY, "host": "h", "traceparent": "00-no"}, Caller("http", "id", None)),
        # What a gRPC caller names an input reaches the handler as a header's name, but never as a text.
        ({**BODY, "host": {"content-type": ""}, "traceparent": {"content-type": ""}}, Caller("grpc", "id", None)),
        (BODY, Caller("grpc", "id", None)),
    ],
)
def test_a_rows_transport_and_trace_are_read_from_its_headers(headers: dict[str, Any], caller: Caller) -> None:
    assert read_caller(headers, server_id="id") == caller


def test_rows_are_counted_by_transport_and_code(telemetry: Telemetry, registry: CollectorRegistry) -> None:
    bad = replace(REPORT, code="bad_option", seconds={"worker": 2.0})
    telemetry.tell([REPORT, bad], callers=[HTTP, GRPC])
    telemetry.tell([replace(REPORT, batch_items=1)], callers=[HTTP])

    def value(name: str, transport: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"sum3dcam_{name}", {"model": "tiny", "transport": transport, **labels})

    assert (value("requests_total", "http", code="ok"), value("requests_total", "grpc", code="bad_option")) == (2, 1)
    assert (value("decode_seconds_count", "http"), value("decode_seconds_sum", "http")) == (2, 1.0)
    assert value("decode_seconds_bucket", "http", le="0.25") == 0
    assert value("decode_seconds_bucket", "http", le="0.5") == 2
    assert value("decode_seconds_count", "grpc") is None  # it was not decoded
    assert value("worker_seconds_sum", "grpc") == 2.0
    assert value("worker_seconds_bucket", "grpc", le="300.0") == 1  # as long as a batch may take
    assert (value("batch_items_sum", "http"), value("batch_items_sum", "grpc")) == (3, 2)
    assert registry.get_sample_value("sum3dcam_batches_total", {"model": "tiny"}) == 2


def test_engines_are_told(telemetry: Telemetry, registry: CollectorRegistry) -> None:
    labels = {"model": "tiny", "version": "2.0", "network": "tiny", "engine": "fake", "provider": "cpu"}
    for graph in ("explain", "labels"):
        found = registry.get_sample_value("sum3dcam_engine_info", {**labels, "graph": graph, "certified": "false"})
        assert found == 1


def test_each_row_is_a_line_with_its_id_and_trace(telemetry: Telemetry, log: Any) -> None:
    own = Trace("1" * 32, "2" * 16)
    nameless = replace(REPORT, request_id=None)
    telemetry.tell([REPORT, nameless, replace(REPORT, trace=own)], callers=[HTTP, GRPC, HTTP])
    first, second, third = log()
    assert (first["request_id"], first["trace_id"], first["parent_id"]) == ("r", TRACE.trace_id, TRACE.parent_id)
    assert (first["event"], first["level"], first["model"], first["transport"]) == ("answered", "INFO", "tiny", "http")
    assert (first["code"], first["clips"], first["batch"], first["batch_items"]) == ("ok", 1, 1, 2)
    assert (first["decode_seconds"], first["worker_seconds"], "compute_seconds" in first) == (0.5, 2.0, False)
    assert (second["request_id"], second["transport"], "trace_id" in second) == ("g", "grpc", False)
    assert third["trace_id"] == own.trace_id  # the request's own before its header's


def test_nothing_that_a_user_sends_is_logged_but_its_names(
    engines: Any, telemetry: Telemetry, log: Any, clip_bytes: Callable[..., bytes]
) -> None:
    def fail(clip_BTHWC: Any) -> None:
        raise RuntimeError("SECRET in a message")

    engines[0].on_run = fail
    rows = [
        {"data": clip_bytes(), "target": "SECRET"},
        {"data": b"SECRET"},
        {"data": clip_bytes(), "SECRET": "x"},
        {"data": clip_bytes(), "explain": "boxes", "request_id": "named"},
    ]
    reports = [report for _, report in Predictor(*engines).answer(rows)]
    telemetry.tell(reports, callers=[HTTP] * len(rows))
    lines = log()
    assert [line["code"] for line in lines] == ["bad_option", "unreadable_media", "unknown_option", "internal"]
    assert [line["request_id"] for line in lines] == ["h", "h", "h", "named"]
    assert "SECRET" not in json.dumps(lines)
    ours = lines[-1]
    assert (ours["level"], ours["failure"]) == ("ERROR", "RuntimeError")
    assert ours["stack"][-1].startswith("test_telemetry.py:")
    assert ours["stack"][-1].endswith(" fail")
