"""What a checkpoint's pickle may claim: tensors, their storages and a few inert things beside them.

Each function of `CALLS` stands where torch.load would call the real one with arguments that the file chose. It makes
nothing but a note of the claim, and raises ValueError where the real call could do anything else than build a view
of a storage, or would take arguments that torch believes (`bytearray(n)`, a set of values that are slow to hash).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sum3dcam.errors import CheckpointError

MAX_DIMENSIONS = 64
# Whole numbers below 2^60 hash to themselves; larger ones can be chosen to collide and make a dict quadratic.
MAX_KEY_BITS = 60

TRUSTED_CONVERSION = "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)"

_ELEMENT_BYTES = {
    "BoolStorage": 1, "ByteStorage": 1, "CharStorage": 1, "ShortStorage": 2, "HalfStorage": 2, "BFloat16Storage": 2,
    "IntStorage": 4, "FloatStorage": 4, "LongStorage": 8, "DoubleStorage": 8,
}  # fmt: skip
STORAGES = {f"{home}.{name}": size for home in ("torch", "torch.cuda") for name, size in _ELEMENT_BYTES.items()}
DTYPES = frozenset(
    f"torch.{name}"
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
)
_NO_NETWORK_TAKES = {
    "ComplexFloatStorage": "complex", "ComplexDoubleStorage": "complex", "QInt8Storage": "quantized",
    "QInt32Storage": "quantized", "QUInt8Storage": "quantized", "QUInt4x2Storage": "quantized",
    "QUInt2x4Storage": "quantized", "_rebuild_qtensor": "quantized", "_rebuild_sparse_tensor": "sparse",
    "_rebuild_nested_tensor": "nested", "_rebuild_meta_tensor_no_storage": "meta (empty)",
}  # fmt: skip


@dataclass(frozen=True)
class StorageClaim:
    """A storage that the pickle says lies elsewhere in the file; `kind` is a key of `STORAGES`."""

    key: str
    kind: str
    numel: int

    @property
    def num_bytes(self) -> int:
        return self.numel * STORAGES[self.kind]


@dataclass(frozen=True)
class TensorClaim:
    """A tensor whose every element lies inside its storage's claim."""

    size: tuple[int, ...]


@dataclass(frozen=True)
class Inert:
    """Anything else: a function or class by its full name, or a value that is not looked into."""

    name: str


class Ordered(dict[Any, Any]):
    """An OrderedDict, the one object whose attributes a checkpoint may set (a state dict's `_metadata`)."""


def global_claim(name: str) -> Inert:
    """Stands for a function or class that the pickle asks for by its full name.

    Raises:
        CheckpointError: a name that tensors do not need.
    """
    if name in CALLS or name in STORAGES or name in DTYPES:
        return Inert(name)
    kind = _NO_NETWORK_TAKES.get(name.rpartition(".")[2])
    if kind is not None and name.startswith("torch."):
        raise CheckpointError(
            f"the checkpoint holds {kind} tensors, which no network here takes; save them dense and real",
            got=name,
            allowed=sorted(_ELEMENT_BYTES),
        )
    raise CheckpointError(
        "the pickle holds more than tensors and was not opened, because opening it could run code; convert it where "
        f"you trust it: {TRUSTED_CONVERSION}",
        got=name[:200],
        allowed="tensors, numbers, text, lists and dicts",
    )


def storage_claim(fields: Any, *, num_fields: int) -> StorageClaim:
    """A storage by its persistent id: ('storage', kind, key, location, numel), in legacy files with None behind."""
    match fields:
        case ("storage", Inert(name=kind), str(key), str(), numel, *view) if (
            type(fields) is tuple and len(fields) == num_fields and kind in STORAGES and is_natural(numel)
        ):
            if view not in ([], [None]):
                raise ValueError("a storage inside another one")
            return StorageClaim(key, kind, numel)
    raise ValueError("a reference to something else than a storage")


