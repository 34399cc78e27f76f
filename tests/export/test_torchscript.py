"""The TorchScript file: its answers stay the same whatever the batch, the mode and the number of calls before."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.oracle import tiny

from sum3dcam.contract import CARD_KEY, LABELS_GRAPH, Card
from sum3dcam.export.joint import explain_graph, labels_graph
from sum3dcam.export.torchscript import trace, write_torchscript

CASE = tiny.Case(gates=("layer1",), num_frames=8, size_px=33)


@pytest.fixture(autouse=True)
def deprecation() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript as a whole
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both files, traced with a batch of two."""
    folder = tmp_path_factory.mktemp("torchscript")
    made = tiny.prepared(CASE)
    clip, target = made.example_clip(), torch.zeros(2, dtype=torch.int64)
    explain = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=clip)
    write_torchscript(trace(explain, inputs=(clip, target)), folder / "explain.pt", card=made.card)
    labels = labels_graph(made.classifier, clip_BTHWC=clip)
    write_torchscript(trace(labels, inputs=(clip,)), folder / "labels.pt", card=replace(made.card, graph=LABELS_GRAPH))
    return folder


def check(values: Any, clips: np.ndarray, target: np.ndarray) -> None:
    """1e-4 of each output's max per clip: float32 over a few layers; these seeds meet no ReLU in doubt."""
    made = tiny.prepared(CASE)
    wanted = tiny.answers(made, clips, target)
    assert isinstance(values, tuple)
    for name, value in zip(made.card.outputs, values, strict=True):
        assert value.numpy().dtype == (np.int64 if name == "explained" else np.float32)
        assert tiny.relative_error(value.numpy(), wanted[name]) <= 1e-4, name


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_batches_it_was_not_traced_with_on_every_call(folder: Path, mode: Any) -> None:
    module = torch.jit.load(str(folder / "explain.pt"))
    for call, num_clips in enumerate((1, 3, 1, 2, 5, 3, 1, 4, 2, 3)):
        clips = tiny.clips(CASE, num_clips=num_clips, seed=call)
        target = np.array([-1, 2, 0, -1, 4])[:num_clips]
        with mode():
            values = module(torch.from_numpy(clips), torch.from_numpy(target))
        check(tuple(value.detach() for value in values), clips, target)


def test_the_labels_graph_gives_the_same_logits(folder: Path) -> None:
    module = torch.jit.load(str(folder / "labels.pt"))
    for num_clips in (3, 1):
        clips = tiny.clips(CASE, num_clips=num_clips)
        with torch.inference_mode():
            (logits,) = module(torch.from_numpy(clips))
        wanted = tiny.answers(tiny.prepared(CASE), clips, np.full(num_clips, -1))["logits"]
        assert tiny.relative_error(logits.numpy(), wanted) <= 1e-5


def test_inputs_are_named_and_the_card_travels_inside(folder: Path) -> None:
    for name, inputs in (("explain", ["clip", "target"]), ("labels", ["clip"])):
        extra = {CARD_KEY: ""}
        module = torch.jit.load(str(folder / f"{name}.pt"), _extra_files=extra)
        assert [argument.name for argument in module.forward.schema.arguments[1:]] == inputs
        assert Card.from_json(extra[CARD_KEY]).graph == name


def test_no_gradient_can_be_asked_of_it(folder: Path) -> None:
    """The backward is written out: nothing in the file needs autograd, so nothing is recorded."""
    module = torch.jit.load(str(folder / "explain.pt"))
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert "autograd" not in str(module.inlined_graph)


@pytest.mark.parametrize("name", ["explain.pt", "labels.pt"])
def test_convolutions_are_exact_on_any_gpu(name: str, folder: Path) -> None:
    """A trace keeps what cuDNN was allowed when it was made, whatever its server allows."""
    graph = torch.jit.load(str(folder / name)).inlined_graph  # to be kept while its nodes are
    convolutions = list(graph.findAllNodes("aten::_convolution"))
    assert convolutions
    for node in convolutions:
        *_, benchmark, deterministic, cudnn_enabled, allow_tf32 = (value.toIValue() for value in node.inputs())
        assert (benchmark, deterministic, cudnn_enabled, allow_tf32) == (False, False, True, False)
