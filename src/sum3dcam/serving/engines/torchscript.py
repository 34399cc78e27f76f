"""A .pt artefact in TorchScript."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sum3dcam.contract import TORCHSCRIPT, Card
from sum3dcam.digests import file_sha256
from sum3dcam.errors import ArtifactError
from sum3dcam.serving.engines.engine import check_same, input_names
from sum3dcam.serving.engines.torch_engine import TorchEngine, claim_device, put_channels_last


def load(path: Path, *, card: Card, device: str, num_threads: int) -> TorchEngine:
    """Loads on exactly the device asked for.

    Raises:
        ArtifactError: as `load_engine`.
    """
    import torch

    claim_device(device, num_threads=num_threads)
    try:
        with warnings.catch_warnings():
            # TorchScript is deprecated as a whole; the project offers it because TorchServe users have it.
            warnings.simplefilter("ignore", DeprecationWarning)
            module = torch.jit.load(str(path), map_location=device)
    except RuntimeError as error:
        raise ArtifactError("torch cannot load the graph", got=f"{path.name}: {error}") from error
    schema = module.forward.schema
    check_same("inputs", got=[argument.name for argument in schema.arguments[1:]], card=input_names(card))
    # Outputs have no names in TorchScript: only their number can be held against the card.
    returned = schema.returns[0].type
    count = len(returned.elements()) if returned.kind() == "TupleType" else 1
    check_same("number of outputs", got=[count], card=[len(card.outputs)])
    if device != "cpu":
        put_channels_last(module)
    return TorchEngine(
        _always_the_same(module.eval()), name=TORCHSCRIPT, card=card, device=device, sha256=file_sha256(path)
    )


def _always_the_same(module: Any) -> Callable[..., Any]:
    """The module in the plain executor: the profiling one would specialise on the first calls, with other answers."""
    import torch

    def call(*tensors: torch.Tensor) -> Any:
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return module(*tensors)

    return call
