"""The same network as TorchScript, behind the same handler, in a server of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from sum3dcam.serving import readiness, torchserve
from sum3dcam.serving.torchserve import Server
from sum3dcam.wire import decode_reply


@pytest.fixture(scope="module")
def scripted_server(run_script: Any, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("torchscript")
    artifact = folder / "mini.pt"
    run_script("export/to_torchscript.py", "--model", "resnext-mini", "--random-weights", 0, "--output", artifact)
    run_script("export/to_mar.py", "--artifact", artifact, "--name", "scripted", "--output", folder)
    server = torchserve.start(
        [folder / "scripted.mar"],
        config=project / "serve_config" / "config.properties",
        run_dir=folder / "run",
        ports=torchserve.free_ports(),
    )
    try:
        readiness.wait_ready(server, timeout_seconds=180)
        yield server
    finally:
        torchserve.stop(server)


def test_it_answers_like_the_onnx_artefact(scripted_server: Server, videos: list[bytes], http: Any) -> None:
    options = {"explain": "maps", "map_dtype": "f32"}
    reply = httpx.post(
        f"{scripted_server.url}/models/scripted/invoke",
        params=options,
        content=videos[0],
        headers={"content-type": "application/octet-stream"},
        timeout=120,
    )
    envelope, tensors = decode_reply(reply.content)
    expected, expected_tensors = decode_reply(http(videos[0], options).body)
    assert envelope["model"]["engine"] == "torchscript"
    assert envelope["model"]["weights_sha256"] == expected["model"]["weights_sha256"]
    ours, theirs = envelope["video"]["labels"], expected["video"]["labels"]
    assert [label["index"] for label in ours] == [label["index"] for label in theirs]
    for label, other in zip(ours, theirs, strict=True):
        assert label["score"] == pytest.approx(other["score"], abs=1e-4)
    # Two float32 engines: a flipped ReLU may move single voxels, so the mean is held (each artefact has passed the
    # export's gate against float64 already).
    assert np.abs(tensors["maps"] - expected_tensors["maps"]).mean() < 1e-3
