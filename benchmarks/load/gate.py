"""Answers under load held against the answers that the same requests get alone: a fast wrong answer is no result."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from load.traffic import OK, Ask
from sum3dcam.client.prediction import Prediction
from sum3dcam.client.reply import read_reply

# On the CPU answers are the same to the byte. A GPU's batch changes the last bits: of scores in [0,1], and of maps and
# grids over their own maximum, by the mean over voxels or cells.
SCORE_TOLERANCE = 1e-4
TENSOR_TOLERANCE = 5e-3


class WrongAnswerError(Exception):
    """An answer under load that is not the one got alone."""


async def check_answers(ask: Ask, kept: Mapping[int, bytes], *, most: int) -> dict[str, int]:
    """Asks `most` of the kept requests again, one at a time; how many were compared, and how many were byte-identical.

    Raises:
        WrongAnswerError: one differs by more than the tolerances, or is no answer when asked alone.
    """
    identical = 0
    serials = sorted(kept)[:: max(len(kept) // most, 1)][:most]
    for serial in serials:
        alone = await ask(serial)
        if alone.code != OK:
            raise WrongAnswerError(f"request {serial} was answered under load, but alone it failed: {alone.code}")
        if kept[serial] == alone.body:
            identical += 1
        elif wrong := difference(kept[serial], alone.body):
            raise WrongAnswerError(f"request {serial} got another answer under load than alone: {wrong}")
    return {"compared": len(serials), "identical": identical}


def difference(got: bytes, wanted: bytes) -> str | None:
    """What differs between two replies beyond tolerance."""
    try:
        return _difference(read_reply(got), read_reply(wanted))
    except Exception as error:  # noqa: BLE001 - whatever cannot be read is not the same answer
        return f"{type(error).__name__}: {error}"


def _difference(got: Prediction, wanted: Prediction) -> str | None:
    if len(got.clips) != len(wanted.clips):
        return f"{len(got.clips)} clips, not {len(wanted.clips)}"
    for clip, of_wanted in zip(got.clips, wanted.clips, strict=True):
        scores, wanted_scores = ({label.label: label.score for label in one.labels} for one in (clip, of_wanted))
        if scores.keys() != wanted_scores.keys():
            return f"labels {sorted(scores)}, not {sorted(wanted_scores)}"
        worst = max(abs(scores[label] - wanted_scores[label]) for label in scores)
        if not worst <= SCORE_TOLERANCE:
            return f"a score differs by {worst:.1e}, allowed {SCORE_TOLERANCE:.0e}"
    tensors, wanted_tensors = (_tensors(one) for one in (got, wanted))
    if tensors.keys() != wanted_tensors.keys():
        return f"tensors {sorted(tensors)}, not {sorted(wanted_tensors)}"
    for name, values in tensors.items():
        of_wanted = wanted_tensors[name]
        if values.shape != of_wanted.shape:
            return f"{name} has the shape {values.shape}, not {of_wanted.shape}"
        error = np.abs(values - of_wanted).mean() / max(float(np.abs(of_wanted).max()), 1e-30)
        if not error <= TENSOR_TOLERANCE:
            return f"{name} differs by {error:.1e} of its maximum, allowed {TENSOR_TOLERANCE:.0e}"
    return None


def _tensors(prediction: Prediction) -> Mapping[str, Any]:
    maps = {} if prediction.maps_NETHW is None else {"maps": prediction.maps_NETHW}
    return {**maps, **prediction.stream_maps, **prediction.grids}
