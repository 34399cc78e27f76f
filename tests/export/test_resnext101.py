"""The full-size network, from a checkpoint in the released layout through both commands, against `tests.oracle.plain`.

The oracle was written from METHOD.md alone and shares no line with the package. It runs in float64; in float32 it is
the "eager float32" of METHOD.md section 4, against whose errors an engine's are held.

Section 4 allows an engine twice eager's mean error and three times its worst voxel, over 16 clips or more; the export
has just held itself to that. Here 8 answers must do, to save time: the ratio of the two programs' errors, 0.3 to 3 on
a single clip, still scatters by a factor of two or so over 8 (one flipped ReLU decides), hence twice those factors.
Seen with these very clips: 0.54 of eager's mean, 0.70 of its worst. A fault of structure is a hundred times beyond.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from tests.conftest import NUM_CLASSES, Exports
from tests.oracle import plain
from tests.oracle.onnx_file import copies, loading_noise

from sum3dcam.contract import CARD_KEY, Card
from sum3dcam.models import NETWORKS, build_network

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
SMALL_SAMPLE = 2
MEAN_RATIO, WORST_RATIO = 2 * SMALL_SAMPLE, 3 * SMALL_SAMPLE
LOGITS_TOLERANCE = 1e-4
# A grid that no ReLU disturbs (layer 4's, the activations) errs by rounding alone.
GRID_FLOOR = 1e-5

# Clips (by index) and targets of each call: batch 1 and 3, the top class and chosen ones, alone and mixed.
CALLS = (((0,), (-1,)), ((0,), (17,)), ((1, 2, 3), (-1, -1, -1)), ((3, 1, 2), (50, -1, 0)))

Answers = dict[str, np.ndarray]


@dataclass(frozen=True)
class Oracle:
    """float64 answers, call after call, and eager float32's."""

    clips_NTHWC: np.ndarray
    double: list[Answers]
    eager: list[Answers]

    def calls(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for chosen, target in CALLS:
            yield self.clips_NTHWC[list(chosen)], np.array(target)


@pytest.fixture(scope="module")
def oracle(resnext101_exports: Exports) -> Oracle:
    clips = plain.random_clips(4, size_px=112, seed=77)  # fresh: neither the calibration's nor the export's

    def run(dtype: torch.dtype) -> list[Answers]:
        state = plain.load(resnext101_exports.checkpoint, dtype=dtype)
        return [plain.explain(state, clips[list(chosen)], target_B=np.array(t)).outputs() for chosen, t in CALLS]

    return Oracle(clips_NTHWC=clips, double=run(torch.float64), eager=run(torch.float32))


def compare(got: list[Answers], oracle: Oracle) -> None:
    """METHOD.md section 4's precision rule over all calls together."""
    found, wanted, eager = (
        {name: np.concatenate([call[name] for call in calls]) for name in oracle.double[0]}
        for calls in (got, oracle.double, oracle.eager)
    )
    assert (found["explained"] == wanted["explained"]).all()
    logits_error = np.abs(found["logits"] - wanted["logits"]).max(1) / np.abs(wanted["logits"]).max(1)
    assert logits_error.max() <= LOGITS_TOLERANCE
    error, eager_error = (np.abs(answers["saliency"] - wanted["saliency"]) for answers in (found, eager))
    assert error.mean() <= MEAN_RATIO * eager_error.mean()
    assert error.max() <= WORST_RATIO * eager_error.max()
    beyond = {}
    for name in wanted:
        if name in ("logits", "explained", "saliency"):
            continue
        error_of_grid = grid_error(found[name], wanted[name])
        allowed = max(GRID_FLOOR, MEAN_RATIO * grid_error(eager[name], wanted[name]))
        if not error_of_grid <= allowed:
            beyond[name] = (error_of_grid, allowed)
    assert beyond == {}


def grid_error(got: np.ndarray, wanted: np.ndarray) -> float:
    """The error's norm over the grid's, per item, averaged over items."""
    axes = (1, 2, 3)
    return float((np.sqrt(((got - wanted) ** 2).sum(axes)) / np.sqrt((wanted**2).sum(axes))).mean())


def onnx_engine(path: Path) -> Callable[[np.ndarray, np.ndarray], Answers]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda clip, target: dict(zip(names, session.run(names, {"clip": clip, "target": target}), strict=True))


def torchscript_engine(path: Path, *, outputs: tuple[str, ...]) -> Callable[[np.ndarray, np.ndarray], Answers]:
    module = torch.jit.load(str(path))

    def run(clip: np.ndarray, target: np.ndarray) -> Answers:
        values = module(torch.from_numpy(clip), torch.from_numpy(target))
        return {name: value.detach().numpy() for name, value in zip(outputs, values, strict=True)}

    return run


def read_card(path: Path) -> Card:
    model = onnx.load(path)
    return Card.from_json({prop.key: prop.value for prop in model.metadata_props}[CARD_KEY])


def test_the_network_has_the_papers_size() -> None:
    network = build_network(NETWORKS["resnext101"], num_classes=NUM_CLASSES, num_frames=16)
    assert sum(parameter.numel() for parameter in network.parameters()) == plain.NUM_PARAMETERS_AT_51


def test_the_checkpoint_is_in_the_released_layout(resnext101_exports: Exports) -> None:
    checkpoint = torch.load(resnext101_exports.checkpoint, weights_only=True)
    assert set(checkpoint) == {"epoch", "arch", "state_dict", "optimizer"}
    keys = list(checkpoint["state_dict"])
    assert len(keys) == 522
    assert all(key.startswith("module.") and "num_batches_tracked" not in key for key in keys)


def test_onnx_agrees_with_the_oracle(resnext101_exports: Exports, oracle: Oracle) -> None:
    run = onnx_engine(resnext101_exports.onnx)
    compare([run(clip, target) for clip, target in oracle.calls()], oracle)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.enable_grad])
