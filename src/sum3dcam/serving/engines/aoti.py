"""An .aoti artefact: native code of AOTInductor, for the torch and the processor it was compiled for."""

import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

from sum3dcam.artefact import read_extra
from sum3dcam.contract import AOTI, BUILD_KEY, Card
from sum3dcam.digests import file_sha256
from sum3dcam.errors import ArtifactError
from sum3dcam.hardware import cpu_features
from sum3dcam.serving.engines.torch_engine import TorchEngine, claim_device


def load(path: Path, *, card: Card, device: str, num_threads: int) -> TorchEngine:
    """Loads on the CPU alone; nothing of the file is run before it is known to be for this machine.

    Raises:
        ArtifactError: as `load_engine`, or compiled for another machine or another torch.
    """
    import torch

    if device != "cpu":
        raise ArtifactError("an .aoti file is compiled for the CPU", got=device, allowed=["cpu"])
    _check_build(path, torch_version=str(torch.__version__))
    claim_device(device, num_threads=num_threads)
    # A compiled program reads past inputs of other shapes or strides unless it is told to look at them.
    os.environ["AOTI_RUNTIME_CHECK_INPUTS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "model.pt2"  # torch's loader goes by the suffix
        package.symlink_to(path.resolve())
        try:
            compiled = torch._inductor.aoti_load_package(str(package))
        except Exception as error:
            raise ArtifactError("torch cannot load the graph", got=f"{path.name}: {error}") from error

    def call(*tensors: torch.Tensor) -> Any:
        return compiled(*(tensor.contiguous() for tensor in tensors))

    return TorchEngine(call, name=AOTI, card=card, device=device, sha256=file_sha256(path))


def _check_build(path: Path, *, torch_version: str) -> None:
    try:
        build = json.loads(read_extra(path, key=BUILD_KEY) or "{}")
        wanted, features = (build["torch"], build["architecture"]), frozenset(build["cpu_features"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path.name} does not say what it was compiled for; export it again") from error
    here = (torch_version, platform.machine())
    if wanted != here:
        raise ArtifactError(
            f"{path.name} was compiled for another torch or processor; export it on a machine like this one",
            got=list(wanted),
            allowed=list(here),
        )
    if not features <= cpu_features():
        raise ArtifactError(
            f"{path.name} was compiled for instructions that this processor lacks; export it on a machine like this",
            got=sorted(features - cpu_features()),
        )
