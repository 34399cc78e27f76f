"""An inert reading of a checkpoint's pickle: what it claims, before anything in it is believed.

`torch.load(weights_only=True)` runs no code of a file, but it believes the file's numbers: it allocates what a storage
claims, calls `bytearray(n)` or `torch.Tensor(n)` for the asking and hashes whatever key a dict is given. So the same
instructions are walked here first, with the same stack, by a machine that makes nothing but notes (`claims`). What it
gets through is safe to hand on; everything else is refused.

It is no `pickle.Unpickler`: that one's memo is an array as long as the highest index a file names (4 GB by one
instruction), and it hashes nested tuples, 2^n steps for 4 n bytes, with no hook to ask first.
"""

import pickle
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from sum3dcam.errors import CheckpointError
from sum3dcam.models.checkpoints.claims import (
    CALLS,
    TRUSTED_CONVERSION,
    Inert,
    Ordered,
    StorageClaim,
    checked_key,
    global_claim,
    storage_claim,
)

# A ResNeXt-101 with its optimizer, 836 tensors, takes 30,000 instructions.
MAX_INSTRUCTIONS = 1_000_000


@dataclass(frozen=True)
class Pickled:
    """What one pickle holds, inert, and the storages it refers to, by their keys."""

    content: Any
    storages: Mapping[str, StorageClaim]


def read_pickle(stream: BytesIO, *, num_id_fields: int = 0) -> Pickled:
    """Reads one pickle and leaves the stream behind it.

    The stream is in memory, so that a length that lies reads no more than there is. `num_id_fields` is how long the
    tuple is that names a storage: 5 in a zip, 6 in a legacy file, 0 where none may be named.

    Raises:
        CheckpointError: damaged, or more than tensors, numbers, text and their containers.
    """
    machine = _Machine(stream, num_id_fields)
    try:
        content = machine.run()
    except (ValueError, IndexError, KeyError) as error:
        raise CheckpointError(
            f"the checkpoint's pickle is damaged, cut off or none of torch.save's, near its byte {stream.tell()}",
            got=str(error)[:200],
        ) from error
    return Pickled(content, machine.storages)


