"""How long requests wait in TorchServe before a worker gets them, which no worker is told.

TorchServe's own metrics have it in whole milliseconds, without the transport and without a useful histogram; but it
logs two durations of each request that it has answered. log4j2.xml writes these to a file, which is read here.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from prometheus_client import CollectorRegistry, Metric

from sum3dcam.serving.metrics import QUEUE, TOTAL, stage_histogram

_LINE = re.compile(r"(RestJob|GRPCJob) W-\d+-(.+)_[^_]+ Waiting time ns: (\d+), Backend time ns: (\d+)\n")
_TRANSPORTS = {"RestJob": "http", "GRPCJob": "grpc"}
_NANOSECONDS = 1e-9


class FrontEnd:
    """A Prometheus collector that reads what the log has to add whenever it is asked.

    The log need not be there yet, and is kept small by renaming it (log4j's RollingFile), once at most between two
    questions. It stays open until `close`.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._file: BinaryIO | None = None
        self._lock = Lock()
        self._registry = CollectorRegistry()
        self._queue, self._total = (stage_histogram(stage, registry=self._registry) for stage in (QUEUE, TOTAL))

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            for line in self._new_lines():
                self._observe(line)
        return self._registry.collect()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _observe(self, line: str) -> None:
        match = _LINE.fullmatch(line)
        if match is None:
            return
        job, model, waiting, backend = match.groups()
        for histogram, nanoseconds in ((self._queue, int(waiting)), (self._total, int(waiting) + int(backend))):
            histogram.labels(model, _TRANSPORTS[job]).observe(nanoseconds * _NANOSECONDS)

    def _new_lines(self) -> Iterator[str]:
        """The lines since the last call: of the file that was the log then, and of the one that is now."""
        if self._file is not None:
            renamed = not self._is_log(self._file)
            yield from _whole_lines(self._file)
            if not renamed:
                return
            self.close()
        with suppress(FileNotFoundError):
            self._file = self._log.open("rb")
            yield from _whole_lines(self._file)

    def _is_log(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._log.stat())
        except FileNotFoundError:  # in the middle of being renamed; the next question finds out
            return True


def _whole_lines(file: BinaryIO) -> Iterator[str]:
    """The lines from here on; the file stays before one that is still being written."""
    while True:
        place = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(place)
            return
        yield line.decode(errors="replace")
