"""A decoder process that does what some files tell it to, as a codec would that has been taken over."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sum3dcam.errors import UnreadableMediaError
from sum3dcam.video.decode import decode
from sum3dcam.video.isolation.process import serve
from sum3dcam.video.isolation.sandbox import limit_cpu

SERVER = os.getppid()


def allocate() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(1 << 24))


def burn() -> None:
    while True:
        pass


def use_up_its_processor_time() -> None:
    limit_cpu(seconds=0)
    burn()


def attempt(action: Any) -> str:
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"


def report() -> None:
    """What the process could still do, as an error's `got`."""
    threads: list[str] = []
    thread = threading.Thread(target=threads.append, args=("done",))
    thread.start()
    thread.join()
    tried = {
        "read a file": lambda: Path(__file__).read_bytes(),
        "write a file": lambda: Path("/tmp/sum3dcam-was-here").write_bytes(b"x"),
        "remove a file": lambda: Path("/tmp/sum3dcam-is-not-here").unlink(),
        "open a socket": lambda: socket.socket().close(),
        "fork": os.fork,
        "run a program": lambda: subprocess.run(["true"], check=False),
        "kill its server": lambda: os.kill(SERVER, signal.SIGKILL),
        "limit its server": lambda: resource.prlimit(SERVER, resource.RLIMIT_CPU, (1, 1)),
        "signal its server's thread": lambda: tgkill(SERVER),
    }
    found = {name: attempt(action) for name, action in tried.items()}
    found["make a thread"] = "".join(threads)
    found["limits"] = [resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)]
    raise UnreadableMediaError("report", got=found)


def tgkill(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(234 if os.uname().machine == "x86_64" else 131), pid, pid, signal.SIGUSR1):
        raise OSError(ctypes.get_errno(), "tgkill")


ORDERS = {
    b"sleep": lambda: time.sleep(60),
    b"burn": burn,
    b"cpu": use_up_its_processor_time,
    b"allocate": allocate,
    b"abort": os.abort,
    b"segfault": lambda: ctypes.string_at(0),
    b"bug": lambda: {}["a bug"],
    b"report": report,
}


def obey(data: bytes, **options: Any) -> Any:
    if data in ORDERS:
        ORDERS[data]()
    return decode(data, **options)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as server:
        serve(server, decode=obey)
