"""A results file of serving.py as tables, the one to read first on top."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from load.latency import mlperf_samples
from load.server import NOOP

MS, KB = 1e3, 1e3
Row = Mapping[str, Any]
CASE = ("transport", "payload", "input")


def serving_tables(report: Mapping[str, Any]) -> list[Table]:
    """Throughput and SingleStream, where a request's time goes, Server, latency against load, the generator."""
    found = report["serving"]
    tables = [_summary(report), _parts(found), _server(found), *_curves(found), _generator(found)]
    return [table for table in tables if table.rows]


def _table(title: str, columns: Iterable[str], *, left: int, caption: str = "") -> Table:
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place < left else "right")
    return table


def _summary(report: Mapping[str, Any]) -> Table:
    found, plan = report["serving"], report["plan"]
    config = report["server"]["config"]
    cut = "" if report["complete"] else " (cut short)"
    batching = f"; batches of {config['batchSize']}, {config['maxBatchDelay']} ms" if config else ""
    table = _table(
        f"{report['model']} on {report['machine']['cores']} cores, client and server: {report['machine']['processor']}",
        (*CASE, "request KB", "reply KB", "one by one p50", "p90 ms", "offline/s", "min..max", "in process/s", "share"),
        left=3,
        caption=f"one by one: SingleStream; offline: {plan['clients']} requests always under way, medians of "
        f"{plan['rounds']} interleaved rounds{cut}; share: offline of the predictor's own, in process{batching}",
    )
    sizes = {_key(row): row for row in found["first_answers"]}
    for case in (row for row in found["single_stream"] if row["model"] != NOOP):
        key = _key(case)
        rates = offline_rates(found, like=case)
        if not rates:
            continue
        own = [row["per_second"] for row in found["in_process"] if (row["payload"], row["input"]) == key[2:]]
        table.add_row(
            *(case[name] for name in CASE),
            f"{sizes[key]['request_bytes'] / KB:.1f}",
            f"{sizes[key]['reply_bytes'] / KB:.1f}",
            *(show_percentile(case["percentiles"][name]) for name in ("p50", "p90")),
            f"{statistics.median(rates):.1f}",
            f"{min(rates):.1f}..{max(rates):.1f}",
            f"{statistics.median(own):.1f}" if own else "",
            f"{statistics.median(rates) / statistics.median(own):.0%}" if own else "",
        )
    return table


def serving_shares(report: Mapping[str, Any]) -> dict[str, float]:
    """Offline throughput over the predictor's own in process, by case; none for a server that was not started here."""
    found, shares = report["serving"], {}
    for case in (row for row in found["single_stream"] if row["model"] != NOOP):
        own = [row["per_second"] for row in found["in_process"] if (row["payload"], row["input"]) == _key(case)[2:]]
        rates = offline_rates(found, like=case)
        if own and rates:
            name = ", ".join(str(case[part]) for part in CASE)
            shares[f"{name}: served / in process"] = statistics.median(rates) / statistics.median(own)
    return shares


def _parts(found: Mapping[str, Any]) -> Table:
    table = _table(
        "where a request's time goes, medians in ms",
        (*CASE, "hop", "decode", "compute", "encode", "sum", "one by one p50", "Java CPU", "worker CPU", "noop CPU"),
        left=3,
        caption="hop: SingleStream of a model that does nothing, with the same batching and reply, beside it; decode, "
        "compute, encode: in process; CPU: ms of one core per answer, offline; noop: Java and worker of that model",
    )
    phases = {(row["payload"], row["input"]): row["seconds"] for row in found["phases"]}
    noops = {_key(row)[1:]: row for row in found["single_stream"] if row["model"] == NOOP}
    for case in (row for row in found["single_stream"] if _key(row)[1:] in noops and row["model"] != NOOP):
        key = _key(case)
        if not all(offline_rates(found, like=row) for row in (case, noops[key[1:]])):
            continue
        hop = noops[key[1:]]["percentiles"]["p50"].get("seconds")
        parts = [hop, *(statistics.median(seconds) for seconds in phases[key[2:]].values())]
        cpu, noop_cpu = (_cpu_per_answer(found, like=row) for row in (case, noops[key[1:]]))
        table.add_row(
            *(case[name] for name in CASE),
            *("" if part is None else f"{part * MS:.1f}" for part in parts),
            "" if hop is None else f"{sum(parts) * MS:.1f}",
            show_percentile(case["percentiles"]["p50"]),
            *(f"{cpu[who] * MS:.1f}" for who in ("front end", "workers")),
            f"{sum(noop_cpu.values()) * MS:.1f}",
        )
    return table


