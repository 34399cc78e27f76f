"""A .pt artefact in TorchScript. The one place of the run side that imports torch, and only when it loads one."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam.contract import CARD_KEY, CLIP, TARGET, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.serving.engines.engine import Arrays, check_same, file_sha256, input_names


class TorchScriptEngine:
    """A scripted module on one device."""

    name = "torchscript"

    def __init__(self, module: Any, *, card: Card, device: str, sha256: str) -> None:
        self.card = card
        self.sha256 = sha256
        self.provider = device
        self._module = module
        self._inputs = input_names(card)

    def run(self, clip_BTHWC: NDArray[np.uint8], *, target_B: NDArray[np.int64]) -> Arrays:
        """The card's outputs by name; a labels graph ignores the target."""
        import torch

        given = {CLIP: clip_BTHWC, TARGET: target_B}
        # The plain executor: the profiling one would specialise on the first calls and answer them differently.
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            tensors = [torch.from_numpy(given[name]).to(self.provider) for name in self._inputs]
            outputs = self._module(*tensors)
        values = outputs if isinstance(outputs, tuple) else (outputs,)
        return {name: value.cpu().numpy() for name, value in zip(self.card.outputs, values, strict=True)}


def load(path: Path, *, device: str, num_threads: int) -> TorchScriptEngine:
    """Loads on exactly the device asked for.

    Raises:
        ArtifactError: as `load_engine`.
    """
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        raise ArtifactError(f"this torch cannot run on {device}", got="CUDA is not available", allowed=["cpu"])
    if num_threads:
        torch.set_num_threads(num_threads)
    extra_files = {CARD_KEY: ""}
    try:
        with warnings.catch_warnings():
            # TorchScript is deprecated as a whole; the project offers it because TorchServe users have it.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location=device, _extra_files=extra_files)
    except RuntimeError as error:
        raise ArtifactError("torch cannot load the graph", got=f"{path.name}: {error}") from error
    card = Card.from_json(extra_files[CARD_KEY])
    schema = module.forward.schema
    check_same("inputs", got=[argument.name for argument in schema.arguments[1:]], card=input_names(card))
    # Outputs have no names in TorchScript: only their number can be held against the card.
    returned = schema.returns[0].type
    count = len(returned.elements()) if returned.kind() == "TupleType" else 1
    check_same("number of outputs", got=[count], card=[len(card.outputs)])
    return TorchScriptEngine(module.eval(), card=card, device=device, sha256=file_sha256(path))
