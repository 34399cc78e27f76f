"""Metrics and logs of a real TorchServe: a known mix of requests over both transports is found in what is scraped."""

import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sum3dcam.serving.torchserve import CONSOLE_LOG, Server

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
SECRET = "Nobody-May-Read-This"

Sample = tuple[str, frozenset[tuple[str, str]]]


def scrape(server: Server) -> dict[Sample, float]:
    families = text_string_to_metric_families(httpx.get(server.metrics_url, timeout=30).text)
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def gained(before: Mapping[Sample, float], after: Mapping[Sample, float], name: str, **labels: str) -> float:
    sample = (f"sum3dcam_{name}", frozenset({"model": "mini", **labels}.items()))
    return after.get(sample, 0.0) - before.get(sample, 0.0)


@dataclass(frozen=True)
class Sent:
    """A scrape before and one after known requests, which took so many seconds, and the log lines of them."""

    before: Mapping[Sample, float]
    after: Mapping[Sample, float]
    seconds: float
    lines: Sequence[dict[str, Any]]


# What each request reaches: a bad option no decoder, a bad video no engine.
GOOD, BAD_VIDEO, BAD_OPTION = (
    ("decode", "compute", "encode", "worker", "queue", "total"),
    ("decode", "worker", "queue", "total"),
    ("worker", "queue", "total"),
)
MIX = {
    "http": {"ok": (2, GOOD), "unreadable_media": (1, BAD_VIDEO), "bad_option": (2, BAD_OPTION)},
    "grpc": {"ok": (3, GOOD), "unreadable_media": (2, BAD_VIDEO), "bad_option": (1, BAD_OPTION)},
}


@pytest.fixture(scope="module")
def sent(server: Server, http: Any, grpc_send: Any, together: Any, videos: list[bytes], answered: Any) -> Sent:
    """The mix, on each transport all at once."""
    requests = {
        "ok": (videos[0], {"explain": "boxes", "request_id": "mine"}),
        "unreadable_media": (SECRET.encode() * 10, {}),
        "bad_option": (videos[0], {"target": SECRET}),
    }
    before, already, began = scrape(server), len(answered()), time.monotonic()
    for transport, send in (("http", http), ("grpc", grpc_send)):
        together(send, [requests[code] for code, (times, _) in MIX[transport].items() for _ in range(times)])
    seconds = time.monotonic() - began
    # The front end logs a request after it has answered it.
    until = time.monotonic() + 10
    after = scrape(server)
    while time.monotonic() < until and gained(before, after, "total_seconds_count", transport="grpc") < 6:
        time.sleep(0.05)
        after = scrape(server)
    return Sent(before, after, seconds, answered(after=already, at_least=11))


@pytest.mark.parametrize("transport", MIX)
def test_what_is_scraped_equals_what_was_sent(transport: str, sent: Sent) -> None:
    counts = {
        code: gained(sent.before, sent.after, "requests_total", transport=transport, code=code)
        for code in MIX[transport]
    }
    assert counts == {code: times for code, (times, _) in MIX[transport].items()}
    for stage in GOOD:
        expected = sum(times for times, stages in MIX[transport].values() if stage in stages)
        name = f"{stage}_seconds"
        assert gained(sent.before, sent.after, f"{name}_count", transport=transport) == expected, stage
        assert gained(sent.before, sent.after, f"{name}_bucket", transport=transport, le="+Inf") == expected, stage
    assert gained(sent.before, sent.after, "batch_items_count", transport=transport) == sum(counts.values())
    logged = Counter(line["code"] for line in sent.lines if line["transport"] == transport)
    assert logged == counts


@pytest.mark.parametrize("transport", MIX)
def test_times_are_seconds_and_add_up(transport: str, sent: Sent) -> None:
    num_requests = sum(times for times, _ in MIX[transport].values())
    took = {stage: gained(sent.before, sent.after, f"{stage}_seconds_sum", transport=transport) for stage in GOOD}
    # The clients waited for all of a request's time, and each request for its own stages.
    assert 0 < took["total"] < num_requests * sent.seconds
    assert 0 < took["compute"] < took["worker"] < took["total"]
    assert took["queue"] + took["worker"] < took["total"]
    # One wait for the whole batch; the batch forms within maxBatchDelay, 0.7 s here.
    assert took["queue"] > num_requests * 0.3


