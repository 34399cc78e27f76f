"""The answers about many files as lines of JSON, written as they come; a run started again asks for the rest alone.

A line is {"video", "file", "asked", "reply", "error"}: the path as given; the file's size and time of change; model and
options; the envelope, null without an answer; and the error {code, message, got, allowed}, null without one.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from sum3dcam.client.batch import Outcome
from sum3dcam.client.prediction import Prediction
from sum3dcam.client.reply import read_reply
from sum3dcam.errors import BadOptionError
from sum3dcam.wire import encode_json

KEYS = ("video", "file", "asked", "reply", "error")


class Journal:
    """One such file, open for more lines. Safe to share between threads.

    Lines about `videos` that failed, or whose file has changed since, leave the file: they are to be asked for again.

    Args:
        videos: what this run is about; lines about others stay.
        asked: model and options, the same in every line.

    Raises:
        BadOptionError: the file was written by something else, or with other options, or cannot be written.
    """

    def __init__(self, path: Path, *, videos: Sequence[Path], asked: Mapping[str, Any]) -> None:
        self.path = path
        self._asked = asked
        self._states = {str(video): _state(video) for video in videos}
        self._lock = Lock()
        self._answered: set[str] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._keep_answers()
            self._file = path.open("ab")
        except OSError as error:
            raise BadOptionError(f"{path} cannot be written", got=error.strerror) from error

    def _keep_answers(self) -> None:
        if not self.path.exists():
            return
        kept = self.path.with_name(f"{self.path.name}.part")
        try:
            with kept.open("wb") as file:
                file.writelines(_encode(line) for line in _lines(self.path) if self._keeps(line))
            kept.replace(self.path)
        finally:
            kept.unlink(missing_ok=True)

    def _keeps(self, line: Mapping[str, Any]) -> bool:
        if line["asked"] != self._asked:
            raise BadOptionError(
                f"{self.path} holds answers to other options; give another file",
                got=line["asked"],
                allowed=dict(self._asked),
            )
        video = line["video"]
        if video not in self._states:
            return True
        if line["error"] is not None or line["file"] != self._states[video] or video in self._answered:
            return False
        self._answered.add(video)
        return True

    def has(self, video: Path) -> bool:
        """Whether the file holds the answer about this video."""
        return str(video) in self._answered

    def append(self, outcome: Outcome) -> None:
        """Adds a line; once this returns, an interruption does not lose it."""
        line = {
            "video": str(outcome.video),
            "file": self._states[str(outcome.video)],
            "asked": self._asked,
            "reply": None if outcome.prediction is None else outcome.envelope,
            "error": None if outcome.error is None else outcome.error.to_json(),
        }
        with self._lock:
            self._file.write(_encode(line))
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_predictions(path: Path) -> Iterator[tuple[str, Prediction]]:
    """Each video of the file that has an answer, with it.

    Raises:
        BadOptionError: the file was written by something else.
        ServerError: a reply of another contract version.
    """
    for line in _lines(path):
        if line["reply"] is not None:
            yield line["video"], read_reply(encode_json(line["reply"]))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The file's lines; the last may be half a line, which an interrupted run leaves."""
    with path.open("rb") as file:
        for raw in file:
            try:
                line = json.loads(raw)
                if not (isinstance(line, dict) and all(key in line for key in KEYS)):
                    raise ValueError(raw)
            except ValueError as error:
                if raw.endswith(b"\n"):
                    raise BadOptionError(
                        f"{path} was not written by 'sum3dcam predict --output'; give another file", got=repr(raw[:80])
                    ) from error
                return
            yield line


def _encode(line: Mapping[str, Any]) -> bytes:
    # In ASCII: a path that is not UTF-8 comes back as it was.
    return json.dumps(line, default=str).encode() + b"\n"


def _state(video: Path) -> dict[str, int] | None:
    """What tells a file from what it was before; None where there is none."""
    try:
        found = video.stat()
    except OSError:
        return None
    return {"bytes": found.st_size, "modified_ns": found.st_mtime_ns}
