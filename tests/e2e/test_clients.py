"""The package's own four clients and the many-files command against a real TorchServe."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from sum3dcam.__main__ import main
from sum3dcam.client.grpc import AsyncGrpcClient, GrpcClient
from sum3dcam.client.http import AsyncHttpClient, HttpClient
from sum3dcam.client.prediction import Prediction
from sum3dcam.errors import BadOptionError, DeadlineExceededError, Sum3DCamError, TooLargeError
from sum3dcam.serving.settings import read_properties
from sum3dcam.serving.torchserve import Server

MODEL = "mini"


def _ask_all_four(server: Server, data: bytes, *, max_message_bytes: int = 2**26, **options: Any) -> list[Any]:
    """The answers or errors of all clients, asked at the same moment."""
    settings: Any = {"model": MODEL, "max_message_bytes": max_message_bytes}

    def wait(kind: Any, address: str) -> Prediction | Sum3DCamError:
        with kind(address, **settings) as client:
            try:
                return client.predict(data, **options)
            except Sum3DCamError as error:
                return error

    async def both() -> list[Any]:
        async with (
            AsyncHttpClient(server.url, **settings) as http,
            AsyncGrpcClient(server.grpc_address, **settings) as grpc,
        ):
            asked = (http.predict(data, **options), grpc.predict(data, **options))
            return await asyncio.gather(*asked, return_exceptions=True)

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(wait, HttpClient, server.url), pool.submit(wait, GrpcClient, server.grpc_address)]
        awaited = pool.submit(asyncio.run, both())
        return [*(answer.result() for answer in waiting), *awaited.result()]


def test_all_four_clients_get_the_same_answer(server: Server, videos: list[bytes], batches: Any) -> None:
    answers = _ask_all_four(server, videos[0], explain="maps", request_id="one")
    assert sum(items for items, _ in batches()) == len(answers) == 4
    for answer in answers:
        assert answer.envelope == answers[0].envelope
        np.testing.assert_array_equal(answer.maps_NETHW, answers[0].maps_NETHW)
    assert answers[0].maps_NETHW.shape == (1, 1, 16, 112, 112)
    assert answers[0].request_id == "one"


def test_all_four_clients_raise_what_the_server_found(server: Server, videos: list[bytes]) -> None:
    errors = _ask_all_four(server, videos[0], top_k=0)
    assert {type(error) for error in errors} == {BadOptionError}
    assert len({str(error) for error in errors}) == 1


def test_all_four_clients_know_a_deadline_that_the_batch_delay_alone_exceeds(
    server: Server, videos: list[bytes]
) -> None:
    errors = _ask_all_four(server, videos[0], deadline_ms=100)
    assert {type(error) for error in errors} == {DeadlineExceededError}


def test_all_four_clients_know_a_request_beyond_the_servers_limit(server: Server) -> None:
    limit = int(read_properties(server.run_dir / "config.properties")["max_request_size"])
    errors = _ask_all_four(server, bytes(limit + 1), max_message_bytes=2 * limit)
    assert {type(error) for error in errors} == {TooLargeError}


def test_many_files_are_answered_once(server: Server, videos: list[bytes], tmp_path: Path, batches: Any) -> None:
    paths = [tmp_path / f"{number}.mp4" for number in range(len(videos))]
    for path, video in zip(paths, videos, strict=True):
        path.write_bytes(video)
    results = tmp_path / "results.jsonl"
    given = [*map(str, paths), "--model", MODEL, "--output", str(results), "--csv", str(tmp_path / "boxes.csv")]
    first = CliRunner().invoke(main, ["predict", *given, "--url", server.url, "--concurrency", "8"])
    assert first.exit_code == 0, first.output
    assert sum(items - failed for items, failed in batches()) == len(videos)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    boxes = sum(len(explained["boxes"]) for line in lines for explained in _explained(line["reply"]))
    assert len((tmp_path / "boxes.csv").read_text().splitlines()) == 1 + boxes > len(videos)
    again = CliRunner().invoke(main, ["predict", *given, "--grpc", server.grpc_address])
    assert again.exit_code == 0, again.output
    assert sum(items - failed for items, failed in batches()) == len(videos)


def _explained(reply: Any) -> list[Any]:
    return [explained for clip in reply["clips"] for explained in clip["explanations"]]
