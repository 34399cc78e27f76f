"""The parity gate: an exported graph is compared with float64 autograd before it is signed (METHOD.md section 4).

Structure: the joint graph in float64 equals float64 autograd, so no formula, tap, layout or batch is mixed up.
Precision: the exported file errs hardly more than eager autograd does on the same clips, in float32; or, where the
file is in bfloat16, under torch's autocast to that. How good such maps are is for the reader of the figures to say.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sum3dcam.attribution.grids import Saliency, explained_class, tap_grids
from sum3dcam.contract import BF16, EMPTY_MAX, EXPLAINED, FP32, LOGITS, SALIENCY, TOP_CLASS, Card
from sum3dcam.errors import ParityError
from sum3dcam.export.joint import explain_graph
from sum3dcam.export.prepare import Prepared, random_clips
from sum3dcam.models import Classifier

Arrays = Mapping[str, npt.NDArray[Any]]

# None of these is the batch size of the example the graph was traced with; together they are 16 clips.
BATCH_SIZES = (1, 3, 5, 7)
STRUCTURE_CLIPS = 3
STRUCTURE_TOLERANCE = 1e-9
LOGITS_TOLERANCE = 1e-4
# In lower precision: of eager's largest error; and of its maps' correlation with the oracle's, the least. There errors
# of voxels tell little, for ReLUs flip everywhere: on a random network a transposed map has hardly larger ones.
LOW_LOGITS_RATIO = 3.0
LOW_CORRELATION_RATIO = 0.8
# What is told of a kind of errors, (N,...) with the clips first.
MEASURES: Mapping[str, Callable[[npt.NDArray[Any]], float]] = {
    "median": lambda errors: float(np.median(errors.reshape(len(errors), -1).mean(1))),
    "mean": lambda errors: float(errors.mean()),
    "max": lambda errors: float(errors.max()),
}
# How often eager's error an engine may reach, and what counts as eager's error at least. Between ReLU flips a
# map errs by 1e-7; one flip moves it by 1e-2 at a voxel and 1e-4 on average. A full-size network flips on every clip,
# a small one on every tenth, so there the mean and the maximum of 16 clips are decided by which of the two programs
# met a flip: the floors are one flip's size. The median over clips has none to speak of and finds low precision.
Rules = Mapping[str, tuple[float, float]]
SALIENCY_RULES: Rules = {"median": (3.0, 1e-6), "mean": (2.0, 2e-4), "max": (3.0, 2e-2)}
# The same for a grid's error in norm, relative to the oracle's grid, per clip. Where a grid's terms cancel, as those of
# gradcam do, plain rounding reaches 5e-5, and one flip some per cent; a grid under another's name or with its axes
# swapped is off by about one.
GRID_RULES: Rules = {"median": (2.0, 2e-2), "max": (3.0, 0.1)}
SEED = 2012_09542


@dataclass(frozen=True)
class Reference:
    """Clips with targets, and the answers to them of the float64 oracle and of eager autograd in `precision`."""

    clips_NTHWC: npt.NDArray[np.uint8]
    targets_N: npt.NDArray[np.int64]
    oracle: Arrays
    eager: Arrays
    structure_max_error: float
    precision: str = FP32

    def first(self, num_clips: int) -> "Reference":
        """Of the first clips alone."""
        oracle, eager = ({name: value[:num_clips] for name, value in of.items()} for of in (self.oracle, self.eager))
        clips_NTHWC, targets_N = self.clips_NTHWC[:num_clips], self.targets_N[:num_clips]
        return replace(self, clips_NTHWC=clips_NTHWC, targets_N=targets_N, oracle=oracle, eager=eager)


def autograd_answers(
    classifier: Classifier, clips_BTHWC: Tensor, targets_B: Tensor, *, card: Card
) -> dict[str, npt.NDArray[Any]]:
    """What the explain graph must answer, by torch autograd in the dtype of the classifier's weights.

    Where the card asks for lower precision and the weights are float32, the network is run under torch's autocast.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=card.precision == BF16):  # leaves float64 alone
        logits, taps = classifier(clips_BTHWC)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    logits = logits.to(dtype)
    explained = explained_class(logits, targets_B)
    chosen = [taps[name] for name in card.tap_names]
    gradients = torch.autograd.grad(logits.gather(1, explained[:, None]).sum(), chosen)
    grids: dict[str, Tensor] = {}
    for name, activation, gradient in zip(card.tap_names, chosen, gradients, strict=True):
        grids |= tap_grids(activation.detach().to(dtype), gradient.to(dtype), tap=name)
    saliency = Saliency(card.taps, num_frames=card.num_frames, size_px=card.size_px, dtype=dtype)
    answers = {LOGITS: logits.detach(), EXPLAINED: explained, **saliency(grids), **grids}
    return {name: tensor.numpy() for name, tensor in answers.items()}


