"""The joint graph as an .aoti file: a program of torch.export, compiled by AOTInductor for this machine's processor.

It holds native code and no source. Loading it compiles nothing.
"""

import io
import json
import platform
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sum3dcam.contract import BUILD_KEY, CARD_KEY, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.export.joint import ExplainGraph, fold_weights
from sum3dcam.export.pt2 import to_program
from sum3dcam.hardware import cpu_features

# Of AOTInductor. Freezing is left out: with it the check of strides at run time stops the backward of resnext-mini.
OPTIONS: Mapping[str, Any] = {
    "cpp.dynamic_threads": True,  # as many as the server says, not as this process has
    "aot_inductor.check_lowerbound": False,  # it would refuse a batch of one
    "aot_inductor.enable_line_tables": False,  # they name this machine's folders
}


def compile_package(graph: nn.Module, *, inputs: tuple[torch.Tensor, ...]) -> bytes:
    """Compiles `graph` (LabelsGraph or ExplainGraph) for batches of one and more, to a package of torch's.

    Raises:
        ArtifactError: torch cannot compile it; mostly for want of a C++ compiler.
    """
    # Flipping the backward's weights at each call would cost a tenth of its time; stored, they double the file.
    program = to_program(fold_weights(graph) if isinstance(graph, ExplainGraph) else graph, inputs=inputs)
    program.example_inputs = (inputs, {})
    package = io.BytesIO()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own deprecated parts
            torch._inductor.aoti_compile_and_package(program, package_path=package, inductor_configs=dict(OPTIONS))
    except Exception as error:
        raise ArtifactError(
            "AOTInductor cannot compile the graph; it needs a C++ compiler: install g++, or name another in CXX",
            got=str(error).strip().partition("\n")[0],
        ) from error
    return package.getvalue()


def write_aoti(package: bytes, path: Path, *, card: Card) -> None:
    """Writes the package without the sources it was compiled from, with its card and what it was compiled for."""
    build = {
        "torch": str(torch.__version__),
        "architecture": platform.machine(),
        "cpu_features": sorted(cpu_features()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".partial")
    with zipfile.ZipFile(io.BytesIO(package)) as compiled, zipfile.ZipFile(partial, "w") as file:
        for entry in compiled.infolist():
            if not entry.filename.endswith(".cpp"):
                file.writestr(entry, compiled.read(entry))
        root = compiled.namelist()[0].partition("/")[0]
        for key, text in ((CARD_KEY, card.to_json()), (BUILD_KEY, json.dumps(build))):
            file.writestr(zipfile.ZipInfo(f"{root}/extra/{key}"), text)
    partial.replace(path)