def test_torchscript_agrees_with_the_oracle(
    resnext101_exports: Exports, oracle: Oracle, mode: Callable[[], object]
) -> None:
    """Calls 1 to 4 and 7 to 10 are each the whole set, so the second and the tenth are among what is compared."""
    run = torchscript_engine(resnext101_exports.torchscript, outputs=tuple(oracle.double[0]))
    calls = list(oracle.calls())
    with mode():  # type: ignore[attr-defined]
        answers = [run(clip, target) for clip, target in [*calls, calls[0], calls[0], *calls]]
    compare(answers[:4], oracle)
    compare(answers[6:], oracle)


def test_outputs_come_in_the_contracts_order(resnext101_exports: Exports, oracle: Oracle) -> None:
    assert read_card(resnext101_exports.onnx).outputs == tuple(oracle.double[0])


def test_grids_have_the_sizes_of_the_method(resnext101_exports: Exports, oracle: Oracle) -> None:
    taps = {tap.name: (tap.channels, *tap.grid_thw) for tap in read_card(resnext101_exports.onnx).taps}
    assert taps == plain.GRIDS_AT_16_112
    for tap, (_, *grid_thw) in taps.items():
        assert list(oracle.double[0][f"gradient_{tap}"].shape[1:]) == grid_thw


def test_the_onnx_file_is_clean_and_holds_each_weight_once(resnext101_exports: Exports) -> None:
    labels = resnext101_exports.onnx.with_suffix(".labels.onnx")
    for path in (resnext101_exports.onnx, labels):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert [(imported.domain, imported.version >= 18) for imported in model.opset_import] == [("", True)]
        assert {node.domain for node in model.graph.node} == {""}
        assert copies(model.graph.initializer) == []
        weights = sum(numpy_helper.to_array(tensor).nbytes for tensor in model.graph.initializer)
        assert 4 * 47_500_000 <= weights <= 4 * 47_800_000
        assert path.stat().st_size <= 1.15 * 4 * plain.NUM_PARAMETERS_AT_51
    assert loading_noise([resnext101_exports.onnx, labels]) == ""


def test_the_labels_graphs_give_the_same_logits(resnext101_exports: Exports, oracle: Oracle) -> None:
    clips, _ = list(oracle.calls())[2]
    wanted = oracle.double[2]["logits"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(resnext101_exports.onnx.with_suffix(".labels.onnx")), options)
    with torch.inference_mode():
        (scripted,) = torch.jit.load(str(resnext101_exports.torchscript.with_suffix(".labels.pt")))(
            torch.from_numpy(clips)
        )
    for logits in (session.run(["logits"], {"clip": clips})[0], scripted.numpy()):
        assert np.abs(logits - wanted).max() <= LOGITS_TOLERANCE * np.abs(wanted).max()
