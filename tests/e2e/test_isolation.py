"""Decoding under a real TorchServe: in processes that its worker has started, and that may die."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil

from sum3dcam.serving import readiness
from sum3dcam.serving.torchserve import Server

NOBODY = 65534


def decoders(server: Server) -> list[psutil.Process]:
    family = psutil.Process(server.pid).children(recursive=True)
    return [process for process in family if "sum3dcam.video.isolation.process" in process.cmdline()]


def test_the_worker_has_its_decoders_and_they_have_no_rights(server: Server) -> None:
    found = decoders(server)
    assert len(found) == 2
    if os.geteuid() == 0:
        assert {process.uids().real for process in found} == {NOBODY}
    log = (server.log_dir / "worker.log").read_text()
    assert "held=limits" in log


def test_decoders_killed_in_the_middle_of_a_file_cost_that_answer_alone(
    server: Server, videos: list[bytes], http: Any, grpc_send: Any, npy_of: Any
) -> None:
    before = http(videos[0], {}).body
    clip = npy_of(videos[0])  # needs no decoder
    beside = http(clip, {}).body
    workers = readiness.workers(server)
    for send in (http, grpc_send):
        victims = decoders(server)
        for victim in victims:
            victim.suspend()
        with ThreadPoolExecutor(2) as pool:
            asked, neighbour = (pool.submit(send, data, {}) for data in (videos[0], clip))
            time.sleep(2.0)  # well within the batch's delay and into the file
            for victim in victims:
                os.kill(victim.pid, signal.SIGKILL)
            reply = asked.result()
        assert json.loads(reply.body)["error"]["code"] == "decoder_crashed"
        assert neighbour.result().body == beside
        assert http(videos[0], {}).body == before
        assert len(decoders(server)) == 2
    assert readiness.workers(server) == workers
