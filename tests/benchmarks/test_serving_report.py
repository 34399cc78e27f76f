"""The whole of a short measurement, against a server that does nothing, to tables, pictures and page."""

import asyncio
import io
import json
import re
from typing import Any

import pytest
from click.testing import CliRunner
from load import measure as measuring
from load import scenarios
from load.idle import idle_server
from load.inputs import NPY, make_inputs
from load.measure import LOADS, Plan, measure, no_findings
from load.page import html_page, html_table, section
from load.pictures import serving_pictures
from load.results import dumps
from load.server import NOOP, Target
from load.tables import serving_tables
from matplotlib.image import imread
from noop.noop_handler import NoopHandler
from report import main as report_command
from rich.table import Table


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """As serving.py writes it."""
    plan = Plan(
        transports=["http", "grpc"],
        payloads=["labels"],
        inputs=[make_inputs(NPY, num_frames=2, size_px=8)],
        loads=list(LOADS),
        bound_seconds=0.25,
        clients=2,
        seconds=0.3,
        load_seconds=0.3,
        rounds=2,
        server_steps=2,
    )
    with pytest.MonkeyPatch.context() as patch, idle_server(reply_bytes=300) as addresses:
        patch.setattr(measuring, "CEILING_SECONDS", 0.3)
        patch.setattr(measuring, "CURVE_SHARES", (0.01, 0.05))
        patch.setattr(measuring, "SERVER_SHARE", 0.001)
        patch.setattr(scenarios, "WARM_WINDOW_SECONDS", 0.1)
        found = no_findings()
        asyncio.run(measure(Target(addresses), plan, model="m", here=None, found=found))
    made = {
        "command": "python benchmarks/serving.py --url <somewhere>",
        "machine": {"processor": "a processor", "cores": 2, "system": "Linux"},
        "load_average_before": [0.1, 0.2, 0.3],
        "versions": {"python": "3.11"},
        "model": "m",
        "server": {"started_here": False, "config": {}},
        "plan": {"clients": 2, "rounds": 2, "bound_seconds": 0.25},
        "complete": True,
        "serving": found,
    }
    again: dict[str, Any] = json.loads(dumps(made))
    assert again == made
    return again


def with_parts(report: dict[str, Any]) -> dict[str, Any]:
    """The report as if a server had been started here: a hop of 5 ms, 20 ms in process."""
    found = report["serving"]
    cpu = {"cpu_seconds_per_answer": {"front end": 0.001, "workers": 0.010}}
    p50 = {"p50": {"seconds": 0.005, "interval": [0.004, 0.006]}, "p90": {"needs": 100, "has": 30}}
    noops = [{**row, "model": NOOP, "percentiles": p50} for row in found["single_stream"]]
    served = [{**row, **cpu, "model": model} for row in found["offline"] for model in ("m", NOOP)]
    parts = {
        "single_stream": [*found["single_stream"], *noops],
        "offline": served,
        "phases": [
            {
                "payload": "labels",
                "input": NPY,
                "seconds": {"decode": [0.002] * 3, "compute": [0.017] * 3, "encode": [0.001] * 3},
            }
        ],
        "in_process": [{"payload": "labels", "input": NPY, "per_second": rate} for rate in (49.0, 50.0, 51.0)],
    }
    return {**report, "serving": {**found, **parts}}


