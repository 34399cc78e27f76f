"""`sum3dcam predict` from the outside: what it asks, prints, writes and exits with."""

import json
import os
from pathlib import Path
from typing import Any

import av
import pytest
from click.testing import CliRunner, Result

from sum3dcam.__main__ import main


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["predict", *(str(argument) for argument in arguments)], env={"COLUMNS": "160"})


@pytest.fixture
def videos(make: Any, tmp_path: Path) -> list[Path]:
    return [make.video(tmp_path / f"{name}.mp4", make.grey_frames(6)) for name in ("one", "two")]


def test_labels_and_boxes_are_printed_in_a_table(fake: Any, make: Any, videos: list[Path]) -> None:
    fake.script.reply = make.reply(make.envelope())
    result = _run(videos[0], fake.flag, fake.address, "--explain", "boxes", "--top-k", 2, "--target", "wave")
    assert result.exit_code == 0, result.output
    for text in ("one.mp4", "160x120", "wave", "75.0%", "jump", "0.16 - 0.24", "30,20,70,60", "frame 1, score 0.80"):
        assert text in result.stdout
    assert {key: value for key, value in fake.script.requests[0].items() if key != "data"} == {
        "explain": b"boxes",
        "top_k": b"2",
        "target": b"wave",
    }
    assert fake.script.requests[0]["data"] == videos[0].read_bytes()


def test_tubes_are_asked_for_printed_and_written(fake: Any, make: Any, videos: list[Path], tmp_path: Path) -> None:
    envelope = make.envelope()
    envelope["video"]["tubes"] = [make.tube(0, 1, 2), *(make.tube(4) for _ in range(6))]
    fake.script.reply = make.reply(envelope)
    answer = tmp_path / "r.json"
    result = _run(
        videos[0], fake.flag, fake.address, "--explain", "boxes", "--tubes", "smoothed", "--json", answer,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert fake.script.requests[0]["tubes"] == b"smoothed"
    (row,) = (line for line in result.stdout.splitlines() if "tube 1" in line)
    for text in ("0.00 - 0.12", "0 - 2", "wave", "score 0.80, boxes: 3"):
        assert text in row
    assert "tube 5" in result.stdout
    assert "tube 6" not in result.stdout
    assert "2 more tubes: see --json" in result.stdout
    assert json.loads(answer.read_text())["video"]["tubes"] == envelope["video"]["tubes"]


def test_no_option_is_sent_unasked(fake: Any, make: Any, videos: list[Path]) -> None:
    fake.script.reply = make.reply(make.envelope())
    assert _run(videos[0], fake.flag, fake.address, "--model", "other").exit_code == 0
    assert set(fake.script.requests[0]) == {"data"}
    assert fake.script.model == "other"


def test_an_overlay_asks_for_maps_and_is_written(fake: Any, make: Any, videos: list[Path], tmp_path: Path) -> None:
    fake.script.reply = make.reply(make.envelope(), {"maps": make.blob_maps(2)})
    overlay, sheet, answer = tmp_path / "a" / "o.mp4", tmp_path / "b" / "s.png", tmp_path / "c" / "r.json"
    result = _run(
        videos[0], fake.flag, fake.address, "--overlay", overlay, "--contact-sheet", sheet, "--json", answer,
        "--colormap", "cividis",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert fake.script.requests[0]["explain"] == b"maps"
    with av.open(str(overlay)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (160, 120)
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert json.loads(answer.read_text())["clips"][0]["labels"][0]["label"] == "wave"


def test_several_videos_give_a_folder_of_overlays_and_one_json(
    fake: Any, make: Any, videos: list[Path], tmp_path: Path
) -> None:
    fake.script.reply = make.reply(make.envelope(), {"maps": make.blob_maps(2)})
    answer = tmp_path / "all.json"
    result = _run(*videos, fake.flag, fake.address, "--overlay", tmp_path / "overlays", "--json", answer)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "overlays").iterdir()) == ["one.mp4", "two.mp4"]
    assert set(json.loads(answer.read_text())) == {str(video) for video in videos}


def test_a_pattern_names_each_overlay(fake: Any, make: Any, videos: list[Path], tmp_path: Path) -> None:
    fake.script.reply = make.reply(make.envelope(), {"maps": make.blob_maps(2)})
    result = _run(*videos, fake.flag, fake.address, "--overlay", tmp_path / "{stem}-seen.mp4")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "one-seen.mp4").exists()
    assert (tmp_path / "two-seen.mp4").exists()