def _cpu_per_answer(found: Mapping[str, Any], *, like: Row) -> dict[str, float]:
    rows = [row["cpu_seconds_per_answer"] for row in found["offline"] if _key(row) == _key(like)]
    return {who: statistics.median(row[who] for row in rows) for who in rows[0]}


def _server(found: Mapping[str, Any]) -> Table:
    table = _table(
        "Server: Poisson arrivals, at most 1 % later than the bound or failed, with 95 % confidence",
        (
            *CASE,
            "bound ms",
            "tried/s",
            "requests",
            "late",
            "errors",
            "missed",
            "p99 ms",
            "verdict",
            "highest that holds",
        ),
        left=3,
    )
    for case in found["server"]:
        for place, one in enumerate(sorted(case["tries"], key=lambda one: float(one["rate_per_second"]))):
            highest = case["highest_rate_per_second"]
            table.add_row(
                *(case[name] if not place else "" for name in CASE),
                f"{case['bound_seconds'] * MS:.0f}" if not place else "",
                f"{one['rate_per_second']:.1f}",
                str(one["intended"]),
                f"{one['late_share']:.1%}" if one["late_share"] is not None else "",
                show_errors(one["errors"]),
                str(one["missed"]),
                show_percentile(one["percentiles"]["p99"]),
                one["verdict"],
                f"{highest:.1f}" if highest == one["rate_per_second"] else "",
            )
    return table


def _curves(found: Mapping[str, Any]) -> Iterable[Table]:
    for case in found["curve"]:
        table = _table(
            f"latency against load, {', '.join(case[name] for name in CASE)}; offline {case['offline_per_second']:.1f}",
            (
                "offered/s",
                "answered/s",
                "good/s",
                "p50 ms",
                "p90 ms",
                "p99 ms",
                "errors",
                "missed",
                "late sends",
                "CPU",
            ),
            left=0,
            caption="from the intended send, of all requests intended, failed ones counted as endless; good: within "
            f"{case['points'][0]['bound_seconds'] * MS:.0f} ms; late sends, CPU (of a core), behind: the generator's; "
            f"MLPerf asks for {mlperf_samples(0.99):,} requests for a p99 and {mlperf_samples(0.9):,} for a p90",
        )
        for point in case["points"]:
            generator = point["generator"]
            table.add_row(
                *(f"{point[f'{name}_per_second']:.1f}" for name in ("offered", "answered", "goodput")),
                *(show_percentile(one) for one in point["percentiles"].values()),
                show_errors(point["errors"]),
                str(point["missed"]),
                f"{generator['late_sends']} of {point['intended']}",
                f"{generator['cpu_share']:.0%}{', behind' if generator['saturated'] else ''}",
            )
        yield table


def _generator(found: Mapping[str, Any]) -> Table:
    table = _table(
        "the generator itself, against a server that does nothing",
        ("transport", "input", "requests/s", "CPU ms per request", "errors"),
        left=2,
        caption="no figure near these is the server's",
    )
    for row in found["ceilings"]:
        table.add_row(
            *(row["transport"], row["input"], f"{row['per_second']:.0f}"),
            *(f"{row['cpu_seconds_per_answer'] * MS:.2f}", str(row["errors"])),
        )
    return table


def offline_rates(found: Mapping[str, Any], *, like: Row) -> list[float]:
    """Answers per second of a case, round by round."""
    return [row["answered_per_second"] for row in found["offline"] if _key(row) == _key(like)]


def _key(row: Row) -> tuple[Any, ...]:
    return (row["model"], *(row[name] for name in CASE))


def show_percentile(percentile: Mapping[str, Any]) -> str:
    """Milliseconds, or why there are none.

    >>> [show_percentile(one) for one in ({"needs": 1000, "has": 213}, {"seconds": None}, {"seconds": 0.05})]
    ['213 of 1000', 'failed', '50.0']
    """
    if "needs" in percentile:
        return f"{percentile['has']} of {percentile['needs']}"
    return "failed" if percentile["seconds"] is None else f"{percentile['seconds'] * MS:.1f}"


def show_errors(errors: Mapping[str, int]) -> str:
    """Counts by code.

    >>> show_errors({"HTTP 503": 7, "too_large": 1}), show_errors({})
    ('7 HTTP 503, 1 too_large', '0')
    """
    return ", ".join(f"{number} {code}" for code, number in errors.items()) or "0"
