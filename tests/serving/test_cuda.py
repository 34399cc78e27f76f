"""torch's engines on a GPU, plainly and as CUDA graphs. What needs no GPU is tested without one; the rest is skipped,
or fails under REQUIRE_GPU=1."""

import os
import warnings
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.oracle import tiny

from sum3dcam.contract import EXPLAINED, TORCHSCRIPT, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.export.artefacts import export_pair
from sum3dcam.export.prepare import prepare
from sum3dcam.serving.engines import LOADERS, load_engine
from sum3dcam.serving.engines.cuda_graph import CudaGraphs
from sum3dcam.serving.engines.engine import Arrays
from sum3dcam.serving.engines.torch_engine import TorchEngine, put_channels_last

SUFFIXES = (".pt", ".pt2")


@pytest.fixture
def device() -> str:
    if not torch.cuda.is_available():
        if os.environ.get("REQUIRE_GPU") == "1":
            pytest.fail("REQUIRE_GPU=1, and torch finds no GPU")
        pytest.skip("torch finds no GPU")
    return "cuda:0"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A small network's file in a precision and a format, written when it is first asked for."""
    made = prepare("resnext-mini", random_seed=0, num_frames=8, size_px=32)

    @cache
    def export(precision: str, suffix: str) -> Path:
        path = tmp_path_factory.mktemp("cuda") / f"{precision}{suffix}"
        export_pair(replace(made, card=replace(made.card, precision=precision)), path)
        return path

    return export


def clips(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 255, (batch, 8, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 1e-3), ("bf16", 0.5)])
def test_a_gpu_gives_the_processors_answers_and_cuda_graphs_the_gpus(
    precision: str, allowed: float, suffix: str, device: str, exported: Callable[[str, str], Path]
) -> None:
    path = exported(precision, suffix)
    on_cpu = load_engine(path, device="cpu", num_threads=1)
    plain = load_engine(path, device=device, num_threads=1)
    replayed = load_engine(path, device=device, num_threads=1, cuda_graph_batches=(1, 2))
    assert plain.provider == replayed.provider == device
    for batch in (1, 2, 3, 1, 2):  # three clips are more than are recorded
        targets = np.arange(batch) - 1
        wanted, got, again = (engine.run(clips(batch), target_B=targets) for engine in (on_cpu, plain, replayed))
        for name, values in wanted.items():
            if name != EXPLAINED:
                assert tiny.relative_error(got[name], values) <= allowed, name
                np.testing.assert_allclose(again[name], got[name], rtol=1e-5, atol=1e-6 * np.abs(values).max())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_in_channels_last_give_the_same_answers(suffix: str, exported: Callable[[str, str], Path]) -> None:
    path = exported("fp32", suffix)
    clip, target = torch.from_numpy(clips(2)), torch.tensor([-1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript as a whole
        module: Any = torch.jit.load(path) if suffix == ".pt" else torch.export.load(path).module()
    with torch.no_grad():
        wanted = module(clip, target)
        put_channels_last(module)
        got = module(clip, target)
    kernels = [weight for weight in (*module.parameters(), *module.buffers()) if weight.dim() == 5]
    assert len(kernels) > 10
    assert len([weight for weight in kernels if weight[0, 0].numel() > 1]) >= 7  # those of one voxel lie so either way
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in kernels)
    for value, expected in zip(got, wanted, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def recorder(recorded: list[int]) -> Callable[..., Any]:
    """What a GPU does, on the processor: computes again what its own tensors hold, into the tensors of its outputs."""

    def record(call: Callable[..., Any], tensors: tuple[torch.Tensor, ...]) -> Any:
        recorded.append(len(tensors[0]))
        outputs = [torch.full_like(value, -1) for value in call(*tensors)]

        def replay() -> None:
            for place, value in zip(outputs, call(*tensors), strict=True):
                place.copy_(value)

        return replay, outputs

    return record


def test_each_small_batch_is_recorded_beforehand_and_computes_what_it_is_given_then() -> None:
    recorded: list[int] = []

    def call(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + y, x * y

    graphs = CudaGraphs(call, tuple(torch.zeros(2, 1, 4)), batch_sizes=(1, 2), record=recorder(recorded))
    assert recorded == [2, 1]
    for batch in (1, 2, 3, 2, 1, 1, 3):
        x, y = torch.randn(2, batch, 4)
        kept = x.clone(), y.clone()
        for got, wanted in zip(graphs(x, y), call(*kept), strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=0)
        assert torch.equal(x, kept[0])
        assert torch.equal(y, kept[1])
    assert recorded == [2, 1]


def test_what_cannot_be_recorded_does_not_start(
    exported: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(TorchEngine):
        """A GPU's engine, on a machine without one."""

        def run(self, *inputs: Any, **options: Any) -> Arrays:
            return {}

        def replay(self, batch_sizes: Collection[int]) -> None:
            raise torch.OutOfMemoryError(f"CUDA out of memory at {list(batch_sizes)}")

    def load(path: Path, *, card: Card, device: str, num_threads: int) -> TorchEngine:
        return Full(print, name=TORCHSCRIPT, card=card, device=device, sha256="")

    monkeypatch.setitem(LOADERS, ".pt", {TORCHSCRIPT: load})  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="fewer with cuda_graph_clips") as caught:
        load_engine(exported("fp32", ".pt"), device="cuda:0", num_threads=1, cuda_graph_batches=(1, 2))
    assert "out of memory at [1, 2]" in str(caught.value.got)


def test_cuda_graphs_without_a_gpu_are_refused(exported: Callable[[str, str], Path]) -> None:
    with pytest.raises(ArtifactError, match="CUDA graphs are had on a GPU") as caught:
        load_engine(exported("fp32", ".pt"), device="cpu", num_threads=1, cuda_graph_batches=(1,))
    assert caught.value.got == "torchscript on cpu"
