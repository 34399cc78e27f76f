"""A server's decoder processes: started once, used again and again, replaced when a file has killed one."""

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam.contract import STREAM_CHANNELS
from sum3dcam.errors import DecoderCrashedError, RequestError, TooLargeError, from_json
from sum3dcam.video.array import MAGIC
from sum3dcam.video.decode import decode
from sum3dcam.video.footage import DecodeLimits, FrameSpec, Video, too_late
from sum3dcam.video.geometry import Geometry
from sum3dcam.video.isolation.messages import receive, send
from sum3dcam.video.isolation.process import GRACE_SECONDS, OUT_OF_MEMORY, setup

logger = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-P", "-m", "sum3dcam.video.isolation.process")
# Importing takes half a second; the rest is for a busy machine.
START_SECONDS = 60.0
# Whatever a codec has leaked is gone after that many files.
FILES_PER_PROCESS = 1000
# A process that has closed its socket is given this long to end by itself, so that it can be said why it did.
_END_SECONDS = 0.5

# What the process inherits of the environment; no secrets. Each has one thread: files are decoded side by side.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "PYTHONHOME")
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}


class DecoderPool:
    """A `Decoder` of which every file has at most one process and `limits` to itself.

    A file that kills its process, or overruns, costs nothing but its own answer. Arrays of an RGB network need no
    parser but the header's and no codec: they are read here, on the pool's threads.

    Args:
        program: starts a decoder process; its last argument will be the number of its socket.
    """

    def __init__(
        self, spec: FrameSpec, *, limits: DecodeLimits, processes: int, program: Sequence[str] = PROGRAM
    ) -> None:
        self._spec, self._limits = spec, limits
        self._all = [_Process(spec, limits=limits, program=program) for _ in range(processes)]
        # As many threads as processes: a thread never waits for one.
        self._free: SimpleQueue[_Process] = SimpleQueue()
        for process in self._all:
            self._free.put(process)
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decode")
        self._close = weakref.finalize(self, _close, self._threads, self._all)

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(process.pid for process in self._all)

    def wait_ready(self) -> tuple[str, ...]:
        """Waits until every process can decode; what all of them have given up, as `sandbox.confine` says it.

        Raises:
            RuntimeError: one does not start.
        """
        held = [process.wait_ready() for process in self._all]
        return tuple(name for name in held[0] if all(name in one for one in held))

    def submit(self, data: bytes, *, seconds_left: float = math.inf) -> Future[Video]:
        return self._threads.submit(self._decode, data, deadline=time.monotonic() + seconds_left)

    def close(self) -> None:
        """Ends all processes, after what they are decoding; also done when the pool or the program ends."""
        self._close()

    def _decode(self, data: bytes, *, deadline: float) -> Video:
        if data.startswith(MAGIC) and tuple(self._spec.streams) == ("rgb",):
            seconds_left = deadline - time.monotonic()
            return decode(data, limits=self._limits, seconds_left=seconds_left, **vars(self._spec))
        process = self._free.get()
        try:
            return process.decode(data, deadline=deadline)
        finally:
            self._free.put(process)


def _close(threads: ThreadPoolExecutor, processes: Sequence["_Process"]) -> None:
    threads.shutdown(wait=True, cancel_futures=True)
    for process in processes:
        process.end()


