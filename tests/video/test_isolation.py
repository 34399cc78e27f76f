"""Decoder processes, real ones: a file may kill one, and nothing else."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from sum3dcam.errors import (
    BadArrayError,
    DeadlineExceededError,
    DecoderCrashedError,
    EmptyBodyError,
    NoVideoFramesError,
    Sum3DCamError,
    TooLargeError,
    UnreadableMediaError,
)
from sum3dcam.video.decoder import InProcessDecoder
from sum3dcam.video.footage import DecodeLimits, FrameSpec, Video
from sum3dcam.video.isolation import pool as pool_module
from sum3dcam.video.isolation.pool import DecoderPool

Make = Callable[..., bytes]

MISBEHAVING = (sys.executable, "-P", str(Path(__file__).parent / "misbehaving.py"))
SPEC = FrameSpec(
    size_px=32, preprocessing="shorter-side-centre-crop", clip_length=4, streams=("rgb",), frames_per_second=None
)
LIMITS = DecodeLimits(max_decode_seconds=1.0, max_decode_memory_mib=256)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    """Two processes that do as files tell them, with a second and 256 MiB for each file."""
    started = DecoderPool(SPEC, limits=LIMITS, processes=2, program=MISBEHAVING)
    yield started
    started.close()


def assert_same(video: Video, expected: Video) -> None:
    np.testing.assert_array_equal(video.frames_THWC, expected.frames_THWC)
    assert video.frames_THWC.dtype == np.uint8
    assert {**vars(video), "frames_THWC": None} == {**vars(expected), "frames_THWC": None}


def wait_for(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_videos_and_errors_are_what_they_are_in_process(pool: DecoderPool, video: Make, npy: Any) -> None:
    files = [
        video(),
        video("matroska", "libx264", pts=[0, 1, 7, 9], num_frames=4),
        video("gif", "gif", pixels="rgb8"),
        video(rotation=90),
        npy(np.random.default_rng(0).integers(0, 255, (5, 40, 60, 3), np.uint8)),
        b"",
        b"text",
        video()[:-100],
        npy(np.zeros((4, 4), np.float32)),
    ]
    here = InProcessDecoder(SPEC, limits=LIMITS)
    for there, expected in zip([pool.submit(data) for data in files], map(here.submit, files), strict=True):
        error = expected.exception()
        if error is None:
            assert_same(there.result(), expected.result())
        else:
            assert isinstance(error, EmptyBodyError | UnreadableMediaError | NoVideoFramesError | BadArrayError)
            assert type(there.exception()) is type(error)
            assert there.exception().to_json() == error.to_json()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("order", "error", "says"),
    [
        (b"sleep", TooLargeError, "seconds of decoding"),
        (b"burn", TooLargeError, "seconds of decoding"),
        (b"cpu", TooLargeError, "seconds of processor time"),
        (b"allocate", TooLargeError, "256 MiB"),
        (b"abort", DecoderCrashedError, "SIGABRT"),
        (b"segfault", DecoderCrashedError, "SIGSEGV"),
    ],
)
def test_a_file_that_takes_its_process_along_gets_its_own_answer_alone(
    order: bytes, error: type[Sum3DCamError], says: str, pool: DecoderPool, video: Make
) -> None:
    pool.wait_ready()
    before = pool.pids
    good = [video(num_frames=5 + seed) for seed in range(4)]
    began = time.monotonic()
    bad, *others = [pool.submit(data) for data in (order, *good)]
    with pytest.raises(error, match=says) as caught:
        bad.result()
    assert type(caught.value) is error
    # The limit, a second's grace, up to another second of the kernel's own clock, and a busy machine.
    assert time.monotonic() - began < 8
    here = InProcessDecoder(SPEC, limits=LIMITS)
    for data, other in zip(good, others, strict=True):
        assert_same(other.result(), here.submit(data).result())
    assert len(set(before) - set(pool.pids)) == 1  # replaced, and its neighbour left alone


def test_a_process_killed_in_the_middle_of_a_file_costs_that_file_alone(pool: DecoderPool, video: Make) -> None:
    pool.wait_ready()
    before = pool.pids
    asleep = pool.submit(b"sleep")
    assert pool.submit(video()).result().num_frames == 12  # by the other process
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(DecoderCrashedError, match="SIGKILL"):
        asleep.result()
    assert pool.submit(video()).result().num_frames == 12


def test_a_process_killed_between_two_files_costs_nothing(pool: DecoderPool, video: Make) -> None:
    pool.wait_ready()
    before = pool.pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE for pid in before))
    assert [pool.submit(video()).result().num_frames for _ in range(3)] == [12, 12, 12]
    assert not set(before) & set(pool.pids)


def test_a_bug_of_ours_is_no_fault_of_the_request(pool: DecoderPool, video: Make) -> None:
    before = pool.pids
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        pool.submit(b"bug").result()
    assert len(set(before) - set(pool.pids)) == 1  # what is left of it gets no other file
    assert pool.submit(video()).result().num_frames == 12


def test_time_is_up_for_a_request_before_it_is_for_the_decoder(video: Make) -> None:
    limits = replace(LIMITS, max_decode_seconds=60.0)
    pool = DecoderPool(SPEC, limits=limits, processes=1, program=MISBEHAVING)
    try:
        pool.wait_ready()
        began = time.monotonic()
        assert isinstance(pool.submit(b"sleep", seconds_left=0.2).exception(), DeadlineExceededError)
        assert time.monotonic() - began < 20
        assert isinstance(pool.submit(video(), seconds_left=0.0).exception(), DeadlineExceededError)
        assert pool.submit(video(), seconds_left=30.0).result().num_frames == 12
    finally:
        pool.close()


def test_a_process_has_given_up_all_that_decoding_does_not_need(pool: DecoderPool) -> None:
    found = pool.submit(b"report").exception().got  # type: ignore[union-attr]
    assert found.pop("make a thread") == "done"  # codecs do
    assert found.pop("limits") == [0, 0]
    assert set(found.values()) == {"PermissionError"}, found
    held = {"limits", "no new privileges", "system calls"} | ({"nobody"} if os.geteuid() == 0 else set())
    assert set(pool.wait_ready()) == held


def test_processes_know_nothing_of_the_servers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    pool = DecoderPool(SPEC, limits=LIMITS, processes=1)
    try:
        assert "hunter2" not in Path(f"/proc/{pool.pids[0]}/environ").read_text()
    finally:
        pool.close()


def test_nothing_is_left_when_the_pool_is_closed(video: Make) -> None:
    shared_before = set(Path("/dev/shm").iterdir())
    pool = DecoderPool(SPEC, limits=LIMITS, processes=2)
    pids = pool.pids
    assert pool.submit(video()).result().num_frames == 12
    pool.close()
    pool.close()  # again does no harm
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert set(Path("/dev/shm").iterdir()) == shared_before


SERVER = """
import sys, time
from sum3dcam.video.isolation.pool import DecoderPool
from sum3dcam.video.footage import DecodeLimits, FrameSpec
spec = FrameSpec(32, "squash", 4, ("rgb",), None)
pool = DecoderPool(spec, limits=DecodeLimits(), processes=2, program=sys.argv[1:])
pool.wait_ready()
asleep = pool.submit(b"sleep", seconds_left=1.0)
print(*pool.pids, flush=True)
time.sleep(float(sys.stdin.readline()))
"""


@pytest.mark.parametrize("ending", ["killed", "by itself"])
def test_nothing_is_left_when_the_server_ends(ending: str) -> None:
    path = os.pathsep.join(folder for folder in sys.path if folder)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, *MISBEHAVING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        pids = [int(pid) for pid in server.stdout.readline().split()]
        assert len(pids) == 2
        if ending == "killed":
            server.kill()
        else:
            server.stdin.write("0\n")
            server.stdin.flush()
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_process_is_renewed_after_its_share_of_files(monkeypatch: pytest.MonkeyPatch, video: Make) -> None:
    monkeypatch.setattr(pool_module, "FILES_PER_PROCESS", 2)
    pool = DecoderPool(SPEC, limits=LIMITS, processes=1)
    try:
        pids = []
        for _ in range(3):
            assert pool.submit(video()).result().num_frames == 12
            pids += pool.pids
        assert pids[0] != pids[1] == pids[2]
    finally:
        pool.close()


def test_arrays_need_a_process_only_where_flow_is_computed(npy: Any) -> None:
    frames = npy(np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8))
    program = (sys.executable, "-c", "raise SystemExit(3)")
    results: dict[str, Future[Video]] = {}
    for stream in ("rgb", "flow"):
        pool = DecoderPool(replace(SPEC, streams=(stream,)), limits=LIMITS, processes=1, program=program)
        results[stream] = pool.submit(frames)
        results[stream].exception()
        pool.close()
    assert results["rgb"].result().num_frames == 4
    with pytest.raises(RuntimeError, match="does not start"):
        results["flow"].result()


@pytest.mark.parametrize("answer", ["garbage", "endless", "another"])
def test_what_a_process_says_is_not_believed(answer: str, video: Make) -> None:
    said = {
        "garbage": "s.sendall(struct.pack('<QQ', 3, 0) + b'{]}')",
        "endless": "s.sendall(struct.pack('<QQ', 2, 1 << 60) + b'{}')",
        "another": "send(s, {'video': {}}, payload=b'x')",
    }[answer]
    program = f"""
