"""Oracle: the arrays that were pickled. Files are as old numpy wrote them, protocol 3 and `numpy.core`."""

import os
import pickle

import numpy as np
import pytest

from sum3dcam.evaluation.datasets.restricted_pickle import read_restricted_pickle


def old(content):
    """As numpy 1 pickled it: the names are lines of text in protocol 3."""
    return pickle.dumps(content, protocol=3).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def read(tmp_path, data):
    path = tmp_path / "file.pkl"
    path.write_bytes(data)
    return read_restricted_pickle(path)


@pytest.mark.parametrize("spelling", [old, lambda content: pickle.dumps(content, protocol=3)])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i8", "<f4", "<U5"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_numbers_and_text_are_read_in_either_spelling(tmp_path, spelling, dtype, order):
    array = np.array([[1, 2, 3], [250, 5, 6]], dtype=dtype, order=order)
    data = spelling({"a": [array, array[:0]]})
    assert (b"numpy.core" in data) == (spelling is old)
    got = read(tmp_path, data)["a"]
    np.testing.assert_array_equal(got[0].values, array)
    assert got[0].values.dtype == array.dtype
    assert got[1].values.shape == (0, 3)


def test_scalars_become_plain_numbers_and_text(tmp_path):
    got = read(tmp_path, old({np.str_("Skijet/v_x"): np.uint16(300), "b": (True, None, 2.5, -7)}))
    assert got == {"Skijet/v_x": 300, "b": (True, None, 2.5, -7)}
    assert [type(key) for key in got] == [str, str]


class Code:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("function", [os.system, eval, exec, pickle.loads, np.fromfile])
def test_code_is_refused_and_never_run(tmp_path, protocol, function):
    mark = tmp_path / "run"
    argument = f"touch {mark}" if function is os.system else f"open({str(mark)!r}, 'w')"
    data = pickle.dumps({"annotations": [Code(function, argument)]}, protocol=protocol)
    with pytest.raises(ValueError, match=r"file\.pkl: not read .*(it names|the instruction)"):
        read(tmp_path, data)
    assert not mark.exists()


# 256 MB and more, were the memo made as long as its index, or a buffer as long as it claims.
LONG_MEMO = b"\x80\x03]r\xff\xff\xff\x01."
LONG_BUFFER = b"\x80\x05\x96\x00\x00\x00\x10\x00\x00\x00\x00."
STATEFUL_NAME = b"\x80\x03cnumpy.core.multiarray\nscalar\n}X\x04\x00\x00\x00callX\x01\x00\x00\x00xsb."
DTYPE_OF_OBJECTS = b"\x80\x03cnumpy\ndtype\nX\x02\x00\x00\x00O8K\x00K\x01\x87R."
DTYPE_OF_A_GIGABYTE = b"\x80\x03cnumpy\ndtype\nX\x0a\x00\x00\x00U268435456K\x00K\x01\x87R."
CALLED_CLASS = b"\x80\x03cnumpy\nndarray\nK\x05\x85R."
NEW_OBJECT = b"\x80\x03cnumpy\nndarray\nK\x05\x85\x81."
ATTRIBUTE_OF_A_NAME = b"\x80\x04\x8c\x15numpy.core.multiarray\x8c\x12scalar.__globals__\x93."
SCALAR_OF_OBJECTS = b"\x80\x03cnumpy.core.multiarray\nscalar\nK\x01K\x02\x86R."
PERSISTENT = b"\x80\x03X\x01\x00\x00\x00aQ."


@pytest.mark.parametrize(
    "data",
    [
        STATEFUL_NAME, DTYPE_OF_OBJECTS, DTYPE_OF_A_GIGABYTE, CALLED_CLASS, NEW_OBJECT, ATTRIBUTE_OF_A_NAME,
        SCALAR_OF_OBJECTS, PERSISTENT, LONG_MEMO, LONG_BUFFER, old([1, 2])[:-2], b"", b"no pickle", old(np.array([{}])),
        old(np.zeros(2, [("a", "u1")])), old(np.zeros(2, "M8[s]")), old(np.zeros(2, "c8")),
    ],
)  # fmt: skip
def test_anything_else_and_damage_are_refused_with_the_files_name(tmp_path, data):
    with pytest.raises(ValueError, match=r"file\.pkl: not read as a pickle of numbers, text and arrays"):
        read(tmp_path, data)


def test_an_array_with_fewer_bytes_than_its_shape_is_refused_when_it_is_made(tmp_path):
    data = old([np.zeros((9, 4), np.uint8)]).replace(b"K\tK\x04\x86", b"K\x0aK\x04\x86")
    (array,) = read(tmp_path, data)
    with pytest.raises(ValueError, match="reshape"):
        array.values  # noqa: B018
