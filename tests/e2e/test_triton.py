"""The same archive behind Triton's own server. Oracle: the predictor, asked in the same environment and in this one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import yaml

from sum3dcam.export.archive import build_archive
from sum3dcam.serving.settings import CONFIG_VARIABLE
from sum3dcam.serving.torchserve import free_ports
from sum3dcam.wire import decode_reply

PROGRAMS = Path(__file__).parent / "programs"
START_SECONDS = 90.0
# Of scores and maps, which are at most 1. numpy below 2 has another OpenBLAS and another exp: the last bits of float32.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def python(project: Path) -> Path:
    """The interpreter of the environment that has pytriton."""
    path = project / "build" / "triton-env" / "bin" / "python"
    if not path.exists():
        missing = "no environment for Triton: `make triton-env` makes it"
        if os.environ.get("REQUIRE_TRITON") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


@pytest.fixture(scope="module")
def packed(archive: Path, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive again, in the engine that both environments have."""
    folder = tmp_path_factory.mktemp("triton")
    config = yaml.safe_load((project / "serve_config" / "model-config.yaml").read_text())
    config |= {"batchSize": 8, "maxBatchDelay": 700}
    config["sum3dcam"] |= {"labels_engine": "onnxruntime", "explain_engine": "onnxruntime", "num_threads": 1}
    (folder / "model-config.yaml").write_text(yaml.safe_dump(config))
    return build_archive(
        archive.parents[1] / "mini.onnx",
        name="mini",
        version="1.0",
        output=folder,
        handler=project / "handlers" / "sum3dcam_handler.py",
        config=folder / "model-config.yaml",
    )


@dataclass(frozen=True)
class Triton:
    process: subprocess.Popen[bytes]
    http: str
    grpc: str
    log: Path


@pytest.fixture(scope="module")
def triton(python: Path, packed: Path, project: Path) -> Iterator[Triton]:
    ports, log = free_ports(), packed.parent / "triton.log"
    command = [python, project / "handlers" / "sum3dcam_triton.py", packed, "--http-port", ports.inference]
    command += ["--grpc-port", ports.grpc_inference, "--metrics-port", ports.metrics]
    with log.open("wb") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out)
    family = [psutil.Process(process.pid)]
    try:
        until = time.monotonic() + START_SECONDS
        while b"serving on " not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        family += family[0].children(recursive=True)
        yield Triton(process, f"127.0.0.1:{ports.inference}", f"127.0.0.1:{ports.grpc_inference}", log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0, log.read_text()
    finally:
        _, alive = psutil.wait_procs(family, timeout=10)
        for one in alive:
            one.kill()
    assert alive == []


def black_npy() -> bytes:
    """Ends in zeros, which a fixed-width bytes array would lose."""
    buffer = BytesIO()
    np.save(buffer, np.zeros((16, 112, 112, 3), np.uint8))
    return buffer.getvalue()


def run(*command: object, requests: list[tuple[bytes, dict[str, Any]]], project: Path) -> Any:
    given = json.dumps([[b64encode(data).decode(), options] for data, options in requests])
    environment = os.environ | {CONFIG_VARIABLE: str(project / "serve_config" / "config.properties")}
    words = [str(word) for word in command]
    done = subprocess.run(words, env=environment, input=given, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_same(one: bytes, other: bytes) -> None:
    """Errors to the byte; of answers, whatever is not a float."""
    if b'"status":"error"' in one:
        assert one == other
        return
    (envelope, tensors), (other_envelope, other_tensors) = decode_reply(one), decode_reply(other)
    leaves, other_leaves = dict(walk(envelope)), dict(walk(other_envelope))
    floats = [path for path, leaf in leaves.items() if isinstance(leaf, float)]
    assert [leaves.pop(path) for path in floats] == pytest.approx(
        [other_leaves.pop(path) for path in floats], abs=TOLERANCE
    )
    assert leaves == other_leaves
    assert tensors.keys() == other_tensors.keys()
    for name, tensor in tensors.items():
        largest = abs(tensor).max()
        np.testing.assert_allclose(tensor, other_tensors[name], rtol=0, atol=TOLERANCE * largest)


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All that is in a JSON value, by where it is."""
    if not isinstance(value, dict | list):
        yield path, value
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from walk(inner, f"{path}/{key}")


def test_every_reply_is_the_predictors(
    triton: Triton, python: Path, packed: Path, project: Path, videos: list[bytes], bad_inputs: dict[str, Any]
) -> None:
    good = [
        (videos[0], {}),
        (videos[1], {"explain": "boxes", "target": "top-2", "request_id": "same"}),
        (black_npy(), {"explain": "boxes"}),
        (videos[2], {"explain": "maps", "map_dtype": "f32", "method": "sum3dcam-elementwise"}),
        (videos[3], {"explain": "grids", "taps": "layer2,layer4", "top_k": 2}),
    ]
    bad = [(bad.data, dict(bad.options)) for bad in bad_inputs.values()]
    requests = [*good, *bad]
    there, here = (
        run(one, PROGRAMS / "ask_predictor.py", packed, requests=requests, project=project)
        for one in (python, sys.executable)
    )
    ask = (python, PROGRAMS / "ask_triton.py", "mini", triton.http, triton.grpc)
    assert run(*ask, requests=requests, project=project) == {"http": there, "grpc": there, "together": there}
    for one, other in zip(there, here, strict=True):
        assert_same(b64decode(one), b64decode(other))
    codes = [json.loads(b64decode(body))["error"]["code"] for body in there[len(good) :]]
    assert codes == [bad.code for bad in bad_inputs.values()]
    # Batches with options, errors and neighbours of every kind.
    logged = re.findall(r'"batch": (\d+), "batch_items": (\d+)', triton.log.read_text())
    assert [int(items) for _, items in dict.fromkeys(logged)][-2:] == [8, len(requests) - 8]


def test_triton_itself_is_asked_and_nobody_can_change_its_models(triton: Triton) -> None:
    server = httpx.get(f"http://{triton.http}/v2").json()
    assert (server["name"], "binary_tensor_data" in server["extensions"]) == ("triton", True)
    assert httpx.get(f"http://{triton.http}/v2/health/ready").status_code == 200
    for path in ("repository/models/mini/unload", "systemsharedmemory/region/r/register", "logging"):
        assert httpx.post(f"http://{triton.http}/v2/{path}", content=b"{}").status_code == 403