def cells(table: Table) -> list[dict[str, str]]:
    columns = {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_both_transports_are_measured_in_every_scenario(report: dict[str, Any]) -> None:
    found = report["serving"]
    for scenario in ("single_stream", "server", "curve", "ceilings", "warm_up"):
        assert [row["transport"] for row in found[scenario]] == ["http", "grpc"]
    assert len(found["offline"]) == 4
    assert all(row["answered_per_second"] > 0 and not row["errors"] for row in found["offline"])
    for case in found["server"]:
        assert [one["verdict"] for one in case["tries"]] == ["undecided"] * 2  # far too few requests to tell
        assert case["highest_rate_per_second"] is None
    for case in found["curve"]:
        rates = [point["rate_per_second"] / case["offline_per_second"] for point in case["points"]]
        assert rates == pytest.approx([0.01, 0.05])
    assert all(row["gate"]["compared"] == row["gate"]["identical"] > 0 for row in found["offline"])


def test_tables_say_what_was_measured_and_why_a_percentile_is_missing(report: dict[str, Any]) -> None:
    summary, parts, *_, generator = serving_tables(with_parts(report))
    first = cells(summary)[0]
    assert (first["transport"], first["in process/s"]) == ("http", "50.0")
    part = cells(parts)[0]
    assert [part[name] for name in ("hop", "decode", "compute", "encode", "sum")] == [
        "5.0",
        "2.0",
        "17.0",
        "1.0",
        "25.0",
    ]
    assert [part[name] for name in ("Java CPU", "worker CPU", "noop CPU")] == ["1.0", "10.0", "11.0"]
    assert [row["transport"] for row in cells(generator)] == ["http", "grpc"]
    server = next(table for table in serving_tables(report) if str(table.title).startswith("Server"))
    assert all(re.fullmatch(r"\d+ of 1000", row["p99 ms"]) for row in cells(server))


def test_without_a_server_of_ones_own_nothing_is_said_of_its_parts(report: dict[str, Any]) -> None:
    titles = [str(table.title) for table in serving_tables(report)]
    assert not [title for title in titles if title.startswith("where a request")]
    assert set(serving_pictures(report)) == {"load"}


@pytest.mark.parametrize("last", ["ceilings", "single_stream", "offline", "server"])
def test_what_was_measured_when_time_was_up_can_still_be_shown(report: dict[str, Any], last: str) -> None:
    whole = with_parts(report)
    measured = list(no_findings())[: list(no_findings()).index(last) + 1]
    found = no_findings() | {section: whole["serving"][section] for section in measured}
    cut = {**whole, "complete": False, "serving": found}
    titles = [str(table.title).split()[0] for table in serving_tables(cut)]
    expected = {"ceilings": [], "single_stream": [], "offline": ["m", "where"], "server": ["m", "where", "Server:"]}
    assert titles == [*expected[last], "the"]
    assert set(serving_pictures(cut)) == ({"parts"} if "offline" in measured else set())


def test_pictures_are_drawn_of_what_was_measured(report: dict[str, Any]) -> None:
    pictures = serving_pictures(with_parts(report))
    assert set(pictures) == {"load", "parts"}
    for png in pictures.values():
        height, width, _ = imread(io.BytesIO(png)).shape
        assert (width > 800, height > 200) == (True, True)


def test_page_holds_everything_itself(report: dict[str, Any], tmp_path: Any) -> None:
    report = with_parts(report)
    page = html_page(
        [section("serving.json", report, tables=serving_tables(report), pictures=serving_pictures(report))]
    )
    assert "&lt;somewhere&gt;" in page
    assert page.count("<img ") == 2
    assert page.count("<table>") == len(serving_tables(report))
    assert not re.findall(r'(?:src|href)="(?!data:)|url\(|@import|<script|<link', page)


def test_a_table_keeps_its_cells_and_escapes_them() -> None:
    table = Table(title="a < b", caption="why & how")
    table.add_column("name")
    table.add_column("ms", justify="right")
    table.add_row("x<y>", "1.0")
    made = html_table(table)
    for expected in ("a &lt; b", "why &amp; how", '<td class="left">x&lt;y&gt;</td><td class="right">1.0</td>'):
        assert expected in made


def test_report_prints_several_files_and_writes_one_page(report: dict[str, Any], tmp_path: Any) -> None:
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text(json.dumps(report))
    page = tmp_path / "page.html"
    names = [str(tmp_path / name) for name in ("one.json", "two.json")]
    done = CliRunner().invoke(report_command, [*names, "--page", str(page)])
    assert done.exit_code == 0, done.output
    assert page.read_text().count("<h2>") == 2
    (tmp_path / "two.json").write_text("{}")
    refused = CliRunner().invoke(report_command, names)
    assert (refused.exit_code, "two.json is no results file" in refused.output) == (1, True)


def test_noop_answers_each_row_by_its_own_payload(tmp_path: Any) -> None:
    (tmp_path / "none.reply").write_bytes(b"labels")
    (tmp_path / "maps.reply").write_bytes(b"maps")
    handler = NoopHandler()

    class Context:
        system_properties = {"model_dir": str(tmp_path)}  # noqa: RUF012 - stands for TorchServe's own

    handler.initialize(Context())
    rows = [{"body": b"x"}, {"data": b"x", "explain": bytearray(b"maps")}, {"body": b"x", "explain": "maps"}]
    assert handler.handle(rows, Context()) == [b"labels", b"maps", b"maps"]
