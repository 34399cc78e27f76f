"""Whether a worker is at a batch, which TorchServe does not tell: a lock, which the kernel takes back if it dies."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def occupied() -> Iterator[None]:
    """Marks this process as being at a batch, until the end of the block."""
    path = _path(Path(tempfile.gettempdir()), pid=os.getpid())
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink()


def is_busy(temp_dir: Path, *, pid: int) -> bool:
    """Whether this worker of the server with this TMPDIR is at a batch."""
    try:
        with _path(temp_dir, pid=pid).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _path(temp_dir: Path, *, pid: int) -> Path:
    return temp_dir / f"busy-{pid}.lock"
