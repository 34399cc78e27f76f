"""Real files of every container and codec at hand, and what chance and malice make of them."""

import struct
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

# Container, codec, pixel format. An encoder that this build lacks is left out.
KINDS: Mapping[str, tuple[str, str, str]] = {
    "mp4/h264": ("mp4", "libx264", "yuv420p"),
    "mp4/hevc": ("mp4", "libx265", "yuv420p"),
    "mp4/mpeg4": ("mp4", "mpeg4", "yuv420p"),
    "mp4/av1": ("mp4", "libsvtav1", "yuv420p"),
    "webm/vp9": ("webm", "libvpx-vp9", "yuv420p"),
    "webm/vp8": ("webm", "libvpx", "yuv420p"),
    "avi/mpeg4": ("avi", "mpeg4", "yuv420p"),
    "avi/mjpeg": ("avi", "mjpeg", "yuvj420p"),
    "mkv/h264": ("matroska", "libx264", "yuv420p"),
    "mkv/ffv1": ("matroska", "ffv1", "yuv420p"),
    "mov/prores": ("mov", "prores_ks", "yuv422p10le"),
    "ts/mpeg2": ("mpegts", "mpeg2video", "yuv420p"),
    "flv/h264": ("flv", "libx264", "yuv420p"),
    "ogg/theora": ("ogg", "libtheora", "yuv420p"),
    "gif": ("gif", "gif", "rgb8"),
    "apng": ("apng", "apng", "rgb24"),
    "png": ("image2pipe", "png", "rgb24"),
    "jpeg": ("image2pipe", "mjpeg", "yuvj420p"),
    "webp": ("webp", "libwebp", "yuv420p"),
    "bmp": ("image2pipe", "bmp", "bgr24"),
    "tiff": ("image2pipe", "tiff", "rgb24"),
}
_QUIET = {"libx265": {"x265-params": "log-level=none"}}
IMAGES = ("png", "jpeg", "webp", "bmp", "tiff")
NPY = "npy"
WIDTH_PX, HEIGHT_PX, NUM_FRAMES = 64, 48, 8

# Sizes and counts at which parsers go wrong.
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

Random = np.random.Generator


def seeds() -> dict[str, bytes]:
    """One small file of each kind, always the same bytes with the same encoders."""
    made = {kind: _encode(kind) for kind in KINDS if _has_encoder(KINDS[kind][1])}
    frames = _frames(NUM_FRAMES)
    buffer = BytesIO()
    np.save(buffer, frames)
    return made | {NPY: buffer.getvalue()}


def mutant(number: int, *, seed: int, files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Kind and bytes of the campaign's input of that number, kinds in turn; the same for the same seed and files."""
    random = np.random.default_rng((seed, number))
    kind = list(files)[number % len(files)]
    if kind == NPY and random.random() < 0.5:
        return kind, _npy_bomb(random)
    data = bytearray(files[kind])
    for _ in range(random.geometric(0.4)):
        data = _MUTATIONS[random.integers(len(_MUTATIONS))](data, random, files)
    # Behind a checksum that is right again, damage gets further.
    mended = _mend_png(data) if kind in ("png", "apng") and random.random() < 0.8 else data
    return kind, bytes(mended)


def _frames(num_frames: int) -> np.ndarray:
    random = np.random.default_rng(2026)
    ground = random.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    return np.stack([np.roll(ground, 3 * shift, axis=1) for shift in range(num_frames)])


def _has_encoder(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def _encode(kind: str) -> bytes:
    container, codec, pixels = KINDS[kind]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        with av.open(str(path), "w", format=container) as file:
            stream = file.add_stream(codec, rate=25, options=_QUIET.get(codec, {}))
            stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, pixels
            stream.thread_count = 1
            for pixels_HWC in _frames(1 if kind in IMAGES else NUM_FRAMES):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_HWC, "rgb24")))
            file.mux(stream.encode())
        return path.read_bytes()


