"""An .onnx artefact to a Triton model repository: both graphs as they are, each with the configuration Triton wants."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx import TensorProto

from sum3dcam.contract import CARD_KEY, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.export.archive import labels_path, read_pair
from sum3dcam.export.onnx import TensorSpec, signature

CONFIG = "config.pbtxt"
DEVICES: Mapping[str, str] = {"cpu": "KIND_CPU", "gpu": "KIND_GPU"}
_TYPES: Mapping[int, str] = {
    TensorProto.UINT8: "TYPE_UINT8",
    TensorProto.INT64: "TYPE_INT64",
    TensorProto.FLOAT: "TYPE_FP32",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Serving:
    """How Triton runs each graph.

    `device` is a key of DEVICES. A request waits at most `max_queue_delay_us` for others to share its batch.
    """

    device: str = "cpu"
    instances: int = 1
    max_batch_size: int = 8
    max_queue_delay_us: int = 20_000


def build_repository(artifact: Path, *, name: str, version: int, output: Path, serving: Serving) -> tuple[Path, Path]:
    """Writes version `version` of output/name, which explains, and of output/name-labels; gives both folders.

    A model appears, or changes to the new version, in one step; versions that are there already stay as they are.

    Args:
        artifact: the explain graph; its labels graph lies beside it.

    Raises:
        ArtifactError: as `read_pair`; another kind of file; a name that is no model's; this version is there already.
    """
    if artifact.suffix != ".onnx":
        raise ArtifactError("Triton's ONNX Runtime backend wants an .onnx artefact", got=artifact.name, allowed=".onnx")
    if not _NAME.fullmatch(name):
        raise ArtifactError("not a model's name", got=name, allowed=_NAME.pattern)
    explain, labels = read_pair(artifact)
    models = {name: (artifact, explain), f"{name}-labels": (labels_path(artifact), labels)}
    for model in models:
        if (output / model / str(version)).exists():
            raise ArtifactError("the repository has this version; give another", got=f"{model}, version {version}")
    output.mkdir(parents=True, exist_ok=True)
    # Beside the repository, on its file system: Triton would take a folder inside for a model.
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".triton-") as scratch:
        for model, (path, card) in models.items():
            staged = Path(scratch) / model
            (staged / str(version)).mkdir(parents=True)
            shutil.copyfile(path, staged / str(version) / "model.onnx")
            (staged / CONFIG).write_text(config_text(card, name=model, version=version, serving=serving))
        for model in models:
            _publish(Path(scratch) / model, output / model, version=version)
    return output / name, output / f"{name}-labels"


def config_text(card: Card, *, name: str, version: int, serving: Serving) -> str:
    """The model's config.pbtxt, a ModelConfig message in protobuf's text format.

    It names the one version that it describes, so Triton serves no other by it. The card travels as a parameter, which
    Triton's clients can read.
    """
    inputs, outputs = signature(card)
    batching = (
        f"preferred_batch_size: [ {serving.max_batch_size} ]",
        f"max_queue_delay_microseconds: {serving.max_queue_delay_us}",
    )
    lines = (
        f"name: {_quoted(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {serving.max_batch_size}",
        *(_tensor("input", tensor) for tensor in inputs),
        *(_tensor("output", tensor) for tensor in outputs),
        f"dynamic_batching {{ {' '.join(batching)} }}",
        f"instance_group {{ kind: {DEVICES[serving.device]} count: {serving.instances} }}",
        f"version_policy {{ specific {{ versions: [ {version} ] }} }}",
        f"parameters {{ key: {_quoted(CARD_KEY)} value {{ string_value: {_quoted(card.to_json())} }} }}",
    )
    return "\n".join(lines) + "\n"


def _tensor(side: str, tensor: TensorSpec) -> str:
    # The batch axis goes without saying. Triton allows no empty dims: one number per item is (B,1) on the wire.
    dims = ", ".join(str(size) for size in tensor.item_shape or (1,))
    reshape = "" if tensor.item_shape else " reshape { shape: [ ] }"
    return f"{side} {{ name: {_quoted(tensor.name)} data_type: {_TYPES[tensor.kind]} dims: [ {dims} ]{reshape} }}"


def _quoted(text: str) -> str:
    r"""A string of protobuf's text format, of text without control characters.

    >>> print(_quoted('a "b" \\ c'))
    "a \"b\" \\ c"
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _publish(staged: Path, model: Path, *, version: int) -> None:
    """Moves a finished model into the repository; beside other versions the configuration is the last to come."""
    if not model.exists():
        staged.rename(model)
        return
    (staged / str(version)).rename(model / str(version))
    (staged / CONFIG).replace(model / CONFIG)
