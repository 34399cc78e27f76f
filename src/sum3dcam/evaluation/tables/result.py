"""From pooled counts to a table's rows: measured shares with intervals, beside what the paper printed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from sum3dcam.evaluation.kinds import TRIVIAL
from sum3dcam.evaluation.statistics import Estimate, pooled_estimate
from sum3dcam.evaluation.tables.accuracy import MOST_FREQUENT
from sum3dcam.evaluation.tables.run import Pooled
from sum3dcam.evaluation.tables.specs import (
    CLIP_ACCURACY,
    MEAN,
    VIDEO_ACCURACY,
    AccuracyTable,
    Column,
    Figures,
    LocalisationTable,
)

Float64s = npt.NDArray[np.float64]

SERVED, ONE_THRESHOLD, ORACLE, BOX, MEASURED = "served box", "one threshold", "oracle", "box", "measured"
MODEL = "model"

# Line -> the count that takes the place of `box` in it. A sweep is over thresholds, of which the best ONE is taken.
_LINES: Mapping[str, str] = MappingProxyType({SERVED: "box", ONE_THRESHOLD: "sweep", ORACLE: "oracle"})


@dataclass(frozen=True)
class Line:
    """One way to measure a row; a column that was not measured is left out."""

    name: str
    values: Mapping[str, Estimate]


@dataclass(frozen=True)
class ResultRow:
    """A row; without lines it was not measured."""

    name: str
    family: str
    lines: tuple[Line, ...]
    paper: Figures


@dataclass(frozen=True)
class Result:
    """A table. `accuracy` is that of the network whose maps it compares; `counts` are of videos, clips and frames, as
    far as they were counted."""

    number: int
    title: str
    columns: tuple[str, ...]
    rows: tuple[ResultRow, ...]
    notes: tuple[str, ...]
    counts: Mapping[str, int]
    accuracy: Mapping[str, Estimate]


def localisation_result(number: int, table: LocalisationTable, pooled: Pooled, *, trivial: Sequence[str]) -> Result:
    """Every row of the table, those that were not counted without lines, then the trivial boxes."""
    names = [column.name for column in table.columns]
    columns = (*names, MEAN) if _has_mean(table) else tuple(names)
    rows = [
        ResultRow(row.name, row.family, _lines(row.name, table, pooled, lines=_LINES), table.paper.get(row.name, {}))
        for row in table.rows
    ]
    rows += [ResultRow(name, TRIVIAL, _lines(name, table, pooled, lines={BOX: "box"}), {}) for name in trivial]
    rows += [ResultRow(row.name, "reference", (), row.paper) for row in table.references]
    return Result(
        number=number,
        title=table.title,
        columns=columns,
        rows=tuple(rows),
        notes=table.notes,
        counts=_counts(pooled),
        accuracy=_accuracy(pooled) if "clips" in pooled else {},
    )


def accuracy_result(number: int, table: AccuracyTable, pooled: Mapping[str, Pooled]) -> Result:
    """A row for each network, measured where `pooled` has it, then the most frequent class."""
    rows = [
        ResultRow(
            row.name,
            MODEL,
            (Line(MEASURED, _accuracy(pooled[row.name])),) if row.name in pooled else (),
            table.paper.get(row.name, {}),
        )
        for row in table.rows
    ]
    one = next(iter(pooled.values()))
    rows.append(ResultRow(MOST_FREQUENT, TRIVIAL, (Line(MEASURED, _accuracy(one, prefix=f"{MOST_FREQUENT}/")),), {}))
    columns = tuple(column.name for column in table.columns)
    return Result(number, table.title, columns, tuple(rows), table.notes, _counts(one), {})


def _counts(pooled: Pooled) -> dict[str, int]:
    return {name: int(pooled[name][0]) for name in ("videos", "clips", "frames") if name in pooled}


def _accuracy(pooled: Pooled, *, prefix: str = "") -> dict[str, Estimate]:
    shares = {CLIP_ACCURACY: ("clips_right", "clips"), VIDEO_ACCURACY: ("video_right", "videos")}
    return {
        name: pooled_estimate(_share(pooled[f"{prefix}{right}"], pooled[total]))
        for name, (right, total) in shares.items()
    }


def _has_mean(table: LocalisationTable) -> bool:
    return len(table.columns) > 2


def _lines(row: str, table: LocalisationTable, pooled: Pooled, *, lines: Mapping[str, str]) -> tuple[Line, ...]:
    if not any(name.startswith(f"{row}/") for name in pooled):
        return ()
    # Hit points are of one box alone.
    lines = lines if table.thetas else dict(list(lines.items())[:1])
    made = []
    for name, count in lines.items():
        shares = {
            column.name: share_R
            for column in table.columns
            if (share_R := _column(f"{row}/", column, pooled, count=count)) is not None
        }
        if _has_mean(table):
            shares[MEAN] = np.mean(list(shares.values()), axis=0)
        made.append(Line(name, {column: pooled_estimate(share_R) for column, share_R in shares.items()}))
    return tuple(made)


def _column(prefix: str, column: Column, pooled: Pooled, *, count: str) -> Float64s | None:
    """Shares of frames (1+R,); None where it was not counted."""
    name = f"{prefix}{column.count.replace('box', count)}"
    if name not in pooled:
        return None
    share = _share(pooled[name], pooled["frames"])
    if column.theta is not None:
        share = share[..., column.theta]
    # What is left of a sweep are its thresholds: the best one, chosen anew in every resample.
    return share.max(axis=1) if share.ndim == 2 else share


def _share(right: Float64s, total_R: Float64s) -> Float64s:
    total = total_R.reshape(-1, *[1] * (right.ndim - 1))
    share: Float64s = np.divide(right, total, out=np.full_like(right, np.nan), where=total > 0)
    return share