def reference(prepared: Prepared) -> Reference:
    """Runs the oracle and the structure check.

    Raises:
        ParityError: the joint graph in float64 is not float64 autograd.
    """
    card = prepared.card
    num_clips = sum(BATCH_SIZES)
    clips_NTHWC = random_clips(
        num_clips, num_frames=card.num_frames, size_px=card.size_px, num_channels=card.num_channels, seed=SEED
    )
    # Every other clip asks for a class, the rest for the top one.
    asked = np.random.default_rng(SEED).integers(0, len(card.labels), num_clips)
    targets_N = np.where(np.arange(num_clips) % 2, asked, TOP_CLASS).astype(np.int64)
    double = copy.deepcopy(prepared.classifier).double()
    oracle = _one_by_one(double, clips_NTHWC, targets_N, card=card)
    eager = _one_by_one(prepared.classifier, clips_NTHWC, oracle[EXPLAINED], card=card)
    return Reference(
        clips_NTHWC=clips_NTHWC,
        # In lower precision another class may be the top one, which top1_agreement tells.
        targets_N=targets_N if card.precision == FP32 else oracle[EXPLAINED],
        oracle=oracle,
        eager=eager,
        structure_max_error=_check_structure(double, clips_NTHWC, targets_N, oracle=oracle, prepared=prepared),
        precision=card.precision,
    )


def compare(answers: Arrays, *, reference: Reference) -> tuple[dict[str, float], list[ParityError]]:
    """The figures of an engine's answers to the reference's clips, and what of them is beyond METHOD.md section 4.

    Maps err absolutely (a map's max is 1), grids in norm relative to the oracle's, logits relative to the largest one;
    of the maps and of the grids the worst is told. A labels graph is compared by its logits alone.
    """
    oracle = reference.oracle
    for name, values in answers.items():
        if values.shape != oracle[name].shape:
            return {}, [ParityError(f"{name} has another shape", got=values.shape, allowed=oracle[name].shape)]
    figures, misses = _compare_logits(answers[LOGITS], reference=reference)
    if EXPLAINED in answers and (answers[EXPLAINED] != oracle[EXPLAINED]).any():
        got, wanted = answers[EXPLAINED].tolist(), oracle[EXPLAINED].tolist()
        misses.append(ParityError("explains other classes than the oracle", got=got, allowed=wanted))
    for name, values in answers.items():
        if name in (LOGITS, EXPLAINED):
            continue
        kind, rules, errors_of = (
            ("saliency", SALIENCY_RULES, _absolute) if name.startswith(SALIENCY) else ("grids", GRID_RULES, _in_norm)
        )
        errors, eager_errors = (errors_of(given[name], oracle[name]) for given in (answers, reference.eager))
        if kind == SALIENCY:
            correlation, eagers = (_correlation(maps, oracle[name]) for maps in (values, reference.eager[name]))
            figures["saliency_correlation"] = float(np.minimum(correlation, figures.get("saliency_correlation", 1.0)))
            if reference.precision != FP32 and not correlation >= LOW_CORRELATION_RATIO * eagers:
                message = (
                    f"the correlation of {name} is below {LOW_CORRELATION_RATIO} times eager {reference.precision}'s"
                )
                misses.append(ParityError(message, got=correlation, allowed=LOW_CORRELATION_RATIO * eagers))
        for what, measure in MEASURES.items():
            key = f"{kind}_{what}_error"
            figures[key] = float(np.maximum(measure(errors), figures.get(key, 0.0)))  # keeps what is not a number
        for what, (ratio, floor) in rules.items():
            error, allowed = MEASURES[what](errors), ratio * max(MEASURES[what](eager_errors), floor)
            if not error <= allowed:
                message = f"the {what} error of {name} exceeds {ratio} times eager {reference.precision}'s"
                misses.append(ParityError(message, got=error, allowed=allowed))
    return figures, misses