class _Process:
    """One decoder process after another, each over a socket of its own."""

    def __init__(self, spec: FrameSpec, *, limits: DecodeLimits, program: Sequence[str]) -> None:
        self._spec, self._limits, self._program = spec, limits, program
        self._start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def _start(self) -> None:
        self._held: list[str] | None = None
        self._num_files = 0
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._popen = subprocess.Popen(
                [*self._program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # a server may parse its own; what stderr says belongs in its log
                env=_environment(os.environ),
            )
        send(self._socket, setup(self._spec, limits=self._limits))

    def wait_ready(self) -> list[str]:
        if self._held is None:
            try:
                fields, _ = receive(
                    self._socket,
                    max_fields_bytes=_FIELDS_BYTES,
                    max_payload_bytes=0,
                    deadline=time.monotonic() + START_SECONDS,
                )
            except (EOFError, OSError) as error:
                raise RuntimeError(f"a decoder process does not start (exit code {self.end()})") from error
            self._held = list(fields["held"])
        return self._held

    def end(self) -> int:
        """Kills it unless it has ended; its exit code, the negative signal where one killed it."""
        self._popen.kill()
        self._socket.close()
        return self._popen.wait()

    def decode(self, data: bytes, *, deadline: float) -> Video:
        if self._popen.poll() is not None:  # killed while nobody asked: not this file's doing
            self._replace()
        self.wait_ready()
        began = time.monotonic()
        if began >= deadline:
            raise too_late()
        seconds = min(self._limits.max_decode_seconds, deadline - began)
        self._num_files += 1
        try:
            fields, frames = self._ask(data, seconds_left=deadline - began, deadline=began + seconds + GRACE_SECONDS)
        except TimeoutError as error:
            self._replace()
            raise _overrun(self._limits) if deadline - began > seconds else too_late() from error
        except (EOFError, ConnectionError) as error:
            raise self._bury() from error
        if "bug" in fields or self._num_files >= FILES_PER_PROCESS:
            self._replace()
        if "bug" in fields:
            raise RuntimeError(f"decoding failed in its process: {fields['bug']}")
        if "error" in fields:
            raise _known(fields["error"])
        return _video(fields["video"], frames=frames, spec=self._spec)

    def _ask(self, data: bytes, *, seconds_left: float, deadline: float) -> tuple[dict[str, Any], NDArray[np.uint8]]:
        size_px, limits = self._spec.size_px, self._limits
        channels = sum(STREAM_CHANNELS[stream] for stream in self._spec.streams)
        send(self._socket, {"seconds_left": seconds_left}, payload=data, deadline=deadline)
        return receive(
            self._socket,
            max_fields_bytes=_FIELDS_BYTES + limits.max_frames * _FRAME_FIELDS_BYTES,
            max_payload_bytes=limits.max_frames * size_px * size_px * channels,
            deadline=deadline,
        )

    def _replace(self) -> None:
        self.end()
        self._start()

    def _bury(self) -> Exception:
        """Replaces the process that has closed its socket; the error that says why it did."""
        with suppress(subprocess.TimeoutExpired):  # alive and silent: end() kills it
            self._popen.wait(_END_SECONDS)
        pid, code = self.pid, self.end()
        logger.warning("decoder process %d ended with %d on a file; replaced", pid, code)
        self._start()
        return _cause_of_death(code, limits=self._limits)


_FIELDS_BYTES = 1 << 16
_FRAME_FIELDS_BYTES = 64  # a frame's number and its time


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    path = os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path if folder)
    return {name: ours[name] for name in _ENVIRONMENT if name in ours} | _THREADS | {"PYTHONPATH": path}


def _cause_of_death(code: int, *, limits: DecodeLimits) -> Exception:
    if code == OUT_OF_MEMORY:
        return TooLargeError(
            "decoding takes more memory than the server allows; send fewer or smaller frames",
            allowed=f"{limits.max_decode_memory_mib} MiB",
        )
    if code == -signal.SIGXCPU:
        return _overrun(limits, what="seconds of processor time for decoding are")
    if code == -signal.SIGALRM:
        return _overrun(limits)
    if code >= 0:
        return RuntimeError(f"a decoder process ended by itself, with exit code {code}")
    return DecoderCrashedError(
        "the decoder crashed on this file, so that it is damaged or made to do so; encode it anew and send that",
        got=signal.Signals(-code).name,
    )


def _overrun(limits: DecodeLimits, *, what: str = "seconds of decoding are") -> RequestError:
    return TooLargeError(f"{what} beyond the server's limit; send less", allowed=limits.max_decode_seconds)


def _known(error: Mapping[str, Any]) -> Exception:
    known = from_json(error)
    return known if isinstance(known, RequestError) else RuntimeError(f"a decoder process sent {error!r:.200}")


def _video(fields: Mapping[str, Any], *, frames: NDArray[np.uint8], spec: FrameSpec) -> Video:
    """The video as it was in the process; whatever else comes raises ValueError, KeyError or TypeError."""
    channels = sum(STREAM_CHANNELS[stream] for stream in spec.streams)
    times, duration, fps = fields["time_seconds"], fields["duration_seconds"], fields["fps"]
    video = Video(
        frames_THWC=frames.reshape(-1, spec.size_px, spec.size_px, channels),
        geometry=Geometry(**{name: int(value) for name, value in fields["geometry"].items()}),
        source_frames=tuple(int(index) for index in fields["source_frames"]),
        num_source_frames=int(fields["num_source_frames"]),
        time_seconds=None if times is None else tuple(float(seconds) for seconds in times),
        fps=None if fps is None else float(fps),
        duration_seconds=None if duration is None else float(duration),
    )
    if len(video.source_frames) != video.num_frames or (times and len(times) != video.num_source_frames):
        raise ValueError("a decoder process answered with lists of another length than its frames")
    return video
