"""TorchServe itself: the paths that carry options, its limits, and how it starts and stops. Each is a known trap."""

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from sum3dcam.digests import SUMS, seal_archive
from sum3dcam.errors import ServerError
from sum3dcam.serving import readiness, torchserve
from sum3dcam.serving.settings import read_properties
from sum3dcam.serving.torchserve import Server

ROOT = Path(__file__).resolve().parents[2]
BYTES = {"content-type": "application/octet-stream"}


@pytest.mark.parametrize("path", ["/models/mini/invoke?", "/invocations?model_name=mini&", "/mini/predict?"])
def test_these_paths_hand_query_parameters_to_the_handler(path: str, server: Server, videos: list[bytes]) -> None:
    reply = httpx.post(f"{server.url}{path}explain=boxes&top_k=1", content=videos[0], headers=BYTES, timeout=120)
    (clip,) = reply.json()["clips"]
    assert len(clip["explanations"]) == 1
    assert len(clip["labels"]) == 1


def test_the_predictions_path_drops_them(server: Server, videos: list[bytes]) -> None:
    # TorchServe 0.12 gives that path's handler no query: options travel as form fields there. Not ours to mend.
    url = f"{server.url}/predictions/mini"
    dropped = httpx.post(f"{url}?explain=boxes", content=videos[0], headers=BYTES, timeout=120)
    assert dropped.json()["clips"][0]["explanations"] == []
    kept = httpx.post(url, files={"data": videos[0]}, data={"explain": "boxes"}, timeout=120)
    assert kept.json()["clips"][0]["explanations"] != []


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "video/mp4", None])
def test_body_is_a_video_whatever_its_content_type_says(
    content_type: str | None, server: Server, videos: list[bytes]
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    reply = httpx.post(f"{server.url}/models/mini/invoke", content=videos[0], headers=headers, timeout=120)
    assert reply.json()["status"] == "ok"


@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
def test_body_is_not_parsed_before_the_handler_sees_it(content_type: str, server: Server) -> None:
    url = f"{server.url}/models/mini/invoke"
    parsed, raw = (
        httpx.post(url, content=b"[1, 2]", headers=headers, timeout=120)
        for headers in ({"content-type": content_type}, BYTES)
    )
    assert (parsed.status_code, parsed.content) == (415, raw.content)


def test_form_encoded_body_is_lost_and_the_error_says_so(server: Server) -> None:
    # What curl --data-binary sends by itself. TorchServe looks for form fields and drops the rest.
    headers = {"content-type": "application/x-www-form-urlencoded"}
    reply = httpx.post(f"{server.url}/models/mini/invoke", content=b"RIFF", headers=headers, timeout=120)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "empty_body"
    assert "form-encoded" in reply.json()["error"]["message"]


def test_request_beyond_the_limit_is_refused_before_it_reaches_the_worker(server: Server) -> None:
    limit = int(read_properties(server.run_dir / "config.properties")["max_request_size"])
    reply = httpx.post(f"{server.url}/models/mini/invoke", content=bytes(limit + 1), headers=BYTES, timeout=120)
    assert (reply.status_code, reply.content) == (413, b"")


def test_status_command_says_ready(server: Server) -> None:
    command = [sys.executable, "-m", "sum3dcam.serving.launch", "status", "--run-dir", str(server.run_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "ready"


def test_second_server_from_the_same_folder_is_refused(server: Server, archive: Path) -> None:
    with pytest.raises(ServerError, match="already"):
        torchserve.start([archive], config=server.run_dir / "config.properties", run_dir=server.run_dir)


def test_archive_that_cannot_be_served_stops_the_start_with_its_reason(archive: Path, tmp_path: Path) -> None:
    broken = tmp_path / "store" / "broken.mar"
    broken.parent.mkdir()
    with zipfile.ZipFile(archive) as whole, zipfile.ZipFile(broken, "w") as partial:
        for name in whole.namelist():
            if not name.endswith(".labels.onnx") and name != SUMS:
                partial.writestr(name, whole.read(name))
    seal_archive(broken)
    began = time.monotonic()
    done = launch("start", broken, "--ports", "free", "--run-dir", tmp_path / "run")
    assert done.returncode == 1
    assert "one explain graph and its labels graph" in done.stderr
    assert time.monotonic() - began < 60  # not after five minutes of retries
    assert torchserve.load(tmp_path / "run") is None


def test_starts_and_stops_by_command_without_a_java_on_the_path(archive: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    no_java = {key: value for key, value in os.environ.items() if key != "JAVA_HOME"} | {"PATH": "/nonexistent"}
    started = launch("start", archive, "--ports", "free", "--run-dir", run_dir, environment=no_java)
    try:
        assert started.returncode == 0, started.stderr
        server = torchserve.load(run_dir)
        assert server is not None
        assert server.url in started.stdout
        assert readiness.is_ready(server)
        assert not list(run_dir.rglob("*.cfg"))  # no snapshots
    finally:
        stopped = launch("stop", "--run-dir", run_dir)
    assert stopped.returncode == 0
    assert torchserve.load(run_dir) is None
    assert not server.temp_dir.exists()


def launch(*arguments: object, environment: dict[str, str] | None = None) -> Any:
    command = [sys.executable, "-m", "sum3dcam.serving.launch", *(str(argument) for argument in arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)


def test_reply_tells_what_it_was_computed_with(server: Server, videos: list[bytes], http: Any) -> None:
    labels, explained = (json.loads(http(videos[0], {"explain": what}).body)["model"] for what in ("none", "boxes"))
    # Each comes from whichever engine was faster at the export.
    engines = [("onnxruntime", "CPUExecutionProvider"), ("openvino", "CPU")]
    assert (labels["engine"], labels["provider"]) in engines
    assert (explained["engine"], explained["provider"]) in engines
    for model in (labels, explained):
        assert (model["name"], model["certified"]) == ("resnext-mini", True)
        assert len(model["artifact_sha256"]) == 64
