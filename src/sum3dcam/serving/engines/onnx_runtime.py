"""An .onnx artefact in ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sum3dcam.contract import CLIP, ONNXRUNTIME, TARGET, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.serving.engines.engine import Arrays, check_same, file_sha256, input_names

_ERRORS_ONLY = 3


class OnnxRuntimeEngine:
    """A session on one device."""

    name = ONNXRUNTIME

    def __init__(self, session: Any, *, card: Card, sha256: str) -> None:
        self.card = card
        self.sha256 = sha256
        self.provider: str = session.get_providers()[0]
        self._session = session
        self._inputs = input_names(card)

    def run(self, clip_BTHWC: NDArray[np.uint8], *, target_B: NDArray[np.int64]) -> Arrays:
        """The card's outputs by name; a labels graph ignores the target."""
        given = {CLIP: clip_BTHWC, TARGET: target_B}
        outputs = self._session.run(self.card.outputs, {name: given[name] for name in self._inputs})
        return dict(zip(self.card.outputs, outputs, strict=True))


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
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = _ERRORS_ONLY
    try:
        session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=[(provider, provider_options)]
        )
    except Exception as error:
        raise ArtifactError("onnxruntime cannot load the graph", got=f"{path.name}: {error}") from error
    if session.get_providers()[0] != provider:
        raise ArtifactError(
            f"the graph did not get the device asked for ({device})", got=session.get_providers(), allowed=provider
        )
    check_same("inputs", got=[node.name for node in session.get_inputs()], card=input_names(card))
    check_same("outputs", got=[node.name for node in session.get_outputs()], card=card.outputs)
    check_same("clip dimensions", got=session.get_inputs()[0].shape[1:], card=card.clip_shape_THWC)
    return OnnxRuntimeEngine(session, card=card, sha256=file_sha256(path))


def _provider(device: str) -> tuple[str, dict[str, str]]:
    if device == "cpu":
        return "CPUExecutionProvider", {}
    # Exact float32, as certified.
    return "CUDAExecutionProvider", {"device_id": device.removeprefix("cuda:"), "use_tf32": "0"}