import socket, struct, sys
from sum3dcam.video.isolation.messages import receive, send
s = socket.socket(fileno=int(sys.argv[1]))
receive(s, max_fields_bytes=1 << 20, max_payload_bytes=0)
send(s, {{"held": []}})
receive(s, max_fields_bytes=1 << 20, max_payload_bytes=1 << 20)
{said}
s.recv(1)
"""
    pool = DecoderPool(SPEC, limits=LIMITS, processes=1, program=(sys.executable, "-c", program))
    try:
        error = pool.submit(video()).exception()
        # Never a video; the server says "internal" to what is none of the request's errors.
        assert isinstance(error, DecoderCrashedError if answer != "another" else KeyError)
    finally:
        pool.close()


def subtitled() -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        file.add_stream("ass")
        for _ in range(12):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8), "rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()


def test_codecs_that_the_warm_up_does_not_use_need_no_file(pool: DecoderPool, video: Make) -> None:
    # Each codec, scaler and error is met for the first time after files can no longer be opened.
    assert pool.submit(video(with_audio=True)).result().num_frames == 12
    assert pool.submit(subtitled()).result().num_frames == 12
    for container, codec, pixels in (("webm", "libvpx-vp9", "yuv420p"), ("mov", "mjpeg", "yuvj420p")):
        assert pool.submit(video(container, codec, pixels=pixels)).result().num_frames == 12
