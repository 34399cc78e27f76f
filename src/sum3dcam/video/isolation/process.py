"""A decoder process: `python -m sum3dcam.video.isolation.process FD` answers over that socket until it is closed.

Its first message is {spec, limits}, its first answer {held}: what it has given up. Then each message {seconds_left}
with a file's bytes is answered with {video} and the frames' bytes, with {error}, or, for a fault of ours, with {bug}.
"""

import importlib
import os
import pkgutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from sum3dcam.errors import RequestError
from sum3dcam.video.decode import decode
from sum3dcam.video.footage import DecodeLimits, FrameSpec, Video
from sum3dcam.video.isolation.messages import receive, send
from sum3dcam.video.isolation.sandbox import confine, limit_cpu

Decode = Callable[..., Video]

# The exit code that says so.
OUT_OF_MEMORY = 77
# What the server waits beyond a limit before it kills: a decoder that can still answer says more.
GRACE_SECONDS = 1.0
MIB = 2**20
_MAX_TRACEBACK_CHARACTERS = 10_000

# One black pixel: loads what the first file would, while files can be opened.
_WARM_UP_GIF = bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b")


def serve(server: socket.socket, *, decode: Decode = decode) -> None:
    """Answers until the server closes the socket."""
    fields, _ = receive(server, max_fields_bytes=MIB, max_payload_bytes=0)
    limits = DecodeLimits(**fields["limits"])
    run = partial(decode, limits=limits, **fields["spec"])
    _load_modules()
    for data in (_WARM_UP_GIF, b"no media"):
        _answer(run, data)
    send(server, {"held": confine(memory_bytes=limits.max_decode_memory_mib * MIB)})
    while True:
        try:
            fields, payload = receive(server, max_fields_bytes=MIB, max_payload_bytes=limits.max_bytes)
        except (EOFError, ConnectionError):
            return
        seconds = min(limits.max_decode_seconds, fields["seconds_left"])
        limit_cpu(seconds=seconds + GRACE_SECONDS)
        # Should the server be gone, nobody else would stop this.
        signal.setitimer(signal.ITIMER_REAL, seconds + 2 * GRACE_SECONDS)
        try:
            answer, frames = _answer(run, payload.tobytes(), seconds_left=fields["seconds_left"])
        except Exception:
            send(server, {"bug": traceback.format_exc()[-_MAX_TRACEBACK_CHARACTERS:]})
            raise
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            send(server, answer, payload=frames.data)
        except ConnectionError:
            return


def _load_modules() -> None:
    """All of PyAV, which would import some of itself when a file calls for it: subtitles, for one."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in ("av.__main__", "av.datasets"):  # programs and downloads
            importlib.import_module(module.name)


def _answer(run: Decode, data: bytes, **options: Any) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    try:
        video = run(data, **options)
    except RequestError as error:
        return {"error": error.to_json()}, np.empty(0, np.uint8)
    except MemoryError:
        # What is left of it is in pieces: a new process starts with all of it.
        os._exit(OUT_OF_MEMORY)
    fields = {**vars(video), "frames_THWC": video.frames_THWC.shape, "geometry": asdict(video.geometry)}
    return {"video": fields}, np.ascontiguousarray(video.frames_THWC).reshape(-1)


def setup(spec: FrameSpec, *, limits: DecodeLimits) -> dict[str, Any]:
    """The first message."""
    return {"spec": asdict(spec), "limits": asdict(limits)}


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as server:
        serve(server)
