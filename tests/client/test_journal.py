"""`sum3dcam predict --output`: many files, a bounded number at a time, and never twice what is already answered."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sum3dcam.__main__ import main


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    """Ten files, each of other bytes; the fake server does not look into them."""
    (tmp_path / "in").mkdir()
    paths = [tmp_path / "in" / f"{number}.mp4" for number in range(10)]
    for path in paths:
        path.write_bytes(path.name.encode() * 10)
    return paths


@pytest.fixture
def run(fake: Any, make: Any, tmp_path: Path) -> Any:
    """Runs the command over videos, writing `results.jsonl`."""
    fake.script.reply = make.reply(make.envelope())

    def predict(*arguments: object) -> Result:
        given = [*arguments, fake.flag, fake.address, "--output", tmp_path / "results.jsonl"]
        return CliRunner().invoke(main, ["predict", *(str(argument) for argument in given)])

    return predict


def _lines(tmp_path: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    by_name = {Path(line["video"]).name: line for line in lines}
    assert len(by_name) == len(lines)  # no video twice
    return by_name


def _asked(fake: Any) -> list[str]:
    """Names of the files that the server was asked about since the last look."""
    names = sorted(request["data"].decode()[:5] for request in fake.script.requests)
    fake.script.requests.clear()
    return names


def test_each_video_has_a_line_and_a_second_run_asks_nothing(
    run: Any, fake: Any, videos: list[Path], tmp_path: Path
) -> None:
    first = run(*videos, "--concurrency", 4, "--top-k", 2)
    assert first.exit_code == 0, first.output
    assert "10 answered, 0 failed, 0 were there before" in first.stdout
    assert _asked(fake) == [path.name for path in videos]
    line = _lines(tmp_path)["3.mp4"]
    assert line["asked"] == {"model": "resnext-mini", "top_k": "2"}
    assert (line["error"], line["reply"]["clips"][0]["labels"][0]["label"]) == (None, "wave")
    second = run(*videos, "--top-k", 2)
    assert (second.exit_code, _asked(fake)) == (0, [])
    assert "0 answered, 0 failed, 10 were there before" in second.stdout


def test_only_the_rest_is_asked_for_after_an_interruption(
    run: Any, fake: Any, videos: list[Path], tmp_path: Path
) -> None:
    run(*videos[:4])
    _asked(fake)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"video": "cut o')  # a run that was killed while it wrote
    videos[1].write_bytes(b"1.mp4, another video by now")
    assert run(*videos).exit_code == 0
    assert _asked(fake) == ["1.mp4", *(path.name for path in videos[4:])]
    assert set(_lines(tmp_path)) == {path.name for path in videos}


def test_ctrl_c_keeps_what_was_answered(fake: Any, make: Any, videos: list[Path], tmp_path: Path) -> None:
    fake.script.reply, fake.script.delay_seconds = make.reply(make.envelope()), 0.4
    given = [*map(str, videos), fake.flag, fake.address, "--output", str(tmp_path / "results.jsonl")]
    command = [sys.executable, "-m", "sum3dcam", "predict", *given, "--concurrency", "2"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # Under a runner in a shell's background Ctrl-C is ignored, which a child would inherit.
    with subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes) as shell:
        while len(fake.script.requests) < 3:
            assert shell.poll() is None
            time.sleep(0.02)
        os.kill(shell.pid, signal.SIGINT)
        assert shell.wait(timeout=20) == 1
    asked = _asked(fake)
    assert 3 <= len(asked) <= 6  # two at a time; a busy machine notices the third late
    assert sorted(_lines(tmp_path)) == asked


def test_a_failure_is_in_its_line_and_is_asked_for_again(
    run: Any, fake: Any, videos: list[Path], tmp_path: Path
) -> None:
    gone = tmp_path / "gone.mp4"
    first = run(videos[0], gone)
    assert first.exit_code == 1
    assert f"failed: {gone}: the file cannot be read" in first.stderr
    line = _lines(tmp_path)["gone.mp4"]
    assert (line["reply"], line["error"]["code"]) == (None, "unreadable_media")
    gone.write_bytes(b"5.mp4")
    assert run(videos[0], gone).exit_code == 0
    assert _lines(tmp_path)["gone.mp4"]["error"] is None
    assert _asked(fake) == ["0.mp4", "5.mp4"]


def test_at_most_so_many_are_under_way(run: Any, fake: Any, videos: list[Path]) -> None:
    under_way, most = [0], [0]

    def count() -> None:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        time.sleep(0.05)
        under_way[0] -= 1

    fake.script.on_request = count
    assert run(*videos, "--concurrency", 3).exit_code == 0
    assert most[0] == 3


def test_boxes_of_all_videos_become_a_table(run: Any, fake: Any, videos: list[Path], tmp_path: Path) -> None:
    run(*videos[:2], "--explain", "boxes")
    _asked(fake)
    assert run(*videos[:3], "--csv", tmp_path / "boxes.csv").exit_code == 0  # which asks for boxes
    assert _asked(fake) == ["2.mp4"]
    heading, *rows = (tmp_path / "boxes.csv").read_text().splitlines()
    assert heading == "video,clip,frame,time_seconds,class_index,label,class_score,x1_px,y1_px,x2_px,y2_px,score"
    # Oracle: the one box of the envelope in conftest.
    assert sorted(rows) == [f"{video},0,1,0.04,2,wave,0.75,30.0,20.0,70.0,60.5,0.8" for video in videos[:3]]


def test_a_file_of_something_else_is_never_touched(run: Any, videos: list[Path], tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    for other in ("my thesis\n", '{"json": "of somebody else"}\n'):
        results.write_text(other)
        refused = run(videos[0])
        assert (refused.exit_code, "give another file" in refused.stderr) == (1, True)
        assert results.read_text() == other
    results.unlink()
    run(videos[0], "--top-k", 2)
    before = results.read_text()
    assert "answers to other options" in run(videos[0], "--top-k", 3).stderr
    assert results.read_text() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("results")] == ["results.jsonl"]


def test_two_ways_to_write_replies_are_one_too_many(run: Any, videos: list[Path], tmp_path: Path) -> None:
    refused = run(videos[0], "--json", tmp_path / "all.json")
    assert (refused.exit_code, "give one of them" in refused.stderr) == (2, True)
