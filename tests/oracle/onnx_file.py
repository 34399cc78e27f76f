"""What an ONNX file shows to one who did not write it."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def describe(info: onnx.ValueInfoProto) -> tuple[int, list[int | str]]:
    """An input's or output's element type and axes."""
    kind = info.type.tensor_type
    return kind.elem_type, [dim.dim_param or dim.dim_value for dim in kind.shape.dim]


def copies(initializers: Iterable[onnx.TensorProto]) -> list[tuple[str, str]]:
    """Pairs of weights (64 numbers or more) that hold the same numbers in any order: copies, transposed, flipped."""
    seen: dict[tuple[int, float, float], list[tuple[str, np.ndarray]]] = {}
    pairs = []
    for tensor in initializers:
        array = numpy_helper.to_array(tensor)
        if array.size < 64 or _interpolates(array):
            continue
        alike = seen.setdefault((array.size, float(array.min()), float(array.max())), [])
        pairs += [
            (name, tensor.name) for name, other in alike if (np.sort(other.ravel()) == np.sort(array.ravel())).all()
        ]
        alike.append((tensor.name, array))
    return pairs


def _interpolates(array: np.ndarray) -> bool:
    """The saliency's matrices are no weights: a square frame's H and W matrices are each other's transpose."""
    return array.ndim == 2 and any(np.allclose(array.sum(axis), 1) for axis in (0, 1))


def loading_noise(paths: Iterable[Path]) -> str:
    """What a fresh process prints while it loads the files, with onnxruntime's default logging."""
    program = (
        "import sys, onnxruntime\n"
        "for path in sys.argv[1:]:\n"
        "    onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *map(str, paths)], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