def checked_key(key: Any) -> Any:
    """A dict's key or a set's element, for which hashing is quick whatever the file's author had in mind."""
    if type(key) is str or (isinstance(key, int) and key.bit_length() <= MAX_KEY_BITS):
        return key
    raise ValueError(f"a key that is neither text nor a small whole number but {type(key).__name__}")


def is_natural(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _are_naturals(values: Any) -> bool:
    return type(values) is tuple and len(values) <= MAX_DIMENSIONS and all(map(is_natural, values))


def _are_no_hooks(grad: Any, hooks: Any) -> bool:
    """Hooks are None in files of torch 0.4 from Python 2, an empty OrderedDict in all others."""
    return type(grad) is bool and (hooks is None or (type(hooks) is Ordered and not hooks))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any) -> TensorClaim:
    if type(storage) is not StorageClaim or not (is_natural(offset) and _are_naturals(size) and _are_naturals(stride)):
        raise ValueError("a tensor without a storage, or of impossible layout")
    if len(size) != len(stride):
        raise ValueError("a tensor with another number of strides than of dimensions")
    numel = math.prod(size)
    last = sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    needed = max(numel, offset + last + 1) if numel else offset
    if needed > storage.numel:
        raise CheckpointError(
            "a tensor of the checkpoint is larger than the numbers stored for it; if it was expanded on purpose, save "
            "its .contiguous()",
            got=f"shape {size} at element {offset}, strides {stride}",
            allowed=f"{storage.numel} elements",
        )
    return TensorClaim(size)


def _tensor_v2(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, flags: Any = None
) -> TensorClaim:
    if not _are_no_hooks(grad, hooks) or flags:
        raise ValueError("a tensor with hooks or flags")
    return _tensor(storage, offset, size, stride)


def _parameter(data: Any, grad: Any, hooks: Any) -> TensorClaim:
    if type(data) is not TensorClaim or not _are_no_hooks(grad, hooks):
        raise ValueError("a parameter without a tensor, or with hooks")
    return data


def _ordered(pairs: Any = ()) -> Ordered:
    """Python 2 wrote an OrderedDict's items into the call, as lists of two."""
    if type(pairs) not in (list, tuple) or not all(type(pair) is list and len(pair) == 2 for pair in pairs):
        raise ValueError("an ordered dict of something else than pairs")
    return Ordered((checked_key(key), value) for key, value in pairs)


def _counter(counts: Any) -> Inert:
    if type(counts) is not dict:
        raise ValueError("a counter of something else than a dict")
    return Inert("a counter")


def _set(items: Any) -> Inert:
    if type(items) is not list:
        raise ValueError("a set of something else than a list")
    for item in items:
        checked_key(item)
    return Inert("a set")


def _size(size: Any) -> Any:
    if not _are_naturals(size):
        raise ValueError("a size of something else than whole numbers")
    return size


def _device(kind: Any, index: Any = 0) -> Inert:
    if type(kind) is not str or not is_natural(index):
        raise ValueError("a device of something else than a name and a number")
    return Inert("a device")


def _bytes(text: Any, encoding: Any) -> Inert:
    if type(text) is not str or encoding != "latin1":
        raise ValueError("bytes of something else than text")
    return Inert("bytes")


# Full name -> what stands for it, and how many arguments it may be given.
CALLS: Mapping[str, tuple[Callable[..., Any], range]] = {
    "torch._utils._rebuild_tensor": (_tensor, range(4, 5)),
    "torch._utils._rebuild_tensor_v2": (_tensor_v2, range(6, 8)),
    "torch._utils._rebuild_parameter": (_parameter, range(3, 4)),
    "torch.Size": (_size, range(1, 2)),
    "torch.device": (_device, range(1, 3)),
    "collections.OrderedDict": (_ordered, range(2)),
    "collections.Counter": (_counter, range(1, 2)),
    "builtins.set": (_set, range(1, 2)),
    "_codecs.encode": (_bytes, range(2, 3)),
}
