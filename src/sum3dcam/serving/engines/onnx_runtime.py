"""An .onnx artefact in ONNX Runtime."""

import os
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from sum3dcam.contract import CLIP, ONNXRUNTIME, TARGET, Card
from sum3dcam.digests import file_sha256
from sum3dcam.errors import ArtifactError
from sum3dcam.parts import cut, part_outputs
from sum3dcam.serving.engines.engine import Arrays, check_same, input_names

_ERRORS_ONLY = 3


class OnnxRuntimeEngine:
    """Sessions on one device, one for each part of the graph that is asked for: a session computes all it holds."""

    name = ONNXRUNTIME

    def __init__(self, start: Callable[[tuple[str, ...]], Any], *, card: Card, provider: str, sha256: str) -> None:
        self.card = card
        self.sha256 = sha256
        self.provider = provider
        self._session = cache(start)
        self._inputs = input_names(card)

    def run(
        self, clip_BTHWC: NDArray[np.uint8], *, target_B: NDArray[np.int64], outputs: Collection[str] | None = None
    ) -> Arrays:
        """As `Engine.run`."""
        names = part_outputs(self.card, outputs)
        given = {CLIP: clip_BTHWC, TARGET: target_B}
        values = self._session(names).run(names, {name: given[name] for name in self._inputs})
        return dict(zip(names, values, strict=True))


def load(path: Path, *, card: Card, device: str, num_threads: int) -> OnnxRuntimeEngine:
    """Loads on exactly the device asked for: a silent fall back to the CPU is an error.

    Raises:
        ArtifactError: as `load_engine`.
    """
    provider, provider_options = _provider(device)
    if provider not in onnxruntime.get_available_providers():
        raise ArtifactError(
            f"this onnxruntime cannot run on {device}; install onnxruntime-gpu, or serve on the CPU",
            got=onnxruntime.get_available_providers(),
            allowed=provider,
        )
    _check_graph(path, card=card)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = _ERRORS_ONLY
    # Kept open for parts that are asked for later, whatever becomes of the file's name until then.
    descriptor = os.open(path, os.O_RDONLY)
    file = f"/proc/self/fd/{descriptor}"
    start = partial(_start, file, card=card, options=options, provider=(provider, provider_options))
    engine = OnnxRuntimeEngine(start, card=card, provider=provider, sha256=file_sha256(path))
    weakref.finalize(engine, os.close, descriptor)
    return engine


def _check_graph(path: Path, *, card: Card) -> None:
    graph = onnx.load(path, load_external_data=False).graph
    if not graph.node:
        raise ArtifactError("onnxruntime cannot load the graph", got=f"{path.name} holds none")
    check_same("inputs", got=[node.name for node in graph.input], card=input_names(card))
    check_same("outputs", got=[node.name for node in graph.output], card=card.outputs)
    clip_shape = [size.dim_value for size in graph.input[0].type.tensor_type.shape.dim][1:]
    check_same("clip dimensions", got=clip_shape, card=card.clip_shape_THWC)


def _start(
    file: str, outputs: tuple[str, ...], *, card: Card, options: Any, provider: tuple[str, dict[str, str]]
) -> onnxruntime.InferenceSession:
    """A session with what these outputs need."""
    try:
        with _part(file, outputs=outputs, card=card) as part:
            session = onnxruntime.InferenceSession(part, sess_options=options, providers=[provider])
    except Exception as error:
        raise ArtifactError("onnxruntime cannot load the graph", got=str(error)) from error
    if session.get_providers()[0] != provider[0]:
        raise ArtifactError(
            "the graph did not get the device asked for", got=session.get_providers(), allowed=provider[0]
        )
    return session


@contextmanager
def _part(file: str, *, outputs: tuple[str, ...], card: Card) -> Iterator[str]:
    """The file's name, or that of a smaller one: a session made from bytes would keep them."""
    if outputs == card.outputs:
        yield file
        return
    model = onnx.load(file, load_external_data=False)
    cut(model.graph, outputs=outputs)
    with NamedTemporaryFile(suffix=".onnx") as part:
        part.write(model.SerializeToString())
        part.flush()
        del model
        yield part.name


def _provider(device: str) -> tuple[str, dict[str, str]]:
    if device == "cpu":
        return "CPUExecutionProvider", {}
    # Exact float32, as certified.
    return "CUDAExecutionProvider", {"device_id": device.removeprefix("cuda:"), "use_tf32": "0"}
