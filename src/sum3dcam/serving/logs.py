"""Log lines as JSON objects, one a line, without what an error's message may quote of a user's data."""

import json
import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from traceback import extract_tb
from typing import Any, TextIO

# The attribute of a log record that holds a line's own fields: logger.info("event", extra={FIELDS: {...}}).
FIELDS = "fields"
_LAST_FRAMES = 12


def log_as_json(name: str, *, stream: TextIO = sys.stdout) -> None:
    """From now on that logger and those below it write JSON to the stream, and nowhere else."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger(name)
    logger.handlers = [handler]
    logger.propagate = False


class JsonLines(logging.Formatter):
    """A record as one JSON object: time (UTC), level, logger, pid, event, and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "event": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= _failure(record.exc_info[1])
        return json.dumps(line)


def _failure(error: BaseException) -> dict[str, Any]:
    """The error's kind and where it was raised; its message stays untold."""
    frames = extract_tb(error.__traceback__)[-_LAST_FRAMES:]
    return {
        "failure": type(error).__qualname__,
        "stack": [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames],
    }