class _Machine:
    """A stack machine. A damaged pickle makes it raise ValueError, IndexError (stack) or KeyError (memo)."""

    def __init__(self, stream: BytesIO, num_id_fields: int) -> None:
        self.stream = stream
        self.num_id_fields = num_id_fields
        self.stack: list[Any] = []
        self.outer_stacks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, StorageClaim] = {}

    def run(self) -> Any:
        for _ in range(MAX_INSTRUCTIONS):
            code = self.read(1)
            if code == pickle.STOP:
                return self.stack.pop()
            if code in _VALUES:
                value = _VALUES[code](self)
                self.stack.append(value)
            elif code in _EFFECTS:
                _EFFECTS[code](self)
            else:
                raise CheckpointError(
                    "the pickle has an instruction that torch.save does not write: it is damaged, or of another "
                    f"protocol than 2; convert it where you trust it: {TRUSTED_CONVERSION}",
                    got=repr(code),
                )
        raise CheckpointError("the pickle is too long for a checkpoint's", allowed=f"{MAX_INSTRUCTIONS} instructions")

    def read(self, num_bytes: int) -> bytes:
        data = self.stream.read(num_bytes)
        if len(data) != num_bytes:
            raise ValueError(f"{num_bytes} bytes announced, {len(data)} left")
        return data

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.read(struct.calcsize(layout)))[0]

    def text(self, layout: str) -> str:
        return self.read(self.number(layout)).decode("utf-8")

    def line(self) -> str:
        line = self.stream.readline()
        if not line.endswith(b"\n"):
            raise ValueError("a name without an end")
        return line[:-1].decode("utf-8")

    def last(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise IndexError("too few values")
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        return values

    def since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.outer_stacks.pop()
        return values


def _global(machine: _Machine) -> Inert:
    module, name = machine.line(), machine.line()
    return global_claim(f"{'builtins' if module == '__builtin__' else module}.{name}")


def _storage(machine: _Machine) -> StorageClaim:
    claim = storage_claim(machine.stack.pop(), num_fields=machine.num_id_fields)
    if machine.storages.setdefault(claim.key, claim) != claim:
        raise ValueError("one storage with two lengths or types")
    return claim


def _called(machine: _Machine) -> Any:
    target, arguments = machine.last(2)
    if type(target) is not Inert or target.name not in CALLS or type(arguments) is not tuple:
        raise ValueError("a call of something that is no function")
    function, counts = CALLS[target.name]
    if len(arguments) not in counts:
        raise ValueError(f"{target.name} with {len(arguments)} arguments")
    return function(*arguments)


def _check_protocol(machine: _Machine) -> None:
    if (protocol := machine.number("<B")) != 2:
        raise CheckpointError(
            f"a pickle of another protocol; convert it where you trust it: {TRUSTED_CONVERSION}",
            got=protocol,
            allowed=2,
        )


def _mark(machine: _Machine) -> None:
    machine.outer_stacks.append(machine.stack)
    machine.stack = []


def _memorise(machine: _Machine, *, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


def _append(machine: _Machine, *, values: Sequence[Any]) -> None:
    if type(machine.stack[-1]) is not list:
        raise ValueError("an item appended to something else than a list")
    machine.stack[-1].extend(values)


def _set_items(machine: _Machine, *, values: Sequence[Any]) -> None:
    if not isinstance(machine.stack[-1], dict) or len(values) % 2:
        raise ValueError("an item set in something else than a dict")
    for key, value in zip(values[::2], values[1::2], strict=True):
        machine.stack[-1][checked_key(key)] = value


def _set_attributes(machine: _Machine) -> None:
    state = machine.stack.pop()
    if type(machine.stack[-1]) is not Ordered or type(state) is not dict or set(state) - {"_metadata"}:
        raise ValueError("attributes set on something else than a state dict")


# Instructions that push one value; the rest of them work on the stack's top.
_VALUES: Mapping[bytes, Callable[[_Machine], Any]] = {
    pickle.NONE: lambda machine: None,
    pickle.NEWFALSE: lambda machine: False,
    pickle.NEWTRUE: lambda machine: True,
    pickle.BININT: lambda machine: machine.number("<i"),
    pickle.BININT1: lambda machine: machine.number("<B"),
    pickle.BININT2: lambda machine: machine.number("<H"),
    pickle.BINFLOAT: lambda machine: machine.number(">d"),
    pickle.LONG1: lambda machine: int.from_bytes(machine.read(machine.number("<B")), "little", signed=True),
    pickle.BINUNICODE: lambda machine: machine.text("<I"),
    pickle.SHORT_BINSTRING: lambda machine: machine.text("<B"),
    pickle.EMPTY_LIST: lambda machine: [],
    pickle.EMPTY_DICT: lambda machine: {},
    pickle.EMPTY_TUPLE: lambda machine: (),
    pickle.TUPLE1: lambda machine: machine.last(1),
    pickle.TUPLE2: lambda machine: machine.last(2),
    pickle.TUPLE3: lambda machine: machine.last(3),
    pickle.TUPLE: lambda machine: tuple(machine.since_mark()),
    pickle.BINGET: lambda machine: machine.memo[machine.number("<B")],
    pickle.LONG_BINGET: lambda machine: machine.memo[machine.number("<I")],
    pickle.GLOBAL: _global,
    pickle.BINPERSID: _storage,
    pickle.REDUCE: _called,
}
_EFFECTS: Mapping[bytes, Callable[[_Machine], None]] = {
    pickle.PROTO: _check_protocol,
    pickle.MARK: _mark,
    pickle.BINPUT: lambda machine: _memorise(machine, index=machine.number("<B")),
    pickle.LONG_BINPUT: lambda machine: _memorise(machine, index=machine.number("<I")),
    pickle.APPEND: lambda machine: _append(machine, values=machine.last(1)),
    pickle.APPENDS: lambda machine: _append(machine, values=machine.since_mark()),
    pickle.SETITEM: lambda machine: _set_items(machine, values=machine.last(2)),
    pickle.SETITEMS: lambda machine: _set_items(machine, values=machine.since_mark()),
    pickle.BUILD: _set_attributes,
}
