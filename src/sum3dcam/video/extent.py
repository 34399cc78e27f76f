"""How many bytes a container says it has: what tells a cut file from a short video."""

import struct
from collections.abc import Callable, Mapping

# Top-level boxes of mp4 and mov; what follows the last known one is a camera's own appendix.
_BOXES = frozenset(b"ftyp moov mdat free skip wide moof mfra sidx ssix styp uuid meta pnot udta prft emsg".split())


def _iso_media(data: bytes) -> int:
    """mp4, mov: the end of the last top-level box."""
    end = 0
    while len(data) - end >= 8:
        size, kind = struct.unpack_from(">I4s", data, end)
        if size == 1 and len(data) - end >= 16:
            (size,) = struct.unpack_from(">Q", data, end + 8)
        if size < 8 or kind not in _BOXES:
            break  # a size of 0 is "up to the end of the file"
        end += size
    return end


def _riff(data: bytes) -> int:
    """avi, webp, wav: the first chunk's size, even-padded; 0 and all ones are what a live writer leaves."""
    (size,) = struct.unpack_from("<I", data, 4)
    return 0 if size == 0xFFFFFFFF else 8 + int(size)


def _ebml_size(data: bytes, at: int) -> tuple[int | None, int]:
    """An EBML length and the place behind it; None for "unknown" (live streams)."""
    width = 9 - data[at].bit_length()
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), at + width


def _matroska(data: bytes) -> int:
    """matroska, webm: the end of the segment behind the EBML header."""
    header, at = _ebml_size(data, 4)
    at += header or 0
    if data[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    segment, at = _ebml_size(data, at + 4)
    return 0 if segment is None else at + segment


def _gif(data: bytes) -> int:
    """gif: ends with its trailer byte, zero bytes may follow; one byte more than there are where it is missing."""
    return 0 if data.rstrip(b"\0").endswith(b"\x3b") else len(data) + 1


def _jpeg(data: bytes) -> int:
    """jpeg: an end marker follows the first scan; one byte more than there are where it is missing."""
    at = 2
    while data[at] == 0xFF and data[at + 1] != 0xDA:  # segments up to the first scan; a thumbnail hides in one
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return 0 if data.find(b"\xff\xd9", at) >= 0 else len(data) + 1


def _mpegts(data: bytes) -> int:
    """mpegts: whole packets of 188 bytes; the stream itself has no end."""
    return -(-len(data) // 188) * 188 if data[188] == data[0] else 0


_EXTENT: Mapping[bytes, tuple[int, Callable[[bytes], int]]] = {
    b"ftyp": (4, _iso_media),
    b"moov": (4, _iso_media),
    b"mdat": (4, _iso_media),
    b"RIFF": (0, _riff),
    b"GIF8": (0, _gif),
    b"G": (0, _mpegts),  # the sync byte; after GIF8, which begins with it too
    b"\xff\xd8\xff": (0, _jpeg),
    b"\x1a\x45\xdf\xa3": (0, _matroska),
}


def declared_bytes(data: bytes) -> int:
    """The length that the container declares for itself, 0 where it declares none.

    >>> declared_bytes(b"RIFF" + struct.pack("<I", 100) + b"AVI ")
    108
    """
    for magic, (at, extent) in _EXTENT.items():
        if data.startswith(magic, at):
            try:
                return extent(data)
            except (IndexError, struct.error):
                return 0  # too short even for its header: the demuxer says so
    return 0