def test_a_file_that_fails_does_not_stop_the_others(fake: Any, make: Any, videos: list[Path], tmp_path: Path) -> None:
    fake.script.reply = make.reply(make.envelope())
    answer = tmp_path / "all.json"
    result = _run(videos[0], tmp_path / "gone.mp4", tmp_path, videos[1], fake.flag, fake.address, "--json", answer)
    assert result.exit_code == 1
    assert "gone.mp4: the file cannot be read; got: No such file" in result.stderr
    assert "Is a directory" in result.stderr
    assert result.stdout.count("wave") >= 2
    answers = json.loads(answer.read_text())
    assert answers[str(videos[1])]["status"] == "ok"
    assert answers[str(tmp_path / "gone.mp4")]["error"]["code"] == "unreadable_media"


def test_the_servers_refusal_is_the_reason_printed(fake: Any, videos: list[Path], tmp_path: Path) -> None:
    error = {"code": "bad_option", "message": "unknown tap", "got": "layer9", "allowed": ["layer1"]}
    body = json.dumps({"contract_version": 1, "status": "error", "request_id": None, "error": error}).encode()
    fake.script.reply, fake.script.http_failure = body, (400, body)
    answer = tmp_path / "r.json"
    result = _run(videos[0], fake.flag, fake.address, "--taps", "layer9", "--json", answer)
    assert result.exit_code == 1
    assert "one.mp4: unknown tap; got: layer9; allowed: ['layer1']" in result.stderr
    assert json.loads(answer.read_text())["error"] == error


def test_a_failed_overlay_is_an_error_but_the_answer_is_kept(fake: Any, make: Any, tmp_path: Path) -> None:
    video = make.video(tmp_path / "small.mp4", make.grey_frames(6, width_px=64, height_px=64))
    fake.script.reply = make.reply(make.envelope(), {"maps": make.blob_maps(2)})
    answer = tmp_path / "r.json"
    result = _run(video, fake.flag, fake.address, "--overlay", tmp_path / "o.mp4", "--json", answer)
    assert result.exit_code == 1
    assert "same video" in result.stderr
    assert json.loads(answer.read_text())["status"] == "ok"


def test_a_server_that_is_down_fails_each_file(videos: list[Path], free_port: int) -> None:
    result = _run(*videos, "--url", f"http://127.0.0.1:{free_port}")
    assert result.exit_code == 1
    assert result.stderr.count("is the server up?") == 2


def test_a_video_beyond_the_limit_is_not_read(fake: Any, videos: list[Path]) -> None:
    result = _run(videos[0], fake.flag, fake.address, "--max-message-bytes", 10)
    assert result.exit_code == 1
    assert "not sent" in result.stderr
    assert fake.script.requests == []


REFUSALS = {
    "two servers": (["--url", "http://127.0.0.1:1", "--grpc", "127.0.0.1:1"], "give one of them"),
    "one overlay for two": (["--overlay", "out.mp4"], "give a folder"),
    "one sheet for two": (["--contact-sheet", "out.png"], "give a folder"),
    "a pattern that ends at the source": (["--overlay", "{folder}/{stem}.mp4"], "would overwrite a video"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(refusal: str, videos: list[Path]) -> None:
    arguments, reason = REFUSALS[refusal]
    result = _run(*videos, *(text.replace("{folder}", str(videos[0].parent)) for text in arguments))
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.split())


def test_videos_of_one_name_do_not_share_an_overlay(videos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    other = tmp_path / "deep" / "one.mp4"
    other.write_bytes(videos[0].read_bytes())
    result = _run(videos[0], other, "--overlay", tmp_path / "overlays")
    assert result.exit_code == 2
    assert "same file" in " ".join(result.stderr.split())


def test_a_name_that_is_not_utf8_stops_nothing(fake: Any, make: Any, videos: list[Path], tmp_path: Path) -> None:
    fake.script.reply = make.reply(make.envelope(), {"maps": make.blob_maps(2)})
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
    odd.write_bytes(videos[0].read_bytes())
    table, answers, lines = tmp_path / "boxes.csv", tmp_path / "answers.json", tmp_path / "lines.jsonl"
    asked = [odd, videos[0], fake.flag, fake.address, "--overlay", tmp_path / "drawn"]
    for options, said in (
        (["--json", answers, "--csv", table], "caf\ufffd.mp4"),
        (["--output", lines, "--csv", table], "2 answered, 0 failed, 0 were there"),
        (["--output", lines], "0 answered, 0 failed, 2 were there"),
    ):
        result = _run(*asked, *options)
        assert result.exit_code == 0, result.output
        assert said in result.stdout
    assert set(json.loads(answers.read_text())) == {str(odd), str(videos[0])}
    assert "caf\\udce9.mp4" in table.read_text(encoding="utf-8")
    assert (tmp_path / "drawn" / odd.name).exists()
