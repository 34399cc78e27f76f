"""The certificate of an exported graph: how near each engine at hand comes to float64 autograd, on the same clips.

A row is a plain mapping, for it travels in the card: engine, provider, versions, hardware and clips; the figures of
`parity.compare`; how far the boxes agree; seconds for one clip; whether it passed, and the reason where it did not.
"""

import math
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sum3dcam.attribution.boxes import BoxXYXY, box_iou, find_boxes
from sum3dcam.contract import EAGER, SALIENCY, Card
from sum3dcam.errors import ParityError
from sum3dcam.export.parity import BATCH_SIZES, Arrays, Reference, compare
from sum3dcam.export.runners import Run, Runner
from sum3dcam.hardware import processor

Row = Mapping[str, Any]

# Of one clip at a time, the first of them to warm up.
TIMED_RUNS = 6


def certify(runners: Iterable[Runner], *, card: Card, reference: Reference) -> tuple[Row, ...]:
    """A row for each engine, in their order, and at last eager float32's, beside which the others are held.

    An engine that fails has a row that says so: the caller decides which of them must pass.
    """
    rows = []
    for runner in runners:
        try:
            answers, clip_seconds = _answers(runner, reference)
            figures, misses = _measure(answers, reference)
            figures["clip_seconds"] = clip_seconds
        except ParityError as error:
            figures, misses = {}, [error]
        facts = {"engine": runner.engine, "provider": runner.provider, "versions": runner.versions}
        rows.append(_row(facts, runner.hardware, figures, misses, reference=reference))
    figures, misses = _measure({name: reference.eager[name] for name in card.outputs}, reference)
    facts = {"engine": EAGER, "provider": "cpu", "versions": f"torch {torch.__version__}"}
    return (*rows, _row(facts, processor(), figures, misses, reference=reference))


def box_agreement(maps_NTHW: npt.NDArray[Any], oracle_NTHW: npt.NDArray[Any]) -> dict[str, float]:
    """Mean and least IoU of the boxes that a server finds by default, over the frames where either map has one."""
    ious = []
    for map_THW, oracle_THW in zip(maps_NTHW, oracle_NTHW, strict=True):
        ours, oracles = _boxes(map_THW), _boxes(oracle_THW)
        for frame in ours.keys() | oracles.keys():
            found = frame in ours and frame in oracles
            ious.append(float(box_iou(ours[frame], oracles[frame]).item()) if found else 0.0)
    return {"box_iou_mean": float(np.mean(ious)), "box_iou_min": min(ious)} if ious else {}


def _boxes(map_THW: npt.NDArray[Any]) -> dict[int, BoxXYXY]:
    found = find_boxes(map_THW.astype(np.float32), threshold=None, box_mode="union")
    return {box.frame: box.box_xyxy for box in found}


def _answers(runner: Runner, reference: Reference) -> tuple[dict[str, npt.NDArray[Any]], float]:
    """The engine's answers to all clips, in batches of several sizes; and its seconds for one clip.

    Raises:
        ParityError: it cannot load or run the graph.
    """
    answers: list[Arrays] = []
    ends = np.cumsum(BATCH_SIZES)[:-1]
    try:
        run = runner.load()
        for clips, targets in zip(
            np.split(reference.clips_NTHWC, ends), np.split(reference.targets_N, ends), strict=True
        ):
            answers.append(run(clips, targets))
        together = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        return together, _clip_seconds(run, reference)
    except Exception as error:
        raise ParityError("cannot run the graph", got=str(error)) from error


def _clip_seconds(run: Run, reference: Reference) -> float:
    """The median: on a busy machine it errs, but all engines of a file are timed one after the other."""
    seconds = []
    for _ in range(TIMED_RUNS):
        began = time.perf_counter()
        run(reference.clips_NTHWC[:1], reference.targets_N[:1])
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def _measure(answers: Arrays, reference: Reference) -> tuple[dict[str, float], list[ParityError]]:
    figures, misses = compare(answers, reference=reference)
    if figures and SALIENCY in answers:
        figures |= box_agreement(answers[SALIENCY], reference.oracle[SALIENCY])
    return figures, misses


def _row(
    facts: Mapping[str, str],
    hardware: str,
    figures: Mapping[str, float],
    misses: Sequence[ParityError],
    *,
    reference: Reference,
) -> Row:
    return {
        **facts,
        "hardware": hardware,
        "clips": len(reference.clips_NTHWC),
        "structure_max_error": reference.structure_max_error,
        # JSON has no word for what is not a number.
        **{name: value if math.isfinite(value) else None for name, value in figures.items()},
        "passed": not misses,
        "reason": str(misses[0]) if misses else None,
    }
