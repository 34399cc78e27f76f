"""The two layouts of torch.save, checked against what torch.load takes on trust.

torch.load reads a storage of a zip with the pickle's length, whatever the record's length is, and allocates a legacy
file's storages before it looks at the file. Here every claim is held against the file first. A zip must lie exactly as
torch.save lays it out, because torch's zip reader and any other may see two different directories in an odd one.
"""

import struct
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from typing import Any

from sum3dcam.errors import CheckpointError
from sum3dcam.models.checkpoints.claims import StorageClaim
from sum3dcam.models.checkpoints.pickled import read_pickle

# Of a pickle, and of a zip's directory: a ResNeXt-101 with its optimizer takes 100 KB of each.
MAX_DESCRIPTION_BYTES = 16 << 20

LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_PROTOCOL = 1001

_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_END_BYTES, _END64_BYTES, _LOCATOR64_BYTES, _LOCAL_HEADER_BYTES = 22, 56, 20, 30
_DOS_DIRECTORY, _KNOWN_FLAGS = 0x10, 0x808


@dataclass(frozen=True)
class _Record:
    offset: int
    num_bytes: int


def check_zip(file: BufferedReader, *, num_bytes: int) -> Any:
    """The inert content of a torch.save since 1.6, every storage of which is in the file as claimed.

    Raises:
        CheckpointError: damaged, another kind of zip, or a claim that the file does not keep.
    """
    directory_start = _directory_start(file, num_bytes=num_bytes)
    try:
        infos = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, OSError, struct.error) as error:
        raise CheckpointError("the zip's directory is damaged", got=str(error)[:200]) from error
    root = _root([info.filename for info in infos])
    records = _records(file, infos, end=directory_start, has_wide_offsets=num_bytes >= 1 << 32)
    order = records.get(f"{root}/byteorder")
    if order is not None and _content(file, order) != b"little":
        raise CheckpointError("the checkpoint was written on a machine of another byte order", allowed="little")
    pickled = read_pickle(BytesIO(_content(file, records[f"{root}/data.pkl"])), num_id_fields=5)
    for claim in pickled.storages.values():
        record = records.get(f"{root}/data/{claim.key}")
        if record is None or record.num_bytes != claim.num_bytes:
            raise CheckpointError(
                f"the checkpoint's storage {claim.key[:40]!r} is not as long as its pickle claims",
                got="no such record" if record is None else f"{record.num_bytes} bytes",
                allowed=f"{claim.num_bytes} bytes",
            )
    return pickled.content


def check_legacy(file: BufferedReader, *, num_bytes: int) -> Any:
    """The inert content of a torch.save before 1.6, every storage of which is in the file as claimed.

    Raises:
        CheckpointError: damaged, another pickle, or a claim that the file does not keep.
    """
    file.seek(0)
    head = BytesIO(file.read(MAX_DESCRIPTION_BYTES))
    _check_is_no_tar(head.getvalue())
    # A pickle that is none of torch.save's may want a function: then the message names it.
    first = read_pickle(head).content
    if head.tell() != len(LEGACY_MAGIC) or not head.getvalue().startswith(LEGACY_MAGIC):
        raise CheckpointError("a pickle, but not one that torch.save wrote", got=f"it holds a {type(first).__name__}")
    if read_pickle(head).content != _LEGACY_PROTOCOL:
        raise CheckpointError("a torch.save of an unknown version", allowed=_LEGACY_PROTOCOL)
    read_pickle(head)  # facts of the machine that wrote it, which torch.load ignores too
    pickled = read_pickle(head, num_id_fields=6)
    keys = read_pickle(head).content
    if type(keys) is not list or not all(type(key) is str for key in keys) or len(set(keys)) != len(keys):
        raise CheckpointError("the checkpoint's list of storages is damaged")
    if set(keys) != set(pickled.storages):
        raise CheckpointError(
            "the checkpoint's list of storages is not of those that its tensors use",
            got=f"{len(keys)} keys",
            allowed=f"the {len(pickled.storages)} used",
        )
    _check_legacy_storages(file, [pickled.storages[key] for key in keys], start=head.tell(), num_bytes=num_bytes)
    return pickled.content


def _check_legacy_storages(file: BufferedReader, claims: Sequence[StorageClaim], *, start: int, num_bytes: int) -> None:
    """Each storage is its number of elements as int64, then the elements; they follow one another."""
    for claim in claims:
        file.seek(start)
        numel = int.from_bytes(file.read(8), "little", signed=True)
        start += 8 + claim.num_bytes
        if numel != claim.numel or start > num_bytes:
            raise CheckpointError(
                f"the checkpoint's storage {claim.key[:40]!r} is not as long as its pickle claims, or is cut off",
                got=f"{numel} elements in a file of {num_bytes} bytes",
                allowed=f"{claim.numel} elements, which would end at byte {start}",
            )


