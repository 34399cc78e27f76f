"""An .onnx artefact in OpenVINO, an optional extra."""

from collections.abc import Collection
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam.contract import CLIP, OPENVINO, TARGET, Card
from sum3dcam.digests import file_sha256
from sum3dcam.errors import ArtifactError
from sum3dcam.openvino_graph import compile_graph, read_graph
from sum3dcam.parts import part_outputs
from sum3dcam.serving.engines.engine import Arrays, check_same, input_names


class OpenVinoEngine:
    """A model compiled for the CPU, in the parts that are asked for."""

    name = OPENVINO
    provider = "CPU"

    def __init__(self, model: Any, *, card: Card, sha256: str, num_threads: int) -> None:
        self.card = card
        self.sha256 = sha256
        self._inputs = input_names(card)
        self._compiled = cache(
            lambda outputs, one_clip: compile_graph(model, outputs=outputs, one_clip=one_clip, num_threads=num_threads)
        )

    def run(
        self, clip_BTHWC: NDArray[np.uint8], *, target_B: NDArray[np.int64], outputs: Collection[str] | None = None
    ) -> Arrays:
        """As `Engine.run`."""
        names = part_outputs(self.card, outputs)
        given = {CLIP: clip_BTHWC, TARGET: target_B}
        values = self._compiled(names, len(clip_BTHWC) == 1)({name: given[name] for name in self._inputs})
        return {name: values[index] for index, name in enumerate(names)}


def load(path: Path, *, card: Card, device: str, num_threads: int) -> OpenVinoEngine:
    """Loads on the CPU alone.

    Raises:
        ArtifactError: as `load_engine`, or OpenVINO is not installed.
    """
    if device != "cpu":
        raise ArtifactError("OpenVINO runs on the CPU here", got=device, allowed=["cpu"])
    if find_spec("openvino") is None:
        raise ArtifactError("OpenVINO is not installed: pip install openvino")
    try:
        model = read_graph(path)
    except Exception as error:
        raise ArtifactError("openvino cannot load the graph", got=f"{path.name}: {error}") from error
    clip_shape = [size.to_string() for size in model.inputs[0].partial_shape][1:]
    check_same("inputs", got=[_name(node, input_names(card)) for node in model.inputs], card=input_names(card))
    check_same("outputs", got=[_name(node, card.outputs) for node in model.outputs], card=card.outputs)
    check_same("clip dimensions", got=clip_shape, card=[str(size) for size in card.clip_shape_THWC])
    return OpenVinoEngine(model, card=card, sha256=file_sha256(path), num_threads=num_threads)


def _name(node: Any, known: tuple[str, ...]) -> str:
    """A tensor's name; of the several that OpenVINO may give it, the one that the card knows."""
    return next((name for name in known if name in node.names), str(sorted(node.names)))
