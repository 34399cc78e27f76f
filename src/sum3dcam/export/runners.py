"""The engines at hand that can run a graph being exported, under the names by which a server knows them.

A server runs the file with the same options (`serving.engines`): what is certified here is what is served there. On a
GPU it also lays weights out for it and may record CUDA graphs, which order the same sums otherwise.
"""

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from sum3dcam.contract import AOTI, CLIP, EXPLAIN_GRAPH, ONNXRUNTIME, OPENVINO, PT2, TARGET, TORCHSCRIPT, Card
from sum3dcam.errors import ParityError
from sum3dcam.export.parity import Arrays
from sum3dcam.hardware import gpu, processor
from sum3dcam.openvino_graph import compile_graph, read_graph
from sum3dcam.parts import cut

Run = Callable[[npt.NDArray[np.uint8], npt.NDArray[np.int64]], Arrays]
Outputs = tuple[str, ...]


@dataclass(frozen=True)
class Runner:
    """An engine on a provider; `load` gives what computes these outputs of the graph there, and no more if it can."""

    engine: str
    provider: str
    versions: str
    load: Callable[[Outputs], Run]
    hardware: str = field(default_factory=processor)


def onnx_runners(model: onnx.ModelProto, *, card: Card) -> Iterator[Runner]:
    """ONNX Runtime on the CPU, then on CUDA, then OpenVINO, where they are there."""
    versions = f"onnxruntime {onnxruntime.__version__}"
    load = partial(_onnxruntime, model, card)
    yield Runner(ONNXRUNTIME, "CPUExecutionProvider", versions, partial(load, "CPUExecutionProvider", {}))
    card_name = gpu()
    if card_name is not None and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        exact = partial(load, "CUDAExecutionProvider", {"use_tf32": "0"})
        yield Runner(ONNXRUNTIME, "CUDAExecutionProvider", versions, exact, hardware=card_name)
    if find_spec("openvino"):
        yield Runner(OPENVINO, "CPU", f"openvino {version('openvino')}", partial(_openvino, model, card))


def torchscript_runners(traced: torch.jit.ScriptModule, *, card: Card) -> Iterator[Runner]:
    """TorchScript on the CPU, then on CUDA where it is there."""
    return _torch_runners(TORCHSCRIPT, partial(_torchscript_on, traced), card=card)


def pt2_runners(program: ExportedProgram, *, card: Card) -> Iterator[Runner]:
    """The program of torch.export on the CPU, operator by operator, then on CUDA where it is there."""
    return _torch_runners(PT2, partial(_program_on, program), card=card)


def aoti_runners(package: bytes, *, card: Card) -> Iterator[Runner]:
    """The compiled program on the CPU for which it was compiled."""
    load = partial(_torch, partial(_compiled_on, package), "cpu", card)
    yield Runner(AOTI, "cpu", f"torch {torch.__version__}", load)


def _onnxruntime(model: onnx.ModelProto, card: Card, provider: str, options: dict[str, str], outputs: Outputs) -> Run:
    session = onnxruntime.InferenceSession(_part(model, outputs, card=card), providers=[(provider, options)])
    if session.get_providers()[0] != provider:
        raise ParityError("the session did not get its provider", got=session.get_providers(), allowed=provider)
    names = [info.name for info in session.get_inputs()]

    def run(clips_BTHWC: npt.NDArray[np.uint8], targets_B: npt.NDArray[np.int64]) -> Arrays:
        given = {CLIP: clips_BTHWC, TARGET: targets_B}
        return dict(zip(outputs, session.run(outputs, {name: given[name] for name in names}), strict=True))

    return run


def _part(model: onnx.ModelProto, outputs: Outputs, *, card: Card) -> bytes:
    part = onnx.ModelProto()
    part.CopyFrom(model)
    if outputs != card.outputs:
        cut(part.graph, outputs=outputs)
    serialised: bytes = part.SerializeToString()
    return serialised


def _openvino(model: onnx.ModelProto, card: Card, outputs: Outputs) -> Run:
    graph = read_graph(model.SerializeToString())
    compiled = lru_cache(lambda one_clip: compile_graph(graph, outputs=outputs, one_clip=one_clip))

    def run(clips_BTHWC: npt.NDArray[np.uint8], targets_B: npt.NDArray[np.int64]) -> Arrays:
        values = compiled(len(clips_BTHWC) == 1)([clips_BTHWC, targets_B][: len(graph.inputs)])
        return {name: values[index] for index, name in enumerate(outputs)}

    return run


def _torch_runners(engine: str, load_on: Callable[[str], Callable[..., Any]], *, card: Card) -> Iterator[Runner]:
    devices = {"cpu": processor()}
    if torch.cuda.is_available():
        devices["cuda"] = torch.cuda.get_device_name()
    for device, hardware in devices.items():
        load = partial(_torch, load_on, device, card)
        yield Runner(engine, device, f"torch {torch.__version__}", load, hardware=hardware)


def _torch(load_on: Callable[[str], Callable[..., Any]], device: str, card: Card, outputs: Outputs) -> Run:
    module = load_on(device)

    def run(clips_BTHWC: npt.NDArray[np.uint8], targets_B: npt.NDArray[np.int64]) -> Arrays:
        given = [torch.from_numpy(array).to(device) for array in (clips_BTHWC, targets_B)]
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            values = module(*given[: 2 if card.graph == EXPLAIN_GRAPH else 1])
        named = zip(card.outputs, values, strict=True)
        return {name: tensor.cpu().numpy() for name, tensor in named if name in outputs}

    return run


def _torchscript_on(traced: torch.jit.ScriptModule, device: str) -> Callable[..., Any]:
    module = traced if device == "cpu" else torch.jit.load(_saved(torch.jit.save, traced), map_location=device)

    def call(*tensors: torch.Tensor) -> Any:
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return module(*tensors)

    return call


def _program_on(program: ExportedProgram, device: str) -> Callable[..., Any]:
    if device != "cpu":
        program = move_to_device_pass(torch.export.load(_saved(torch.export.save, program)), device)
    return program.module()


def _compiled_on(package: bytes, device: str) -> Callable[..., Any]:
    # As a server does: a compiled program reads past inputs of other shapes or strides unless it is told to look.
    os.environ["AOTI_RUNTIME_CHECK_INPUTS"] = "1"
    with tempfile.NamedTemporaryFile(suffix=".pt2") as file:
        file.write(package)
        file.flush()
        compiled = torch._inductor.aoti_load_package(file.name)
    return lambda *tensors: compiled(*(tensor.contiguous() for tensor in tensors))


def _saved(save: Callable[..., None], graph: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    save(graph, buffer)
    buffer.seek(0)
    return buffer