def _check_is_no_tar(head: bytes) -> None:
    """torch.load tries to read a tar first, with a parser of its own, and a tar's first bytes can be a pickle's."""
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return
    raise CheckpointError("a tar archive, as torch.save wrote before 0.2; torch.save it again with a newer torch")


def _content(file: BufferedReader, record: _Record) -> bytes:
    _check_is_short(record.num_bytes)
    file.seek(record.offset)
    return file.read(record.num_bytes)


def _check_is_short(num_bytes: int) -> None:
    if num_bytes > MAX_DESCRIPTION_BYTES:
        raise CheckpointError("the checkpoint's description is too long", got=num_bytes, allowed=MAX_DESCRIPTION_BYTES)


def _records(
    file: BufferedReader, infos: Sequence[zipfile.ZipInfo], *, end: int, has_wide_offsets: bool
) -> Mapping[str, _Record]:
    """Where the content of each record lies: stored, apart from one another, before `end`."""
    if len({info.filename.lower() for info in infos}) != len(infos):  # torch looks names up in any case
        raise CheckpointError("two records of the zip have one name", got=f"{len(infos)} records")
    records = {}
    for info in sorted(infos, key=lambda info: info.header_offset, reverse=True):
        _check_record(info, has_wide_offsets=has_wide_offsets)
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER_BYTES)
        if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(b"PK\x03\x04"):
            raise CheckpointError("a record of the zip has no header of its own", got=info.filename[:80])
        offset = info.header_offset + _LOCAL_HEADER_BYTES + sum(struct.unpack("<HH", header[26:]))
        if offset + info.file_size > end:
            raise CheckpointError(
                "a record of the zip is cut off, or overlaps another", got=info.filename[:80], allowed=f"to byte {end}"
            )
        end = info.header_offset
        records[info.filename] = _Record(offset, info.file_size)
    return records


def _directory_start(file: BufferedReader, *, num_bytes: int) -> int:
    """Offset of the directory, which must end where the end record begins, which must end the file."""
    file.seek(max(0, num_bytes - _END_BYTES - _LOCATOR64_BYTES - _END64_BYTES))
    tail = file.read()
    end = tail[-_END_BYTES:]
    if not end.startswith(_END) or not end.endswith(b"\0\0"):
        raise CheckpointError("the zip's end is missing: the file is cut off, or has something behind its end")
    size, start = struct.unpack("<LL", end[12:20])
    stop = num_bytes - len(end)
    locator = tail[-_END_BYTES - _LOCATOR64_BYTES : -_END_BYTES]
    if locator.startswith(_LOCATOR64):
        stop -= _LOCATOR64_BYTES + _END64_BYTES
        if struct.unpack("<Q", locator[8:16]) != (stop,) or not tail.startswith(_END64):
            raise CheckpointError("the zip's end is damaged")
        size, start = struct.unpack("<QQ", tail[40:56])
    if start + size != stop:
        raise CheckpointError("the zip's directory is not where it should end", got=start + size, allowed=stop)
    _check_is_short(size)
    return int(start)


def _check_record(info: zipfile.ZipInfo, *, has_wide_offsets: bool) -> None:
    name = info.filename
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise CheckpointError(
            "a record of the zip is compressed, which torch.save never does; if the checkpoint was zipped anew, "
            "unzip it to the file that was zipped",
            got=name[:80],
            allowed="stored records",
        )
    is_plain = name == info.orig_filename and name.isascii() and name.isprintable() and "\\" not in name
    if not is_plain or {"", ".."} & set(name.split("/")):  # a name in / would be a folder, which torch does not read
        raise CheckpointError("a record of the zip has an unusable name", got=repr(name[:80]))
    if info.flag_bits & ~_KNOWN_FLAGS or info.external_attr & _DOS_DIRECTORY or (info.extra and not has_wide_offsets):
        raise CheckpointError("a record of the zip is marked as torch.save never does", got=name[:80])


def _root(names: Sequence[str]) -> str:
    """The folder that torch.save puts all records into, told as torch.load does: by the first record."""
    root = next(iter(names), "").partition("/")[0]
    if f"{root}/constants.pkl" in names or any(name.startswith(f"{root}/code/") for name in names):
        what = "a TorchScript or otherwise exported model; give the checkpoint that it was exported from"
    elif "MAR-INF/MANIFEST.json" in names:
        what = "a TorchServe archive; give the checkpoint that it was built from"
    elif names and all(name.endswith(".npy") for name in names):
        what = "numpy arrays (.npz); save them as tensors with safetensors or torch.save"
    elif f"{root}/data.pkl" not in names or not all(name.startswith(f"{root}/") for name in names):
        what = "a zip that torch.save did not write"
    else:
        return root
    raise CheckpointError(
        f"no checkpoint but {what}",
        got=[name[:80] for name in names[:5]],
        allowed="a zip of NAME/data.pkl, NAME/data/0 ...",
    )
