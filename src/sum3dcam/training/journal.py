"""What a training leaves to look at while it runs: log.jsonl, curve.png, and events that TensorBoard reads."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sum3dcam.training.curve import draw_curve
from sum3dcam.training.machine import Machine
from sum3dcam.training.stages import Stage

LOG = "log.jsonl"

# Keys of a row that are curves in TensorBoard.
CURVES = ("loss", "accuracy", "held_out_accuracy", "learning_rate", "gradient_norm", "clips_per_second")


class Journal:
    """Writes rows, `directory`/log.jsonl among them; made by `open_journal`."""

    def __init__(self, directory: Path, *, stages: Sequence[Stage], events: Any) -> None:
        self._directory, self._stages, self._events = directory, stages, events

    def note(self, row: Mapping[str, Any]) -> None:
        """One step's figures."""
        if self._events is not None:
            for key in CURVES:
                if key in row:
                    self._events.add_scalar(key, row[key], row["step"])

    def keep(self, row: Mapping[str, Any]) -> None:
        """One step's figures for the log and the curve as well."""
        self.note(row)
        log = self._directory / LOG
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")
        draw_curve(log, stages=self._stages, path=self._directory / "curve.png")

    def flush(self) -> None:
        """Returns once every event is in its file."""
        if self._events is not None:
            self._events.flush()


@contextmanager
def open_journal(directory: Path, *, stages: Sequence[Stage], done: int, machine: Machine) -> Iterator[Journal | None]:
    """The journal of the first process; None in the others.

    Rows and events behind step `done`, which an interruption left, are dropped. Events are written where the package
    tensorboard is installed.
    """
    if not machine.is_first:
        yield None
        return
    rows = [row for row in _read_rows(directory / LOG) if done and row["step"] <= done]
    _replace(directory / LOG, "".join(json.dumps(row) + "\n" for row in rows))
    if find_spec("tensorboard") is None:
        yield Journal(directory, stages=stages, events=None)
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(directory / "events"), purge_step=done + 1 if done else 0) as events:
        yield Journal(directory, stages=stages, events=events)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a log whose last line may be half written."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def _replace(path: Path, text: str) -> None:
    partial_path = path.with_suffix(".partial")
    partial_path.write_text(text)
    partial_path.replace(path)
