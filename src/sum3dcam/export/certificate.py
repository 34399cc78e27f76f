"""The certificate of an exported graph: how near each engine at hand comes to float64 autograd, on the same clips.

A row is a plain mapping, for it travels in the card: engine, provider, versions, hardware and clips; the figures of
`parity.compare`; how far the boxes agree; seconds for one clip, of that part of the graph which a server usually runs;
whether it passed, and the reason where it did not.
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
from sum3dcam.export.runners import Runner
from sum3dcam.hardware import processor
from sum3dcam.parts import part_outputs, usual_outputs

Row = Mapping[str, Any]

# One at a time, the first of them to warm up.
TIMED_CLIPS = 6


def certify(runners: Iterable[Runner], *, card: Card, reference: Reference) -> tuple[Row, ...]:
    """A row for each engine, in their order, and at last eager's, beside which the others are held.

    An engine that fails has a row that says so: the caller decides which of them must pass.
    """
    usual, few = part_outputs(card, usual_outputs(card)), reference.first(TIMED_CLIPS)
    rows = []
    for runner in runners:
        try:
            answers, _ = _answers(runner, card.outputs, reference, batch_sizes=BATCH_SIZES)
            figures, misses = _measure(answers, reference)
            answers, seconds = _answers(runner, usual, few, batch_sizes=[1] * TIMED_CLIPS)
            misses += compare(answers, reference=few)[1]
            # On a busy machine it errs, but all engines of a file are timed one after the other.
            figures["clip_seconds"] = statistics.median(seconds[1:])
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


def _answers(
    runner: Runner, outputs: tuple[str, ...], reference: Reference, *, batch_sizes: Sequence[int]
) -> tuple[Arrays, list[float]]:
    """The outputs for all clips, in batches of these sizes; and the seconds of each batch.

    Raises:
        ParityError: the engine cannot load or run the graph.
    """
    answers: list[Arrays] = []
    seconds = []
    ends = np.cumsum(batch_sizes)[:-1]
    clips, targets = np.split(reference.clips_NTHWC, ends), np.split(reference.targets_N, ends)
    try:
        run = runner.load(outputs)
        for clips_BTHWC, targets_B in zip(clips, targets, strict=True):
            began = time.perf_counter()
            answers.append(run(clips_BTHWC, targets_B))
            seconds.append(time.perf_counter() - began)
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}, seconds
    except Exception as error:
        raise ParityError("cannot run the graph", got=str(error)) from error


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
