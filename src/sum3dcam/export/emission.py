"""The ONNX graph as far as it is written: nodes, initialisers, names."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAST = int(np.iinfo(np.int64).max)
FIRST = int(np.iinfo(np.int64).min)


@dataclass(frozen=True)
class Pass:
    """A max pooling of (B,c,t,h,w) along t, h or w (`at` 0, 1, 2), with the names of what goes in and comes out."""

    before: str
    after: str
    at: int
    kernel: int
    stride: int
    padding: int
    ceil_mode: bool

    def num_windows(self, size: int) -> int:
        """How many windows there are along `size` places, as torch counts: the last begins inside x or its padding."""
        room = size + 2 * self.padding - self.kernel
        count = (-(-room // self.stride) if self.ceil_mode else room // self.stride) + 1
        return count - int(self.ceil_mode and (count - 1) * self.stride >= size + self.padding)


@dataclass(frozen=True)
class Scattered:
    """A (B,c,t,h,w) that was made by scattering a gradient, of the last pass's windows; `sizes` are its (t,h,w)."""

    gradient: str
    passes: tuple[Pass, ...]
    sizes: tuple[int, ...]


class Emission:
    """The nodes and initialisers of the ONNX graph written so far; every name is made here.

    `scattered` tells of some names how they were made, for those who can do with less than the whole.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.scattered: dict[str, Scattered] = {}
        self._names: dict[str, str] = {}
        self._contents: dict[tuple[Any, ...], str] = {}

    def node(self, kind: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Appends a node; gives its output's name, or the tuple of them."""
        number = len(self.nodes)
        names = [f"{kind}_{number}"] if outputs == 1 else [f"{kind}_{number}_{index}" for index in range(outputs)]
        arguments = ["" if value is None else self.value(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, arguments, names, name=f"{kind}_{number}", **attributes))
        return names[0] if outputs == 1 else tuple(names)

    def value(self, value: Any) -> str:
        """The name of a tensor that is one already, or of a new constant: a float is float32, an int int64."""
        if isinstance(value, str):
            return value
        dtype = np.float32 if isinstance(value, float) else np.int64
        return self.weight(f"constant_{len(self._names)}", np.asarray(value, dtype))

    def weight(self, name: str, array: np.ndarray[Any, Any]) -> str:
        """The name under which `array` is stored: once, however often and under whatever names it is read."""
        if name not in self._names:
            content = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
            if content not in self._contents:
                self._contents[content] = name
                self.initializers.append(numpy_helper.from_array(array, name))
            self._names[name] = self._contents[content]
        return self._names[name]
