"""Weights files: each container reads as it was written; a hostile one is refused before torch.load is reached."""

import hashlib
import json
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sum3dcam.errors import CheckpointError
from sum3dcam.models.checkpoints import torchfile
from sum3dcam.models.checkpoints.container import (
    LEGACY_PICKLE,
    SAFETENSORS,
    ZIP_PICKLE,
    Container,
    read_container,
)
from sum3dcam.models.checkpoints.torchfile import LEGACY_MAGIC

NUM_DAMAGED = 150
DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
]


# --- good files -------------------------------------------------------------------------------------------------------


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"fc.weight": torch.randn(3, 4, generator=generator), "fc.bias": torch.randn(3, generator=generator)}


def trained() -> dict[str, Any]:
    """A checkpoint in the released layout, of a network that took one step under DataParallel's names."""
    network = nn.Sequential(
        OrderedDict(module=nn.Sequential(OrderedDict(conv=nn.Conv3d(2, 3, 1), bn=nn.BatchNorm3d(3))))
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(2, 2, 1, 2, 2)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    return {
        "epoch": 7, "arch": "resnext-101", "best": 0.5, "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "seen": {1, 2}, "note": b"abc",
        "device": torch.device("cuda:0"), "dtype": torch.float16, "size": torch.Size([1, 2]), "clip": None,
    }  # fmt: skip


def write_safetensors(content: Any, path: Path) -> None:
    save_file(content, path, metadata={"made_by": "a test"})


def write_zip(content: Any, path: Path) -> None:
    torch.save(content, path)


def write_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


WRITERS: dict[str, Callable[[Any, Path], None]] = {
    SAFETENSORS: write_safetensors, ZIP_PICKLE: write_zip, LEGACY_PICKLE: write_legacy,
}  # fmt: skip
PICKLES = [ZIP_PICKLE, LEGACY_PICKLE]


def equal(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return list(got) == list(wanted) and all(
        got[name].dtype == wanted[name].dtype and torch.equal(got[name], wanted[name]) for name in wanted
    )


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
def test_a_bare_state_dict_reads_whatever_its_name(tmp_path: Path, name: str, kind: str) -> None:
    WRITERS[kind](weights(), tmp_path / name)
    container = read_container(tmp_path / name)
    assert equal(dict(sorted(container.state.items())), dict(sorted(weights().items())))
    assert (container.kind, container.wrapper, container.extras) == (kind, "", {})
    assert container.metadata == ({"made_by": "a test"} if kind == SAFETENSORS else {})


@pytest.mark.parametrize("kind", WRITERS)
def test_every_dense_type_and_shape_reads(tmp_path: Path, kind: str) -> None:
    state = {str(dtype): torch.arange(6).reshape(1, 2, 3).to(dtype) for dtype in DTYPES}
    state |= {"one number": torch.tensor(1.5), "nothing": torch.zeros(0, 3), "the same": torch.ones(2)}
    WRITERS[kind](state, tmp_path / "w")
    assert equal(dict(sorted(read_container(tmp_path / "w").state.items())), dict(sorted(state.items())))


@pytest.mark.parametrize("kind", PICKLES)
def test_the_released_layout_reads(tmp_path: Path, kind: str) -> None:
    content = trained()
    WRITERS[kind](content, tmp_path / "w.pth")
    container = read_container(tmp_path / "w.pth")
    wanted = {name.removeprefix("module."): tensor for name, tensor in content["state_dict"].items()}
    assert wanted.pop("bn.num_batches_tracked") is not None
    assert equal(container.state, wanted)
    assert (container.wrapper, container.extras) == ("state_dict", {"epoch": 7, "arch": "resnext-101", "best": 0.5})


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_a_state_dict_is_found_under_its_usual_names(tmp_path: Path, wrapper: str, kind: str) -> None:
    WRITERS[kind]({"epoch": 1, wrapper: weights()}, tmp_path / "w")
    container = read_container(tmp_path / "w")
    assert container.wrapper == wrapper
    assert equal(container.state, weights())


@pytest.mark.parametrize("kind", PICKLES)
def test_views_of_one_storage_and_parameters_read_as_plain_tensors(tmp_path: Path, kind: str) -> None:
    rows = torch.arange(12.0).reshape(3, 4)
    state = {"rows": rows, "columns": rows.T, "last": rows[2, 1:], "trained": nn.Parameter(torch.ones(2))}
    WRITERS[kind](state, tmp_path / "w")
    read = read_container(tmp_path / "w").state
    assert equal(read, {name: tensor.detach() for name, tensor in state.items()})
    assert all(type(tensor) is Tensor and not tensor.requires_grad for tensor in read.values())


def test_every_leading_module_goes_and_no_other(tmp_path: Path) -> None:
    names = {"module.module.a": "a", "b.module.c": "b.module.c", "modules.d": "modules.d", "e": "e"}
    write_zip({name: torch.ones(1) for name in names} | {"bn.num_batches_tracked": torch.ones(1)}, tmp_path / "w")
    assert list(read_container(tmp_path / "w").state) == list(names.values())


def test_the_digest_is_the_files(tmp_path: Path) -> None:
    write_zip(weights(), tmp_path / "w")
    digest = read_container(tmp_path / "w").sha256
    assert digest == hashlib.sha256((tmp_path / "w").read_bytes()).hexdigest()


def test_what_was_read_outlives_its_file(tmp_path: Path) -> None:
    write_safetensors(weights(), tmp_path / "w")
    read = read_container(tmp_path / "w").state
    (tmp_path / "w").write_bytes(bytes((tmp_path / "w").stat().st_size))
    assert torch.equal(read["fc.bias"], weights()["fc.bias"])


# --- hostile pickles, put together by hand ----------------------------------------------------------------------------


def text(value: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    digits = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(digits)]) + digits


def several(*values: bytes) -> bytes:
    return pickle.MARK + b"".join(values) + pickle.TUPLE


def name_of(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def called(module: str, name: str, *arguments: bytes) -> bytes:
    return name_of(module, name) + several(*arguments) + pickle.REDUCE


NOTHING = called("collections", "OrderedDict")


def storage(numel: int, *view: bytes, kind: str = "FloatStorage", key: str = "0") -> bytes:
    fields = (text("storage"), name_of("torch", kind), text(key), text("cpu"), number(numel), *view)
    return several(*fields) + pickle.BINPERSID


def tensor(
    stored: bytes,
    *,
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    offset: int = 0,
    hooks: bytes = NOTHING,
) -> bytes:
    layout = (number(offset), several(*map(number, size)), several(*map(number, stride)))
    return called("torch._utils", "_rebuild_tensor_v2", stored, *layout, pickle.NEWFALSE, hooks)


def dict_of(**values: bytes) -> bytes:
    return pickle.EMPTY_DICT + pickle.MARK + b"".join(text(k) + v for k, v in values.items()) + pickle.SETITEMS


def pickled(value: bytes) -> bytes:
    return pickle.PROTO + b"\x02" + value + pickle.STOP


FOUR = np.arange(4, dtype="<f4").tobytes()
GOOD_RECORDS = {"data.pkl": pickled(dict_of(a=tensor(storage(4)))), "version": b"3\n", "data/0": FOUR}


def put_zip_of(path: Path, records: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in records.items():
            file.writestr(name, data)


def put_zip(path: Path, value: bytes | None = None, *, compression: int = zipfile.ZIP_STORED, **records: bytes) -> None:
    content = GOOD_RECORDS | ({} if value is None else {"data.pkl": pickled(value)}) | records
    put_zip_of(path, {f"w/{name}": data for name, data in content.items()}, compression=compression)


def put_legacy(path: Path, value: bytes, *, keys: tuple[str, ...] = ("0",), numel: int = 4, data: bytes = FOUR) -> None:
    heads = [number(1001), dict_of(little_endian=pickle.NEWTRUE), value]
    key_list = pickle.EMPTY_LIST + pickle.MARK + b"".join(map(text, keys)) + pickle.APPENDS
    path.write_bytes(LEGACY_MAGIC + b"".join(map(pickled, [*heads, key_list])) + struct.pack("<q", numel) + data)


def put(path: Path, kind: str, value: Callable[[bytes], bytes], *, numel: int = 4) -> None:
    """Writes `value` of a storage that claims `numel` floats, over four stored ones."""
    if kind == ZIP_PICKLE:
        put_zip(path, value(storage(numel)))
    else:
        content = value(stored := storage(numel, pickle.NONE))
        put_legacy(path, content, keys=("0",) if stored in content else (), numel=numel)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls of torch.load, which works as ever."""
    calls: list[Any] = []
    load = torch.load

    def noted(*arguments: Any, **options: Any) -> Any:
        calls.append(options)
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", noted)
    return calls


@pytest.mark.parametrize("kind", PICKLES)
def test_a_file_put_together_by_hand_reads(tmp_path: Path, kind: str, loads: list[Any]) -> None:
    """Else the refusals below could have another reason than the one they name."""
    put(tmp_path / "w", kind, lambda stored: dict_of(a=tensor(stored)))
    assert torch.equal(read_container(tmp_path / "w").state["a"], torch.arange(4.0))
    assert [(call["weights_only"], call["map_location"]) for call in loads] == [(True, "cpu")]


def test_a_file_of_python_2_reads(tmp_path: Path) -> None:
    """As torch 0.3 and 0.4 wrote it there (seen in the weights that lpips 0.1.4 ships): short strings, listed items."""

    def short(value: str) -> bytes:
        return pickle.SHORT_BINSTRING + bytes([len(value)]) + value.encode()

    fields = (short("storage"), name_of("torch.cuda", "FloatStorage"), short("0"), short("cuda:0"), number(4), b"N")
    layout = (several(*fields) + pickle.BINPERSID, number(0), several(number(4)), several(number(1)))
    tensors = {
        "module.a": called("torch._utils", "_rebuild_tensor", *layout),
        "module.b": called("torch._utils", "_rebuild_tensor_v2", *layout, pickle.NEWFALSE, pickle.NONE),
    }
    pairs = b"".join(b"](" + short(name) + value + b"e" for name, value in tensors.items())
    put_legacy(tmp_path / "w", called("collections", "OrderedDict", b"](" + pairs + b"e"))
    assert equal(read_container(tmp_path / "w").state, {"a": torch.arange(4.0), "b": torch.arange(4.0)})


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("writer", [write_zip, write_legacy, lambda v, path: path.write_bytes(pickle.dumps(v, 2))])
def test_a_pickle_with_code_is_refused_by_its_name_and_not_run(tmp_path: Path, writer: Any, loads: list[Any]) -> None:
    writer({"state_dict": {"fc.weight": Bomb(tmp_path / "fuse")}}, tmp_path / "w")
    with pytest.raises(CheckpointError, match="weights_only=False") as caught:
        read_container(tmp_path / "w")
    assert caught.value.got == "posix.system"
    assert not (tmp_path / "fuse").exists()
    assert not loads


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_of_numpy_scalars_is_refused_by_their_name(tmp_path: Path, kind: str, loads: list[Any]) -> None:
    WRITERS[kind]({"best": np.float64(0.5), "state_dict": weights()}, tmp_path / "w")
    with pytest.raises(CheckpointError, match="where you trust it") as caught:
        read_container(tmp_path / "w")
    assert "numpy" in caught.value.got
    assert not loads


# Forty pairs of a pair of a pair ...: as a dict's key they would be hashed 2^40 times.
NESTED = number(1) + b"".join(pickle.BINPUT + b"\0" + pickle.BINGET + b"\0" + pickle.TUPLE2 for _ in range(40))
BILLION = 10**9
LARGER, MALFORMED, CODE = "larger than the numbers stored", "impossible layout", "could run code"
# What the pickle says, made of a good storage of four floats -> a word of the refusal.
HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "expanded": (lambda s: dict_of(a=tensor(s, size=(BILLION,), stride=(0,))), LARGER),
    "expanded a little": (lambda s: dict_of(a=tensor(s, size=(5,), stride=(0,))), LARGER),
    "beyond its storage": (lambda s: dict_of(a=tensor(s, offset=1)), LARGER),
    "strides beyond its storage": (lambda s: dict_of(a=tensor(s, size=(2, 2), stride=(3, 1))), LARGER),
    "empty beyond its storage": (lambda s: dict_of(a=tensor(s, size=(0,), offset=5)), LARGER),
    "negative stride": (lambda s: dict_of(a=tensor(s, stride=(-1,))), MALFORMED),
    "negative offset": (lambda s: dict_of(a=tensor(s, offset=-1)), MALFORMED),
    "too few strides": (lambda s: dict_of(a=tensor(s, stride=())), "another number of strides"),
    "too many dimensions": (lambda s: dict_of(a=tensor(s, size=(1,) * 65, stride=(1,) * 65)), MALFORMED),
    "hooks": (lambda s: dict_of(a=tensor(s, hooks=NOTHING + text("k") + text("v") + pickle.SETITEM)), "hooks"),
    "a tensor with flags": (
        lambda s: dict_of(a=tensor(s).removesuffix(b"tR") + dict_of(conj=b"\x88") + b"tR"),
        "flags",
    ),
    "a parameter of nothing": (
        lambda s: called("torch._utils", "_rebuild_parameter", b"N", b"\x89", NOTHING),
        "paramet",
    ),
    "a storage as a list": (lambda s: b"]" + s.removesuffix(b"tQ") + b"eQ", "than a storage"),
    "no storage": (lambda s: dict_of(a=tensor(number(4))), "without a storage"),
    "tensor of one argument": (lambda s: called("torch._utils", "_rebuild_tensor_v2", s), "with 1 arguments"),
    "one storage, two lengths": (lambda s: dict_of(a=tensor(s), b=s.replace(number(4), number(3))), "two lengths"),
    "bytearray(10^9)": (lambda s: called("__builtin__", "bytearray", number(BILLION)), CODE),
    "Tensor(10^9)": (lambda s: called("torch", "Tensor", number(BILLION)), CODE),
    "UntypedStorage(10^9)": (lambda s: called("torch.storage", "UntypedStorage", number(BILLION)), CODE),
    "FloatStorage(10^9)": (lambda s: called("torch", "FloatStorage", number(BILLION)), "no function"),
    "eval": (lambda s: called("__builtin__", "eval", text("1")), CODE),
    "a key of nested pairs": (lambda s: pickle.EMPTY_DICT + NESTED + b"Ns", "a key that is neither"),
    "a set of nested pairs": (lambda s: called("__builtin__", "set", b"]" + NESTED + b"a"), "a key that is neither"),
    "a key that collides": (lambda s: pickle.EMPTY_DICT + number(2**61 - 1) + b"Ns", "a key that is neither"),
    "a memo of 2^32": (lambda s: b"N" + pickle.LONG_BINPUT + b"\xff\xff\xff\xff", "holds no state dict"),
    "text longer than the file": (lambda s: pickle.BINUNICODE + b"\xff\xff\xff\xff", "4294967295 bytes announced"),
    "text of 2^62 bytes": (lambda s: pickle.BINUNICODE8 + struct.pack("<Q", 1 << 62), "instruction"),
    "bytes of 2^62 bytes": (lambda s: pickle.BINBYTES8 + struct.pack("<Q", 1 << 62), "instruction"),
    "a number of 2^31 digits": (lambda s: pickle.LONG4 + struct.pack("<i", (1 << 31) - 1), "instruction"),
    "a frame of 2^62 bytes": (lambda s: pickle.FRAME + struct.pack("<Q", 1 << 62), "instruction"),
    "tuples nested deep": (lambda s: b"(" * 100_000 + pickle.TUPLE * 100_000, "holds no state dict"),
    "lists nested deep": (lambda s: b"]" * 100_000 + pickle.APPEND * 99_999, "holds no state dict"),
    "a million and one instructions": (lambda s: b"N" * 1_000_001, "too long"),
    "a list of itself": (lambda s: b"]q\x00h\x00a", "holds no state dict"),
    "a dict of itself": (lambda s: b"}q\x00" + text("state_dict") + b"h\x00s", "no state dict of tensors"),
    "attributes of a tensor": (lambda s: tensor(s) + dict_of(x=b"N") + pickle.BUILD, "attributes"),
    "metadata of a tensor": (lambda s: tensor(s) + dict_of(_metadata=b"N") + pickle.BUILD, "attributes"),
    "attributes of a function": (lambda s: name_of("torch", "Size") + dict_of(x=b"N") + pickle.BUILD, "attributes"),
    "a method of the state dict": (lambda s: NOTHING + dict_of(items=b"N") + pickle.BUILD, "attributes"),
    "a call of a text": (lambda s: text("os.system") + several(text("true")) + pickle.REDUCE, "no function"),
    "a call with a list": (lambda s: name_of("collections", "OrderedDict") + b"]" + pickle.REDUCE, "no function"),
    "an ordered dict of a number": (lambda s: called("collections", "OrderedDict", number(3)), "than pairs"),
    "a reference to a module": (lambda s: several(text("module"), b"N", b"N", b"N") + b"Q", "than a storage"),
    "a reference to a text": (lambda s: text("storage") + pickle.BINPERSID, "than a storage"),
    "too little on the stack": (lambda s: b"N" + pickle.TUPLE2, "too few values"),
    "nothing on the stack": (lambda s: b"", "pop from empty list"),
    "no mark": (lambda s: pickle.TUPLE, "pop from empty list"),
    "no such memo": (lambda s: pickle.BINGET + b"\x07", "near its byte .* got: 7"),
    "an item of a text": (lambda s: text("a") + text("b") + pickle.APPEND, "than a list"),
    "an item set in a list": (lambda s: pickle.EMPTY_LIST + text("b") + text("b") + pickle.SETITEM, "than a dict"),
    "a key without a value": (lambda s: pickle.EMPTY_DICT + b"(" + text("b") + pickle.SETITEMS, "than a dict"),
    "text that is none": (lambda s: pickle.BINUNICODE + b"\x01\0\0\0\xff", "decode"),
    "a name without end": (lambda s: pickle.GLOBAL + b"torch", "without an end"),
}


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_pickle_is_refused_inert(tmp_path: Path, case: str, kind: str, loads: list[Any]) -> None:
    value, word = HOSTILE[case]
    put(tmp_path / "w", kind, value)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=word):
            read_container(tmp_path / "w")
        assert tracemalloc.get_traced_memory()[1] < 100e6  # the longest are a million stack entries of eight bytes
    finally:
        tracemalloc.stop()
    assert not loads


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("numel", [BILLION, 1 << 62, 5, 3, 0, -1])
def test_a_storage_of_another_length_than_claimed_is_refused(
    tmp_path: Path, numel: int, kind: str, loads: list[Any]
) -> None:
    put(tmp_path / "w", kind, lambda stored: dict_of(a=tensor(stored, size=(0,))), numel=numel)
    if kind == LEGACY_PICKLE and numel in (0, 3):
        assert read_container(tmp_path / "w").state["a"].shape == (0,)  # it is there, with bytes to spare behind it
    else:
        with pytest.raises(CheckpointError):
            read_container(tmp_path / "w")
        assert not loads


def test_a_legacy_storage_of_another_length_than_its_own_is_refused(tmp_path: Path, loads: list[Any]) -> None:
    put_legacy(tmp_path / "w", dict_of(a=tensor(storage(4, pickle.NONE))), numel=3)
    with pytest.raises(CheckpointError, match="not as long as its pickle claims"):
        read_container(tmp_path / "w")
    assert not loads


@pytest.mark.parametrize(
    ("kind", "view", "word"),
    [
        (ZIP_PICKLE, b"N", "something else than a storage"),
        (LEGACY_PICKLE, b"", "something else than a storage"),
        (LEGACY_PICKLE, several(text("1"), number(0), number(BILLION)), "inside another"),
    ],
)
def test_a_storage_named_in_another_form_is_refused(
    tmp_path: Path, kind: str, view: bytes, word: str, loads: list[Any]
) -> None:
    value = dict_of(a=tensor(storage(4, view)))
    if kind == ZIP_PICKLE:
        put_zip(tmp_path / "w", value)
    else:
        put_legacy(tmp_path / "w", value)
    with pytest.raises(CheckpointError, match=word):
        read_container(tmp_path / "w")
    assert not loads


@pytest.mark.parametrize("keys", [(), ("0", "0"), ("1",), ("0", "1")])
def test_a_legacy_list_of_other_storages_is_refused(tmp_path: Path, keys: tuple[str, ...], loads: list[Any]) -> None:
    put_legacy(tmp_path / "w", dict_of(a=tensor(storage(4, pickle.NONE))), keys=keys)
    with pytest.raises(CheckpointError, match="list of storages"):
        read_container(tmp_path / "w")
    assert not loads


def test_a_legacy_pickle_that_is_a_tar_too_is_refused(tmp_path: Path, loads: list[Any]) -> None:
    member = tarfile.TarInfo()
    member.size = 1 << 40
    block = bytearray(member.tobuf(format=tarfile.GNU_FORMAT))
    block[: len(LEGACY_MAGIC)] = LEGACY_MAGIC
    total = sum(block[:148]) + sum(block[156:512]) + 8 * ord(" ")
    block[148:156] = f"{total:06o}\0 ".encode()
    (tmp_path / "w").write_bytes(block)
    with pytest.raises(CheckpointError, match="a tar archive"):
        read_container(tmp_path / "w")
    assert not loads


# --- hostile zips -----------------------------------------------------------------------------------------------------


def edited(path: Path, change: Callable[[bytearray], None]) -> None:
    put_zip(path)
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def lie(name: str, at: int, layout: str, *values: int) -> Callable[[bytearray], None]:
    """Writes into the directory's entry of `name`, which begins 46 bytes ahead of the name's last occurrence."""
    return lambda content: struct.pack_into(layout, content, content.rindex(name.encode()) - 46 + at, *values)


END = -22  # where the end record of a zip without comment begins


def lie_at_end(at: int, value: int) -> Callable[[bytearray], None]:
    return lambda content: struct.pack_into("<H", content, len(content) + END + at, value)


def inserted(at: int, extra: bytes) -> Callable[[bytearray], None]:
    return lambda content: content.__setitem__(slice(at, at), extra)


def second_end(signature: bytes, *, away: int = 0) -> Callable[[bytearray], None]:
    """A zip64 end record of no entries, and its locator, which points so many bytes away from it."""

    def change(content: bytearray) -> None:
        start = len(content) + END
        locator = b"PK\x06\x07" + struct.pack("<LQL", 0, start + away, 1)
        content[start:start] = signature + bytes(52) + locator

    return change


HOSTILE_ZIPS: dict[str, tuple[Callable[[Path], None], str]] = {
    "compressed": (lambda path: put_zip(path, compression=zipfile.ZIP_DEFLATED), "compressed"),
    "called compressed": (lambda path: edited(path, lie("w/data/0", 10, "<H", 8)), "compressed"),
    "a bomb": (lambda path: put_zip(path, compression=zipfile.ZIP_DEFLATED, bomb=bytes(10**7)), "compressed"),
    "other byte order": (lambda path: put_zip(path, byteorder=b"big"), "byte order"),
    "one name in two cases": (lambda path: put_zip(path, **{"DATA/0": FOUR}), "one name"),
    "name outside": (lambda path: put_zip(path, **{"../w": b""}), "unusable name"),
    "backslash": (lambda path: put_zip(path, **{"a\\b": b""}), "unusable name"),
    "folder": (lambda path: put_zip(path, **{"a/": b""}), "unusable name"),
    "no folder": (lambda path: put_zip_of(path, {"data.pkl": b"", "data/0": FOUR}), "did not write"),
    "absolute name": (lambda path: put_zip_of(path, {"/w/data.pkl": b"", "/w/data/0": FOUR}), "did not write"),
    "no such storage": (lambda path: put_zip_of(path, {"w/data.pkl": GOOD_RECORDS["data.pkl"]}), "no such record"),
    "larger than the file": (lambda path: edited(path, lie("w/data/0", 20, "<LL", 10**9, 10**9)), "cut off"),
    "longer than it is": (lambda path: edited(path, lie("w/data/0", 24, "<L", 10**9)), "compressed"),
    "marked as a folder": (lambda path: edited(path, lie("w/data/0", 38, "<B", 0x10)), "marked"),
    "encrypted": (lambda path: edited(path, lie("w/data/0", 8, "<H", 1)), "marked"),
    "at one place": (lambda path: edited(path, lie("w/version", 42, "<L", 0)), "overlaps"),
    "without a header": (lambda path: edited(path, lie("w/version", 42, "<L", 1)), "no header"),
    "directory elsewhere": (lambda path: edited(path, lie_at_end(16, 0)), "directory is not where"),
    "directory beyond the file": (lambda path: edited(path, lie_at_end(12, 60_000)), "directory is not where"),
    "something ahead": (lambda path: edited(path, inserted(0, b"PK\x03\x04 a script")), "directory is not where"),
    "something behind": (lambda path: edited(path, lambda content: content.extend(b"more")), "end is missing"),
    "an end with a comment": (lambda path: edited(path, lie_at_end(20, 1)), "end is missing"),
    "another end elsewhere": (lambda path: edited(path, second_end(b"PK\x06\x06", away=-9)), "end is damaged"),
    "another end that is none": (lambda path: edited(path, second_end(b"none")), "end is damaged"),
    "another end of no records": (lambda path: edited(path, second_end(b"PK\x06\x06")), "directory is not where"),
}


@pytest.mark.parametrize("case", HOSTILE_ZIPS)
def test_a_hostile_zip_is_refused(tmp_path: Path, case: str, loads: list[Any]) -> None:
    write, word = HOSTILE_ZIPS[case]
    write(tmp_path / "w")
    with pytest.raises(CheckpointError, match=word):
        read_container(tmp_path / "w")
    assert not loads


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name_are_refused(tmp_path: Path, loads: list[Any]) -> None:
    put_zip(tmp_path / "w")
    with zipfile.ZipFile(tmp_path / "w", "a") as file:
        file.writestr("w/data/0", FOUR)
    with pytest.raises(CheckpointError, match="two records"):
        read_container(tmp_path / "w")
    assert not loads


def test_a_record_with_sizes_of_its_own_is_refused(tmp_path: Path, loads: list[Any]) -> None:
    """Readers differ in which of an entry's extra sizes they take; a file below 4 GiB needs none."""
    put_zip(tmp_path / "w")
    with zipfile.ZipFile(tmp_path / "w", "a") as file:
        info = zipfile.ZipInfo("w/data/1")
        info.extra = struct.pack("<HHQ", 1, 8, 10**9)
        file.writestr(info, FOUR)
    with pytest.raises(CheckpointError, match="marked"):
        read_container(tmp_path / "w")
    assert not loads


@pytest.mark.parametrize(("limit", "word"), [(400, "got: 656"), (100, "got: 165")])
def test_a_description_without_measure_is_refused(
    tmp_path: Path, limit: int, word: str, loads: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pickle is 656 bytes long, the directory 165."""
    put_zip(tmp_path / "w", dict_of(a=tensor(storage(4)), note=text("x" * 500)))
    monkeypatch.setattr(torchfile, "MAX_DESCRIPTION_BYTES", limit)
    with pytest.raises(CheckpointError, match=f"too long; {word}"):
        read_container(tmp_path / "w")
    assert not loads


# --- hostile safetensors ----------------------------------------------------------------------------------------------


def put_safetensors(path: Path, header: Mapping[str, Any], *, length: int | None = None) -> None:
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head) if length is None else length) + head + FOUR)


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry([BILLION], 0, 16)},
        {"a": entry([BILLION], 0, 4 * BILLION)},
        {"a": entry([4], 0, 16), "b": entry([4], 0, 16)},
        {"a": entry([2], 0, 8)},
        {"a": entry([4], 16, 0)},
        {"a": entry([0, 1 << 63], 0, 0), "b": entry([4], 0, 16)},
        {"a": entry([4], 0, 16, dtype="X9")},
        {"a": entry([2], 0, 16, dtype="C64")},
        {"a": 3},
        {},
    ],
)
def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path, header: Mapping[str, Any]) -> None:
    put_safetensors(tmp_path / "w", {"a": entry([4], 0, 16)})
    assert torch.equal(read_container(tmp_path / "w").state["a"], torch.arange(4.0))
    put_safetensors(tmp_path / "w", header)
    with pytest.raises(CheckpointError):
        read_container(tmp_path / "w")


@pytest.mark.parametrize("length", [0, 1, 10**6, 10**9, (1 << 64) - 1])
def test_a_safetensors_header_of_another_length_is_refused(tmp_path: Path, length: int) -> None:
    put_safetensors(tmp_path / "w", {"a": entry([4], 0, 16)}, length=length)
    with pytest.raises(CheckpointError):
        read_container(tmp_path / "w")


# --- what is none -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize(
    ("content", "got"),
    [
        (3, "int"),
        ([torch.zeros(2)], "list"),
        ({}, {}),
        ({"state_dict": {"a": 3}}, {"a": "int"}),
        ({"state_dict": {"net": {"a": torch.zeros(1)}}}, {"net": "dict"}),
        ({"epoch": 3, "weights": {"a": torch.zeros(2)}}, {"epoch": "int", "weights": "dict"}),
        ({0: torch.zeros(2)}, {"0": "tensor (2,)"}),
        ({"bn.num_batches_tracked": torch.zeros(1)}, ["bn.num_batches_tracked"]),
        ({"a": torch.zeros(1), "module.a": torch.zeros(1)}, "a"),
    ],
)
def test_a_pickle_without_a_state_dict_is_refused_saying_what_it_holds(
    tmp_path: Path, content: Any, got: Any, kind: str
) -> None:
    WRITERS[kind](content, tmp_path / "w")
    with pytest.raises(CheckpointError) as caught:
        read_container(tmp_path / "w")
    assert caught.value.got == got


@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore:Sparse")
@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize(
    ("word", "make"),
    [
        ("complex", lambda: torch.zeros(2, dtype=torch.complex64)),
        ("quantized", lambda: torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8)),
        ("sparse", lambda: torch.ones(2).to_sparse()),
        ("meta", lambda: torch.zeros(2, device="meta")),
    ],
)
def test_tensors_that_no_network_takes_are_named(
    tmp_path: Path, word: str, make: Callable[[], Tensor], kind: str, loads: list[Any]
) -> None:
    WRITERS[kind]({"a": make()}, tmp_path / "w")
    with pytest.raises(CheckpointError, match=word):
        read_container(tmp_path / "w")
    assert not loads


def written_torchscript(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), path)


def written_onnx(path: Path) -> None:
    import onnx

    graph = onnx.helper.make_graph([], "g", [], [])
    path.write_bytes(onnx.helper.make_model(graph, producer_name="a test").SerializeToString())


def written_archive(path: Path) -> None:
    put_zip_of(path, {"MAR-INF/MANIFEST.json": b"{}", "model.onnx": b""}, compression=zipfile.ZIP_DEFLATED)


def written_arrays(path: Path, save: Any, **arrays: Any) -> None:
    with path.open("wb") as file:
        save(file, **arrays)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    ("word", "write"),
    [
        ("TorchScript", written_torchscript),
        ("ONNX", written_onnx),
        ("TorchServe archive", written_archive),
        ("npz", lambda path: written_arrays(path, np.savez, a=np.ones(2))),
        ("npz", lambda path: written_arrays(path, np.savez_compressed, a=np.ones(2))),
        ("npy", lambda path: written_arrays(path, np.save, arr=np.ones(2))),
        ("HDF5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))),
        ("web page", lambda path: path.write_bytes(b"\n <!DOCTYPE html><html>Quota exceeded</html>")),
        ("LFS pointer", lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0")),
        ("gzip", lambda path: path.write_bytes(b"\x1f\x8b\x08\x00")),
        ("empty zip", lambda path: put_zip_of(path, {})),
        ("is empty", lambda path: path.write_bytes(b"")),
        ("neither", lambda path: path.write_bytes(b"not a checkpoint at all")),
        ("neither", lambda path: path.write_bytes(bytes(64))),
        ("zip that torch.save did not write", lambda path: put_zip_of(path, {"a/b": b""})),
        ("not one that torch.save wrote", lambda path: path.write_bytes(pickle.dumps([1], 2))),
        ("another protocol", lambda path: path.write_bytes(pickle.dumps([1], 5))),
        ("another protocol", lambda path: torch.save({"a": torch.ones(1)}, path, pickle_protocol=4)),
        (
            "pickle of another protocol",
            lambda path: put_zip(path, **{"data.pkl": b"\x80\x03" + GOOD_RECORDS["data.pkl"][2:]}),
        ),
        ("no such weights file", lambda path: None),
        ("a folder", lambda path: path.mkdir()),
    ],
)
def test_another_file_given_by_mistake_is_named(
    tmp_path: Path, word: str, write: Callable[[Path], None], loads: list[Any]
) -> None:
    write(tmp_path / "w")
    with pytest.raises(CheckpointError, match=word):
        read_container(tmp_path / "w")
    assert not loads


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, kind: str, loads: list[Any]) -> None:
    WRITERS[kind](weights() if kind == SAFETENSORS else {"epoch": 1, "state_dict": weights()}, tmp_path / "w")
    content = (tmp_path / "w").read_bytes()
    for length in range(len(content)):
        (tmp_path / "w").write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_container(tmp_path / "w")
    assert not loads


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_with_flipped_bits_reads_or_is_refused_and_nothing_else(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](weights() if kind == SAFETENSORS else {"epoch": 1, "state_dict": weights()}, tmp_path / "w")
    content, random, refused = (tmp_path / "w").read_bytes(), Random(0), 0
    for _ in range(NUM_DAMAGED):
        damaged = bytearray(content)
        for _ in range(random.choice([1, 1, 2, 8])):
            damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
        (tmp_path / "w").write_bytes(damaged)
        try:
            assert isinstance(read_container(tmp_path / "w"), Container)
        except CheckpointError:
            refused += 1
    assert NUM_DAMAGED / 10 < refused < NUM_DAMAGED
