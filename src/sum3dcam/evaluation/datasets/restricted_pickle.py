"""Reads a pickle of plain containers, numbers, text and numpy arrays of numbers; whatever else it names is refused.

A pickle can call any function of any module. Here it gets stand-ins for the four names that numpy's arrays and scalars
need, in old numpy's spelling and in new; they take the bytes and the shape, check them, and leave making the array to
`PickledArray.values`. No code of numpy's sees what the file claims before that. The instructions are gone through
first, since some make the unpickler itself allocate what a file claims: 32 GB for one index of its memo.
"""

import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

# Whole numbers, floats, and text of a bounded length: nothing that holds other objects.
DTYPE = re.compile(r"[uif][1248]|U[0-9]{1,4}")
BYTE_ORDERS = frozenset("<>|=")


# What protocols 2 and 3 write of such content, a subset of pickletools' names.
INSTRUCTIONS = frozenset(
    (
        "PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
        "BINUNICODE", "BINBYTES", "SHORT_BINBYTES", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_LIST",
        "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
        "GLOBAL", "REDUCE", "BUILD",
    )
)  # fmt: skip


class Dtype:
    """A dtype as it is claimed: a code such as "u1" and, once its state has been set, a byte order."""

    def __init__(self, code: Any, _align: Any, _copy: Any) -> None:
        if type(code) is not str or not DTYPE.fullmatch(code):
            raise pickle.UnpicklingError(f"got an array of type {str(code)[:100]!r}, wanted numbers or text")
        self.code, self.byte_order = code, "="

    def __setstate__(self, state: Any) -> None:
        match state:
            case (int(), str(byte_order), *_) if byte_order in BYTE_ORDERS:
                self.byte_order = byte_order
            case _:
                raise pickle.UnpicklingError(f"got the dtype state {str(state)[:100]}")

    def made(self) -> np.dtype[Any]:
        return np.dtype(self.byte_order + self.code)


class PickledArray:
    """An array as the pickle holds it; `values` makes it."""

    def __init__(self) -> None:
        self._values: Callable[[], npt.NDArray[Any]] | None = None

    def __setstate__(self, state: Any) -> None:
        match state:
            case (int(), tuple(shape), Dtype() as dtype, bool(is_fortran), bytes(data)) if all(
                type(size) is int and size >= 0 for size in shape
            ):
                self._values = partial(_array, data, shape=shape, dtype=dtype, order="F" if is_fortran else "C")
            case _:
                raise pickle.UnpicklingError("got an array that is no shape, type and bytes")

    @property
    def values(self) -> npt.NDArray[Any]:
        """The array, read-only, of its own shape and dtype. Raises ValueError where its bytes do not fill the shape."""
        if self._values is None:
            raise ValueError("an array without content")
        return self._values()


def read_restricted_pickle(path: Path) -> Any:
    """What the file holds, each array in it as a `PickledArray`; no code of the file's choice runs.

    Raises:
        ValueError: it names anything else than arrays of numbers, or is damaged.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        try:
            _check_instructions(file)
            file.seek(0)
            return _Unpickler(file).load()
        except _DAMAGE as error:
            raise ValueError(f"{path}: not read as a pickle of numbers, text and arrays: {error}") from error


_DAMAGE = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
    MemoryError, RecursionError,
)  # fmt: skip


def _check_instructions(file: IO[bytes]) -> None:
    for count, (instruction, argument, _) in enumerate(pickletools.genops(file)):
        if instruction.name not in INSTRUCTIONS:
            raise pickle.UnpicklingError(
                f"it has the instruction {instruction.name}, which protocol 3 does not write for arrays of numbers"
            )
        if instruction.name == "LONG_BINPUT" and isinstance(argument, int) and argument > count:
            raise pickle.UnpicklingError(f"its memo has the index {argument} after {count} instructions")


def _array(data: bytes, *, shape: tuple[int, ...], dtype: Dtype, order: Any) -> npt.NDArray[Any]:
    return np.frombuffer(data, dtype.made()).reshape(shape, order=order)


def _reconstruct(_kind: Any, _shape: Any, _code: Any) -> PickledArray:
    return PickledArray()


def _scalar(dtype: Any, data: Any) -> Any:
    if type(dtype) is not Dtype or type(data) is not bytes:
        raise pickle.UnpicklingError("got a scalar that is no type and bytes")
    return _array(data, shape=(), dtype=dtype, order="C").item()


@dataclass(frozen=True)
class _StandIn:
    """What a name stands for: a call of our own, whose attributes no pickle may set."""

    call: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setstate__(self, _state: Any) -> None:
        raise pickle.UnpicklingError("got a function with a state")


def _no_call(*_arguments: Any) -> Any:
    raise pickle.UnpicklingError("got a call of a class that only names a kind of array")


_NAMES: Mapping[tuple[str, str], _StandIn] = {
    ("numpy", "dtype"): _StandIn(Dtype),
    ("numpy", "ndarray"): _StandIn(_no_call),
    **{
        (f"numpy.{core}.multiarray", name): _StandIn(call)
        for core in ("core", "_core")
        for name, call in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which no array of numbers needs and which could run code; get the file "
                "anew from where the data set is published"
            )
        return _NAMES[module, name]
