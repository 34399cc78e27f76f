"""A graph small enough to read, with the card and the outputs of a real one."""

from collections.abc import Callable, Collection
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sum3dcam.contract import CARD_KEY, CLIP, EXPLAINED, LOGITS, SALIENCY, TARGET, Card, Tap, grid_name

GRID_THW = (2, 4, 4)
LABELS = ("left", "right", "still")


def tiny_card(graph: str, **changes: object) -> Card:
    facts: dict[str, object] = {
        "graph": graph,
        "model": "tiny",
        "labels": LABELS,
        "num_frames": 4,
        "size_px": 16,
        "streams": ("rgb",),
        "frames_per_second": None,
        "preprocessing": "shorter-side-centre-crop",
        "taps": (Tap(name="pool", channels=3, grid_thw=GRID_THW),),
        "gates": (),
        "weights_sha256": "0" * 64,
        "package_version": "0",
    }
    return Card(**(facts | changes))  # type: ignore[arg-type]


def tiny_weights() -> NDArray[np.float32]:
    """(K, t*h*w): what the logits weigh each cell with, which is also the gradient's grid."""
    return np.random.default_rng(0).standard_normal((len(LABELS), int(np.prod(GRID_THW)))).astype(np.float32)


def tiny_model(card: Card, *, embed_card: bool = True) -> onnx.ModelProto:
    """Mean brightness on a (2,4,4) grid, times weights: every output of the contract can be computed by hand."""
    t, h, w = GRID_THW
    size, frames = card.size_px, card.num_frames
    constants = {
        "weights": tiny_weights(),
        "weights_T": tiny_weights().T,
        "scale": np.float32(1 / 255),
        "minus_one": np.int64(-1),
        "flat": np.array([0, -1], np.int64),
        "grid": np.array([0, t, h, w], np.int64),
        "channel": np.array([1], np.int64),
        "cells": np.array([1, 2, 3], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Cast", [CLIP], ["pixels"], to=TensorProto.FLOAT),
        node("Mul", ["pixels", "scale"], ["unit"]),
        node("Transpose", ["unit"], ["unit_BCTHW"], perm=[0, 4, 1, 2, 3]),
        node("ReduceMean", ["unit_BCTHW", "channel"], ["grey"], keepdims=1),
        node(
            "AveragePool",
            ["grey"],
            ["pooled"],
            kernel_shape=[frames // t, size // h, size // w],
            strides=[frames // t, size // h, size // w],
        ),
        node("Squeeze", ["pooled", "channel"], [grid_name("activation", "pool")]),
        node("Reshape", [grid_name("activation", "pool"), "flat"], ["cells_flat"]),
        node("MatMul", ["cells_flat", "weights_T"], [LOGITS]),
    ]
    if card.graph == "explain":
        activation, gradient = grid_name("activation", "pool"), grid_name("gradient", "pool")
        nodes += [
            node("ArgMax", [LOGITS], ["top"], axis=1, keepdims=0),
            node("Equal", [TARGET, "minus_one"], ["asks_top"]),
            node("Where", ["asks_top", "top", TARGET], [EXPLAINED]),
            node("Gather", ["weights", EXPLAINED], ["gradient_flat"]),
            node("Reshape", ["gradient_flat", "grid"], [gradient]),
            node("ReduceMean", [gradient, "cells"], ["mean_gradient"], keepdims=1),
            node("Mul", ["mean_gradient", activation], [grid_name("gradcam", "pool")]),
            node("Relu", [gradient], ["positive"]),
            node("Mul", ["positive", activation], [grid_name("layercam", "pool")]),
            node("Mul", [gradient, activation], [grid_name("hirescam", "pool")]),
            node("Squeeze", ["grey", "channel"], [SALIENCY]),
        ]
    clip = helper.make_tensor_value_info(CLIP, TensorProto.UINT8, ["B", *card.clip_shape_THWC])
    target = helper.make_tensor_value_info(TARGET, TensorProto.INT64, ["B"])
    types = {EXPLAINED: TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [clip, target] if card.graph == "explain" else [clip],
        [helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), None) for name in card.outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if embed_card:
        helper.set_model_props(model, {CARD_KEY: card.to_json()})
    return model


@pytest.fixture
def write_tiny() -> Callable[..., Path]:
    """write(path, graph, **changes of the card) -> path."""

    def write(path: Path, graph: str = "explain", **changes: object) -> Path:
        onnx.save(tiny_model(tiny_card(graph, **changes)), path)
        return path

    return write


@pytest.fixture
def tiny_folder(tmp_path: Path, write_tiny: Callable[..., Path]) -> Path:
    """A folder with tiny.onnx and tiny.labels.onnx, as an unpacked archive holds them."""
    folder = tmp_path / "artefact"
    folder.mkdir()
    write_tiny(folder / "tiny.onnx", "explain")
    write_tiny(folder / "tiny.labels.onnx", "labels")
    return folder


class FakeEngine:
    """A deterministic numpy function of each clip, item by item; records the size of every batch it ran."""

    name = "fake"
    provider = "cpu"
    sha256 = "f" * 64

    def __init__(self, graph: str, **changes: object) -> None:
        self.card = tiny_card(graph, **changes)
        self.batch_sizes: list[int] = []
        self.targets: list[int] = []
        self.on_run: Callable[[NDArray[np.uint8]], None] = lambda clip_BTHWC: None

    def run(
        self, clip_BTHWC: NDArray[np.uint8], *, target_B: NDArray[np.int64], outputs: Collection[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        self.on_run(clip_BTHWC)
        self.batch_sizes.append(len(clip_BTHWC))
        self.targets += target_B.tolist()
        rows = [self._one(clip, int(target)) for clip, target in zip(clip_BTHWC, target_B, strict=True)]
        return {name: np.stack([row[name] for row in rows]) for name in self.card.outputs}

    def _one(self, clip_THWC: NDArray[np.uint8], target: int) -> dict[str, NDArray[Any]]:
        """Class 0 speaks for brightness in the upper half, 1 in the lower, 2 for neither."""
        t, h, w = GRID_THW
        frames, size = self.card.num_frames, self.card.size_px
        grey = clip_THWC.astype(np.float32).mean(axis=-1) / 255
        activation = grey.reshape(t, frames // t, h, size // h, w, size // w).mean(axis=(1, 3, 5))
        upper = np.zeros(GRID_THW, np.float32)
        upper[:, : h // 2] = 1.0
        gradients = np.stack([upper, 1 - upper, np.full(GRID_THW, -0.1, np.float32)])
        logits = (gradients * activation).sum(axis=(1, 2, 3))
        explained = int(logits.argmax()) if target < 0 else target
        gradient = gradients[explained]
        outputs = {
            "logits": logits,
            "explained": np.int64(explained),
            "saliency": grey,
            "activation_pool": activation,
            "gradient_pool": gradient,
            "gradcam_pool": gradient.mean() * activation,
            "layercam_pool": np.maximum(gradient, 0) * activation,
            "hirescam_pool": gradient * activation,
        }
        return {name: np.asarray(outputs[name]) for name in self.card.outputs}


@pytest.fixture
def engines() -> tuple[FakeEngine, FakeEngine]:
    """An explain and a labels engine of one made-up model: clips of 4 frames of 16 pixels, three classes."""
    return FakeEngine("explain"), FakeEngine("labels")


@pytest.fixture
def npy() -> Callable[[NDArray[Any]], bytes]:
    def save(array: NDArray[Any]) -> bytes:
        buffer = BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()

    return save


@pytest.fixture
def clip_bytes(npy: Callable[[NDArray[Any]], bytes]) -> Callable[..., bytes]:
    """An .npy video of noise, bright in its lower half for odd seeds and in its upper half for even ones."""

    def make(seed: int = 0, *, num_frames: int = 4) -> bytes:
        frames = np.random.default_rng(seed).integers(0, 100, (num_frames, 16, 16, 3), np.uint8)
        half = slice(8, 16) if seed % 2 else slice(0, 8)
        frames[:, half] += 150
        return npy(frames)

    return make


@pytest.fixture
def card() -> Card:
    return tiny_card("explain")
