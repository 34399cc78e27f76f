"""An .onnx artefact in OpenVINO, an optional extra."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam.contract import CLIP, OPENVINO, TARGET, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.serving.engines.engine import Arrays, check_same, file_sha256, input_names


class OpenVinoEngine:
    """A model compiled for the CPU."""

    name = OPENVINO
    provider = "CPU"

    def __init__(self, compiled: Any, *, card: Card, sha256: str) -> None:
        self.card = card
        self.sha256 = sha256
        self._compiled = compiled
        self._inputs = input_names(card)

    def run(self, clip_BTHWC: NDArray[np.uint8], *, target_B: NDArray[np.int64]) -> Arrays:
        """The card's outputs by name; a labels graph ignores the target."""
        given = {CLIP: clip_BTHWC, TARGET: target_B}
        outputs = self._compiled({name: given[name] for name in self._inputs})
        return {name: outputs[index] for index, name in enumerate(self.card.outputs)}


def load(path: Path, *, card: Card, device: str, num_threads: int) -> OpenVinoEngine:
    """Loads on the CPU alone.

    Raises:
        ArtifactError: as `load_engine`, or OpenVINO is not installed.
    """
    if device != "cpu":
        raise ArtifactError("OpenVINO runs on the CPU here", got=device, allowed=["cpu"])
    try:
        import openvino
    except ImportError as error:
        raise ArtifactError("OpenVINO is not installed: pip install openvino") from error
    # Exact float32, as certified: it would take bfloat16 where the processor has it.
    options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if num_threads:
        options["INFERENCE_NUM_THREADS"] = num_threads
    try:
        compiled = openvino.Core().compile_model(str(path), "CPU", options)
    except Exception as error:
        raise ArtifactError("openvino cannot load the graph", got=f"{path.name}: {error}") from error
    clip_shape = [size.to_string() for size in compiled.inputs[0].partial_shape][1:]
    check_same("inputs", got=[_name(node, input_names(card)) for node in compiled.inputs], card=input_names(card))
    check_same("outputs", got=[_name(node, card.outputs) for node in compiled.outputs], card=card.outputs)
    check_same("clip dimensions", got=clip_shape, card=[str(size) for size in card.clip_shape_THWC])
    return OpenVinoEngine(compiled, card=card, sha256=file_sha256(path))


def _name(node: Any, known: tuple[str, ...]) -> str:
    """A tensor's name; of the several that OpenVINO may give it, the one that the card knows."""
    return next((name for name in known if name in node.names), str(sorted(node.names)))