def test_batches_are_counted(sent: Sent) -> None:
    batches = {line["batch"]: line["batch_items"] for line in sent.lines}
    assert gained(sent.before, sent.after, "batches_total") == len(batches)
    items = sum(gained(sent.before, sent.after, "batch_items_sum", transport=transport) for transport in MIX)
    assert items == sum(size * size for size in batches.values())


def test_engines_are_those_that_replies_name(server: Server, http: Any, videos: list[bytes]) -> None:
    told = {}
    for name, labels in scrape(server):
        if name == "sum3dcam_engine_info":
            told[dict(labels)["graph"]] = dict(labels)
    for graph, explain in (("labels", "none"), ("explain", "boxes")):
        model = json.loads(http(videos[0], {"explain": explain}).body)["model"]
        assert told[graph] == {
            **{"model": "mini", "version": "1.0", "network": model["name"], "graph": graph},
            **{"engine": model["engine"], "provider": model["provider"], "certified": "true"},
        }


def test_traces_and_ids_reach_the_log_over_both_transports(
    server: Server, grpc_send: Any, videos: list[bytes], answered: Any
) -> None:
    already = len(answered())
    url, headers = f"{server.url}/models/mini/invoke", {"content-type": "video/mp4", "Traceparent": TRACEPARENT}
    reply = httpx.post(url, params={"request_id": "by-http"}, content=videos[0], headers=headers, timeout=120)
    nameless = httpx.post(url, content=videos[0], headers={**headers, "traceparent": "nonsense"}, timeout=120)
    assert (reply.status_code, nameless.status_code) == (200, 200)
    body = grpc_send(videos[0], {"request_id": "by-grpc", "traceparent": TRACEPARENT}).body
    assert json.loads(body)["status"] == "ok"
    first, second, third = answered(after=already, at_least=3)
    assert [line["request_id"] for line in (first, third)] == ["by-http", "by-grpc"]
    assert second["request_id"] == nameless.headers["x-request-id"]
    for line in (first, third):
        assert (line["trace_id"], line["parent_id"]) == (TRACE_ID, PARENT_ID)


def test_logs_are_json_and_hold_nothing_that_was_sent(server: Server, videos: list[bytes], sent: Sent) -> None:
    url = f"{server.url}/predictions/mini"
    refused = httpx.post(url, files={"data": (f"{SECRET}.mp4", SECRET.encode())}, data={"target": SECRET}, timeout=120)
    assert refused.status_code == 400
    assert httpx.put(f"{server.url}/{SECRET}.mp4", content=b"x", timeout=120).status_code == 404
    assert httpx.post(f"{server.url}/models/mini/invoke/{SECRET}.mp4", content=b"x", timeout=120).status_code == 404
    logs = {path.name: path.read_text() for path in server.log_dir.iterdir()}
    assert [name for name, text in logs.items() if SECRET in text] == []
    for name in ("worker.log", "access_log.log", "ts_log.log", "model_log.log"):
        assert all(isinstance(json.loads(line), dict) for line in logs[name].splitlines()), name
        assert logs[name], name


def test_console_does_not_grow_with_requests(
    server: Server, http: Any, grpc_send: Any, videos: list[bytes], answered: Any
) -> None:
    console, already = server.log_dir / CONSOLE_LOG, len(answered())
    size = console.stat().st_size
    for send in (http, grpc_send):
        send(videos[0], {})
        send(b"no video", {})
    assert httpx.put(f"{server.url}/predictions/nosuch", content=b"x", timeout=120).status_code == 404
    assert len(answered(after=already, at_least=4)) == 4
    assert console.stat().st_size == size


def test_the_dashboard_asks_for_what_is_there(server: Server, sent: Sent, project: Path) -> None:
    dashboard = json.loads((project / "serve_config" / "grafana-dashboard.json").read_text())
    asked = set(re.findall(r"\bsum3dcam_\w+", json.dumps(dashboard)))
    assert asked
    assert asked <= {name for name, _ in sent.after}
