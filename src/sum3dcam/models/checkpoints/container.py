"""A weights file of any container, told by its content, never by its name: what state dict it holds.

safetensors, or one of torch.save's two layouts. Those two are pickles: they are read inertly first (`torchfile`), and
reach torch.load with `weights_only=True` only once every claim in them has been held against the file. So a hostile
file runs no code and allocates no more than its own size and a bounded description.
"""

import hashlib
import os
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sum3dcam.errors import CheckpointError
from sum3dcam.models.checkpoints.claims import Inert, TensorClaim
from sum3dcam.models.checkpoints.torchfile import LEGACY_MAGIC, check_legacy, check_zip

SAFETENSORS, ZIP_PICKLE, LEGACY_PICKLE = "safetensors", "zip pickle", "legacy pickle"
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")

_CHECKS: Mapping[str, Callable[..., Any]] = {ZIP_PICKLE: check_zip, LEGACY_PICKLE: check_legacy}
_DENSE_DTYPES = frozenset({"BOOL", "U8", "I8", "I16", "I32", "I64", "F16", "BF16", "F32", "F64"})
# What else torch.load may raise for a file whose claims are in order, such as a zip of a future version.
_TORCH_REFUSES = (
    pickle.UnpicklingError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, EOFError,
    OverflowError,
)  # fmt: skip
_OTHER_FILES = {
    b"\x89HDF\r\n\x1a\n": "HDF5 (Keras); save its arrays as tensors with safetensors or torch.save",
    b"\x93NUMPY": "a numpy array (.npy); save it as tensors with safetensors or torch.save",
    b"PK\x05\x06": "an empty zip",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"version https://git-lfs": "a Git LFS pointer in place of the file; fetch it with git lfs pull",
    b"<": "a web page or XML in place of the file; download it again",
    # ModelProto's ir_version, then one of its other fields.
    **{bytes([8, version, field]): "an ONNX model; give the checkpoint that it was exported from"
       for version in range(1, 16) for field in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)},
}  # fmt: skip


@dataclass(frozen=True)
class Container:
    """What a weights file of any container holds.

    Names in `state` have lost every leading 'module.', and the batch counters ('num_batches_tracked') are left out;
    the tensors are dense, on the CPU, without gradients. `kind` is SAFETENSORS, ZIP_PICKLE (torch.save since 1.6) or
    LEGACY_PICKLE (before). `wrapper` is the key under which the state dict lay, "" when the file was nothing else.
    `extras` are the plain values beside the state dict (epoch, arch); `metadata` is the safetensors header's.
    """

    state: Mapping[str, Tensor]
    kind: str
    wrapper: str
    extras: Mapping[str, str | int | float]
    metadata: Mapping[str, str]
    sha256: str


def read_container(path: Path) -> Container:
    """Reads a weights file of any container.

    Raises:
        CheckpointError: no file, none of the containers, damaged, hostile, or without a state dict of dense tensors.
    """
    if not path.is_file():
        raise CheckpointError("no such weights file" + (": a folder" if path.is_dir() else ""), got=str(path))
    try:
        with path.open("rb") as file:
            kind = _kind(file.read(32))
            read = _read_safetensors if kind == SAFETENSORS else _read_pickle
            return read(path, file, kind)
    except OSError as error:
        raise CheckpointError("the weights file cannot be read", got=str(error)[:200]) from error


def _kind(head: bytes) -> str:
    """A safetensors file starts with its header's length, any eight bytes, and goes on with the header's brace."""
    if not head:
        raise CheckpointError("the weights file is empty", allowed="safetensors or torch.save")
    if head[8:9] == b"{":
        return SAFETENSORS
    if head.startswith(b"PK\x03\x04"):
        return ZIP_PICKLE
    if head.startswith(LEGACY_MAGIC[:1]):
        return LEGACY_PICKLE
    for start, what in _OTHER_FILES.items():
        if head.lstrip().startswith(start):
            raise CheckpointError(f"no checkpoint but {what}", got=repr(head[:16]), allowed="safetensors or torch.save")
    raise CheckpointError(
        "neither a safetensors file nor one of torch.save", got=repr(head[:16]), allowed="safetensors or torch.save"
    )


def _read_safetensors(path: Path, file: BufferedReader, kind: str) -> Container:
    try:
        with safe_open(path, framework="pt") as opened:
            dtypes = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
            for name, dtype in dtypes.items():
                if dtype not in _DENSE_DTYPES:
                    raise CheckpointError(
                        f"{name[:80]} is of a type that no network here takes", got=dtype, allowed=sorted(_DENSE_DTYPES)
                    )
            # Cloned, because the library maps the file: writing it anew would change, or crash, what was read from it.
            state = {name: opened.get_tensor(name).clone() for name in dtypes}
            metadata = opened.metadata() or {}
    except (SafetensorError, *_TORCH_REFUSES) as error:
        raise CheckpointError("a safetensors file that is damaged or cut off", got=str(error)[:200]) from error
    return Container(_bare_names(state), kind, "", {}, metadata, _sha256(file))


def _read_pickle(path: Path, file: BufferedReader, kind: str) -> Container:
    claimed = _CHECKS[kind](file, num_bytes=os.fstat(file.fileno()).st_size)
    wrapper = _wrapper(claimed)
    file.seek(0)
    try:
        # Opened here, because given a name torch.load would go by its suffix.
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except _TORCH_REFUSES as error:
        raise CheckpointError(
            "torch refuses the checkpoint: it is damaged or of another torch version", got=str(error)[:200]
        ) from error
    extras = {key: value for key, value in content.items() if type(key) is str and type(value) in (str, int, float)}
    state = content[wrapper] if wrapper else content
    return Container(_bare_names(state), kind, wrapper, extras, {}, _sha256(file))


def _wrapper(claimed: Any) -> str:
    """Under which key of the inert content the state dict lies, "" where it is the content itself."""
    if not isinstance(claimed, dict):
        raise CheckpointError("the file holds no state dict", got=_described(claimed), allowed="a dict of tensors")
    found = [key for key in WRAPPERS if isinstance(claimed.get(key), dict)]
    wrapper = found[0] if found else ""
    state = claimed[wrapper] if wrapper else claimed
    others = {key: value for key, value in state.items() if type(key) is not str or type(value) is not TensorClaim}
    if others or not state:
        raise CheckpointError(
            f"the file holds no state dict of tensors{f' under {wrapper!r}' if wrapper else ''}",
            got={str(key)[:80]: _described(value) for key, value in list((others or claimed).items())[:5]},
            allowed=f"named tensors alone, bare or under one of {', '.join(WRAPPERS)}",
        )
    return wrapper


def _described(value: Any) -> str:
    if isinstance(value, TensorClaim):
        return f"tensor {value.size}"
    if isinstance(value, Inert):
        return value.name
    return "dict" if isinstance(value, dict) else type(value).__name__


def _bare_names(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    bare: dict[str, Tensor] = {}
    for name, tensor in state.items():
        short = re.sub(r"^(?:module\.)+", "", name)
        if short.endswith("num_batches_tracked"):
            continue
        if short in bare:
            raise CheckpointError("two tensors have one name once 'module.' is removed", got=short[:80])
        bare[short] = tensor.detach()
    if not bare:
        raise CheckpointError(
            "the file holds no weights", got=[name[:80] for name in state][:5], allowed="named tensors"
        )
    return bare


def _sha256(file: BufferedReader) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()