def _compare_logits(got_NK: npt.NDArray[Any], *, reference: Reference) -> tuple[dict[str, float], list[ParityError]]:
    wanted_NK = reference.oracle[LOGITS]
    errors, eager_errors = (
        np.abs(given - wanted_NK) / np.abs(wanted_NK).max() for given in (got_NK, reference.eager[LOGITS])
    )
    allowed = LOGITS_TOLERANCE if reference.precision == FP32 else LOW_LOGITS_RATIO * float(eager_errors.max())
    figures = {
        "logits_mean_error": float(errors.mean()),
        "logits_max_error": float(errors.max()),
        "top1_agreement": float((got_NK.argmax(1) == wanted_NK.argmax(1)).mean()),
    }
    worst = figures["logits_max_error"]
    if worst <= allowed:
        return figures, []
    return figures, [ParityError("logits differ from the oracle's", got=worst, allowed=allowed)]


def _correlation(got_NTHW: npt.NDArray[Any], wanted_NTHW: npt.NDArray[Any]) -> float:
    """Pearson's, over a map's voxels; the mean over clips. 0 for a map that is the same everywhere."""
    got, wanted = (maps.reshape(len(maps), -1).astype(np.float64) for maps in (got_NTHW, wanted_NTHW))
    got, wanted = (maps - maps.mean(1, keepdims=True) for maps in (got, wanted))
    norms = np.sqrt((got**2).sum(1) * (wanted**2).sum(1))
    return float(((got * wanted).sum(1) / np.maximum(norms, EMPTY_MAX)).mean())


def _absolute(got: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[Any]:
    errors: npt.NDArray[Any] = np.abs(got - wanted)
    return errors


def _in_norm(got_Nthw: npt.NDArray[Any], wanted_Nthw: npt.NDArray[Any]) -> npt.NDArray[Any]:
    axes = (1, 2, 3)
    norms_N = np.sqrt((wanted_Nthw**2).sum(axes))
    errors_N: npt.NDArray[Any] = np.sqrt(((got_Nthw - wanted_Nthw) ** 2).sum(axes)) / np.maximum(norms_N, EMPTY_MAX)
    return errors_N


def _one_by_one(
    classifier: Classifier, clips_NTHWC: npt.NDArray[np.uint8], targets_N: npt.NDArray[np.int64], *, card: Card
) -> dict[str, npt.NDArray[Any]]:
    clips, targets = torch.from_numpy(clips_NTHWC), torch.from_numpy(targets_N)
    answers = [
        autograd_answers(classifier, clips[index : index + 1], targets[index : index + 1], card=card)
        for index in range(len(clips))
    ]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _check_structure(
    double: Classifier,
    clips_NTHWC: npt.NDArray[np.uint8],
    targets_N: npt.NDArray[np.int64],
    *,
    oracle: Arrays,
    prepared: Prepared,
) -> float:
    """Largest error of any output of the float64 joint graph, each relative to that output's max per clip."""
    graph = explain_graph(double, taps=prepared.card.taps, clip_BTHWC=prepared.example_clip())
    clips, targets = (torch.from_numpy(array[:STRUCTURE_CLIPS]) for array in (clips_NTHWC, targets_N))
    with torch.no_grad():
        answers = dict(zip(prepared.card.outputs, graph(clips, targets), strict=True))
    worst = 0.0
    for name, tensor in answers.items():
        got, wanted = tensor.numpy(), oracle[name][:STRUCTURE_CLIPS]
        axes = tuple(range(1, wanted.ndim))
        scale = np.maximum(np.abs(wanted).max(axes), np.finfo(float).tiny)
        error = float((np.abs(got - wanted).max(axes) / scale).max())
        if not error <= STRUCTURE_TOLERANCE:
            raise ParityError(
                f"the joint graph's {name} is not float64 autograd's", got=error, allowed=STRUCTURE_TOLERANCE
            )
        worst = max(worst, error)
    return worst
