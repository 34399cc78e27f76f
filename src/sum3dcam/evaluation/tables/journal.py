"""Counts per video as lines of JSON, written as they come, so that a run that was killed goes on where it stopped.

The first line says what is counted: artefact, table, protocol, videos. Every other is {"key", "counts"}, in the order
of the videos.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Counts: TypeAlias = Mapping[str, npt.NDArray[np.int64]]

FORMAT = "sum3dcam-table-counts"
VERSION = 1


def keys_digest(keys: Sequence[str]) -> str:
    """SHA-256 of the videos' keys in their order."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def journal_path(folder: Path, *, head: Mapping[str, Any]) -> Path:
    """Where a run of that head is kept: another artefact, protocol or choice of videos has another file."""
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()
    return folder / f"table{head['table']}-{digest[:12]}.jsonl"


class Journal:
    """One such file, open for more lines; `num_done` of `keys`, the first ones, are in it.

    Raises:
        ValueError: the file was written by something else, about something else, or is being written by another run.
    """

    def __init__(self, path: Path, *, head: Mapping[str, Any], keys: Sequence[str]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            self._lock()
            self.num_done = self._resume({"format": FORMAT, "version": VERSION, **head}, keys=keys)
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it if the process dies
        except OSError as error:
            raise ValueError(f"{self.path} is being written by another run; wait for it") from error

    def _resume(self, head: Mapping[str, Any], *, keys: Sequence[str]) -> int:
        self._file.seek(0)
        whole = done = 0
        for number, raw in enumerate(self._file):
            if not raw.endswith(b"\n"):
                break  # half a line: the run was killed while it wrote it
            if number == 0:
                self._check_head(raw, head=head)
            elif done == len(keys) or _parse(raw, path=self.path)["key"] != keys[done]:
                raise ValueError(f"line {number + 1} of {self.path} is about another video than expected; move it away")
            else:
                done += 1
            whole += len(raw)
        self._file.truncate(whole)
        self._file.seek(whole)
        if whole == 0:
            self._write(head)
        return done

    def _check_head(self, raw: bytes, *, head: Mapping[str, Any]) -> None:
        found = _parse(raw, path=self.path)
        wanted = json.loads(json.dumps(head))
        if found != wanted:
            other = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            raise ValueError(f"{self.path} holds counts of another run ({', '.join(other)} differ); give another file")

    def append(self, key: str, counts: Counts) -> None:
        """Adds a video; once this returns, the death of the process does not lose it."""
        self._write({"key": key, "counts": {name: values.tolist() for name, values in counts.items()}})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_counts(path: Path) -> Iterator[Counts]:
    """The counts of each video, one at a time."""
    with path.open("rb") as file:
        next(file)
        for raw in file:
            yield {name: np.asarray(values, np.int64) for name, values in json.loads(raw)["counts"].items()}


def _parse(raw: bytes, *, path: Path) -> dict[str, Any]:
    try:
        line = json.loads(raw)
    except ValueError as error:
        raise ValueError(f"{path} was not written by 'sum3dcam evaluate --table'; give another file") from error
    if not isinstance(line, dict) or ("key" not in line and "format" not in line):
        raise ValueError(f"{path} was not written by 'sum3dcam evaluate --table'; give another file")
    return line
