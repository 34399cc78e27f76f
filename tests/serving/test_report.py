"""What the predictor says that each row was and took, in a time that passes only where a test lets it."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Timer
from typing import Any

import pytest

from sum3dcam.errors import UnreadableMediaError
from sum3dcam.serving import predictor as predictor_module
from sum3dcam.serving.predictor import Predictor
from sum3dcam.serving.report import Report
from sum3dcam.serving.request import frame_spec
from sum3dcam.serving.settings import Settings
from sum3dcam.serving.trace import Trace
from sum3dcam.video.decoder import InProcessDecoder
from sum3dcam.video.footage import DecodeLimits, Video

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Time:
    """Seconds that stand still until told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def passing(self, seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, in whose every call so much time passes."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            self.now += seconds
            return function(*arguments, **keywords)

        return call


@pytest.fixture
def ask(engines: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Report]]:
    """Decoding takes 2 s, a run of the labels engine 3, of the explain engine 5, and encoding 7."""

    def reports(rows: list[dict[str, Any]], **settings: Any) -> list[Report]:
        time = Time()
        decoder = InProcessDecoder(frame_spec(engines[0].card), limits=DecodeLimits())
        object.__setattr__(decoder, "submit", time.passing(2, decoder.submit))
        engines[0].run, engines[1].run = time.passing(5, engines[0].run), time.passing(3, engines[1].run)
        monkeypatch.setattr(predictor_module, "encode_reply", time.passing(7, predictor_module.encode_reply))
        predictor = Predictor(*engines, decoder=decoder, settings=Settings(**settings), timer=time)
        return [report for _, report in predictor.answer(rows)]

    return reports


def test_each_stage_has_its_time(ask: Any, clip_bytes: Callable[..., bytes]) -> None:
    (labels,) = ask([{"data": clip_bytes(num_frames=8), "request_id": "r", "traceparent": TRACEPARENT}])
    assert labels.seconds == {"decode": 2, "compute": 2 * 3, "encode": 7, "worker": 2 + 2 * 3 + 7}
    assert (labels.code, labels.request_id, labels.num_clips, labels.batch_items) == ("ok", "r", 2, 1)
    assert labels.trace == Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert labels.failure is None


def test_a_batchs_rows_have_their_own_times_and_share_the_workers(ask: Any, clip_bytes: Callable[..., bytes]) -> None:
    reports = ask(
        [{"data": clip_bytes()}, {"data": clip_bytes(1), "explain": "boxes"}, {"data": b"text"}, {"top_k": "0"}]
    )
    assert [report.code for report in reports] == ["ok", "ok", "unreadable_media", "bad_option"]
    assert [report.num_clips for report in reports] == [1, 1, 0, 0]
    everything = 3 * 2 + 3 + 5 + 2 * 7
    assert [dict(report.seconds) for report in reports] == [
        {"decode": 2, "compute": 3, "encode": 7, "worker": everything},
        {"decode": 2, "compute": 5, "encode": 7, "worker": everything},
        {"decode": 2, "worker": everything},
        {"worker": everything},
    ]
    assert {report.batch_items for report in reports} == {4}


def test_a_run_that_rows_share_counts_whole_for_each(ask: Any, clip_bytes: Callable[..., bytes]) -> None:
    reports = ask([{"data": clip_bytes()}, {"data": clip_bytes(1, num_frames=8)}], max_batch_clips=2)
    assert [report.seconds["compute"] for report in reports] == [3, 3 + 3]


def test_our_own_fault_is_told_with_what_was_raised(ask: Any, engines: Any, clip_bytes: Callable[..., bytes]) -> None:
    def fail(clip_BTHWC: Any) -> None:
        raise RuntimeError("no")

    engines[1].on_run = fail
    (report,) = ask([{"data": clip_bytes(), "request_id": "r"}])
    assert (report.code, report.request_id, repr(report.failure)) == ("internal", "r", "RuntimeError('no')")
    assert report.seconds == {"decode": 2, "compute": 3, "worker": 5}


def test_decoding_that_ends_while_others_are_computed_is_timed_when_it_ends(
    engines: Any, clip_bytes: Callable[..., bytes]
) -> None:
    time = Time()
    futures: list[Future[Video]] = []

    class Decoder:
        def submit(self, data: bytes, *, seconds_left: float = 0.0) -> Future[Video]:
            futures.append(Future())
            if len(futures) == 2:
                first = InProcessDecoder(frame_spec(engines[0].card), limits=DecodeLimits()).submit(clip_bytes())
                Timer(0.05, lambda: futures[0].set_result(first.result())).start()
            return futures[-1]

    def end_the_second(clip_BTHWC: Any) -> None:
        time.now += 4
        futures[1].set_exception(UnreadableMediaError("no"))
        time.now += 10

    engines[1].on_run = end_the_second
    answers = Predictor(*engines, decoder=Decoder(), timer=time).answer([{"data": b"a"}, {"data": b"b"}])
    assert [report.seconds["decode"] for _, report in answers] == [0, 4]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        TRACEPARENT.upper(),
        f"{TRACEPARENT}-x",
        f"{TRACEPARENT}\n",
        f"ff{TRACEPARENT[2:]}",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_a_traceparent_that_is_none_is_refused_as_an_option(text: str, ask: Any, clip_bytes: Any) -> None:
    (report,) = ask([{"data": clip_bytes(), "traceparent": text, "request_id": "r"}])
    assert (report.code, report.request_id, report.trace) == ("bad_option", "r", None)


def test_a_later_versions_traceparent_may_say_more(ask: Any, clip_bytes: Any) -> None:
    (report,) = ask([{"data": clip_bytes(), "traceparent": "01" + TRACEPARENT[2:] + "-more"}])
    assert report.trace == Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