def _place(data: bytearray, random: Random) -> int:
    """Half of the time in what may be a header or an index."""
    if random.random() < 0.5:
        near = int(random.integers(min(512, len(data)) or 1))
        return near if random.random() < 0.7 else max(0, len(data) - 1 - near)
    return int(random.integers(len(data) or 1))


def _flip_bits(data: bytearray, random: Random, files: Mapping[str, bytes]) -> bytearray:
    for _ in range(1 + random.geometric(0.3)):
        if data:
            data[_place(data, random)] ^= 1 << int(random.integers(8))
    return data


def _write_edge(data: bytearray, random: Random, files: Mapping[str, bytes]) -> bytearray:
    edge = _EDGES[random.integers(len(_EDGES))]
    coded = struct.pack((">" if random.random() < 0.5 else "<") + "I", edge)[: int(random.choice([1, 2, 4]))]
    at = _place(data, random)
    data[at : at + len(coded)] = coded
    return data


def _write_noise(data: bytearray, random: Random, files: Mapping[str, bytes]) -> bytearray:
    at = _place(data, random)
    length = int(min(random.geometric(0.05), len(data) - at))
    data[at : at + length] = random.bytes(length)
    return data


def _cut(data: bytearray, random: Random, files: Mapping[str, bytes]) -> bytearray:
    return data[: int(random.integers(len(data) + 1))]


def _remove(data: bytearray, random: Random, files: Mapping[str, bytes]) -> bytearray:
    at = _place(data, random)
    del data[at : at + int(random.geometric(0.05))]
    return data


def _repeat(data: bytearray, random: Random, files: Mapping[str, bytes]) -> bytearray:
    at, length = _place(data, random), int(random.geometric(0.01))
    data[at:at] = data[at : at + length] * int(random.integers(1, 20))
    return data


def _swap(data: bytearray, random: Random, files: Mapping[str, bytes]) -> bytearray:
    one, other, length = _place(data, random), _place(data, random), int(random.geometric(0.05))
    data[one : one + length], data[other : other + length] = data[other : other + length], data[one : one + length]
    return data


def _splice(data: bytearray, random: Random, files: Mapping[str, bytes]) -> bytearray:
    """The rest is another file's, from the same place on."""
    other = list(files.values())[random.integers(len(files))]
    at = _place(data, random)
    return data[:at] + other[at:]


_MUTATIONS: tuple[Callable[[bytearray, Random, Mapping[str, bytes]], bytearray], ...] = (
    _flip_bits,
    _write_edge,
    _write_noise,
    _cut,
    _remove,
    _repeat,
    _swap,
    _splice,
)


def _mend_png(data: bytearray) -> bytearray:
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return data


def _npy_bomb(random: Random) -> bytes:
    """A header that promises what its reader should not believe."""
    huge = str(2 ** int(random.integers(20, 80)))
    shapes = (f"({huge}, 16, 16, 3)", f"(16, {huge}, {huge}, 3)", "(0, 0, 0, 3)", "(-1, 16, 16, 3)", f"({huge},)")
    shape = shapes[random.integers(len(shapes))]
    headers = (
        f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}",
        f"{{'descr': '|O', 'fortran_order': False, 'shape': {shape}, }}",
        f"{{'descr': '|S{huge}', 'fortran_order': True, 'shape': {shape}, }}",
        "(" * int(random.integers(1, 9000)),
        "[" * int(random.integers(1, 9000)) + "]" * 100,
        "-" * int(random.integers(1, 9000)) + "1",
        f"{{'descr': [('a', '|u1', {shape})], 'fortran_order': False, 'shape': (1,), }}",
        "9" * int(random.integers(1, 9000)),
        "{'descr': '|u1', 'fortran_order': False, 'shape': (" + "1," * int(random.integers(1, 4000)) + ")}",
    )
    header = headers[random.integers(len(headers))].encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + random.bytes(int(random.integers(4096)))
