"""Times decoding in several ways at several sizes, interleaved, after all have given the same frames; then what a
process of its own adds."""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import click
import cv2
import numpy as np
from numpy.typing import NDArray
from origin import origin
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from sum3dcam.video.decode import decode
from sum3dcam.video.footage import DecodeLimits, FrameSpec
from sum3dcam.video.geometry import PREPROCESSING, Geometry
from sum3dcam.video.isolation.pool import DecoderPool
from sum3dcam.video.media import SCALING

SIZES: Mapping[str, tuple[int, int]] = {"240p": (426, 240), "540p": (960, 540), "1080p": (1920, 1080)}
SIZE_PX = 112
PREPROCESSING_NAME = "shorter-side-centre-crop"
SPEC = FrameSpec(
    size_px=SIZE_PX, preprocessing=PREPROCESSING_NAME, clip_length=16, streams=("rgb",), frames_per_second=None
)
WARM_UP = 1
MS = 1e3
# Mean over the pixels, of 255: another scaler reads the same picture otherwise; a shifted frame differs by 20 and more.
OTHER_SCALER_TOLERANCE = 6.0
OURS = "sum3dcam"
OWN_SCALERS = ("OpenCV", "filter graph")

Frames = NDArray[np.uint8]
Program = Callable[[Path], Frames]


def encode(name: str, *, codec: str, num_frames: int) -> bytes:
    """A textured ground that moves, with a still square: detail and motion for the codec."""
    width, height = SIZES[name]
    random = np.random.default_rng(0)
    ground = cv2.resize(random.integers(0, 256, (height // 8, width // 8, 3), np.uint8), (2 * width, height))
    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(num_frames):
            frame = np.ascontiguousarray(ground[:, 4 * number : 4 * number + width])
            frame[: height // 4, : width // 4] = 40 + 3 * number
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()


def ours(path: Path) -> Frames:
    return _decode(path.read_bytes())


def _decode(data: bytes) -> Frames:
    return decode(data, size_px=SIZE_PX, limits=DecodeLimits(), preprocessing=PREPROCESSING_NAME).frames_THWC


def with_threads(kind: str, count: int) -> Program:
    """PyAV with the codec's own threads, scaled frame by frame as the project does."""

    def run(path: Path) -> Frames:
        with _stream(path, kind=kind, count=count) as (container, stream):
            geometry, resize = _geometry(stream), av.video.reformatter.VideoReformatter()
            return np.stack(
                [
                    _cut(
                        resize.reformat(
                            frame,
                            width=geometry.resized_width_px,
                            height=geometry.resized_height_px,
                            format="rgb24",
                            interpolation=SCALING,
                            threads=1,
                        ).to_ndarray(),
                        geometry,
                    )
                    for frame in container.decode(stream)
                ]
            )

    return run


def with_filters(path: Path) -> Frames:
    """PyAV with scaling, cropping and conversion in FFmpeg's filter graph."""
    with _stream(path, kind="NONE", count=1) as (container, stream):
        geometry = _geometry(stream)
        graph = av.filter.Graph()
        graph.threads = 1
        graph.link_nodes(
            graph.add_buffer(template=stream),
            graph.add(
                "scale",
                f"{geometry.resized_width_px}:{geometry.resized_height_px}:flags=bilinear+accurate_rnd+bitexact",
            ),
            graph.add("format", "rgb24"),
            graph.add("crop", f"{SIZE_PX}:{SIZE_PX}:{geometry.crop_left_px}:{geometry.crop_top_px}:exact=1"),
            graph.add("buffersink"),
        ).configure()
        frames = []
        for frame in container.decode(stream):
            graph.vpush(frame)
            frames.append(graph.vpull().to_ndarray())
        return np.stack(frames)


def decode_alone(path: Path) -> int:
    """The codec's own share: every frame decoded, none scaled."""
    with _stream(path, kind="NONE", count=1) as (container, stream):
        return sum(1 for _ in container.decode(stream))


def opencv(path: Path) -> Frames:
    """OpenCV's reader and its area scaler, the one that shrinks properly."""
    capture = cv2.VideoCapture(str(path))
    geometry, frames = None, []
    while True:
        found, frame_BGR = capture.read()
        if not found:
            break
        geometry = geometry or _preprocess(frame_BGR.shape[1], frame_BGR.shape[0])
        size = (geometry.resized_width_px, geometry.resized_height_px)
        small = cv2.resize(frame_BGR, size, interpolation=cv2.INTER_AREA)
        frames.append(_cut(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), geometry))
    capture.release()
    return np.stack(frames)


@contextmanager
def _stream(path: Path, *, kind: str, count: int) -> Iterator[tuple[Any, Any]]:
    with av.open(BytesIO(path.read_bytes())) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = kind, count
        yield container, stream


def _preprocess(width_px: int, height_px: int) -> Geometry:
    return PREPROCESSING[PREPROCESSING_NAME](width_px, height_px, size_px=SIZE_PX)


def _geometry(stream: Any) -> Geometry:
    return _preprocess(stream.codec_context.width, stream.codec_context.height)


def _cut(small_HWC: Frames, geometry: Geometry) -> Frames:
    top, left = geometry.crop_top_px, geometry.crop_left_px
    return np.ascontiguousarray(small_HWC[top : top + SIZE_PX, left : left + SIZE_PX])


def same_frames(programs: Mapping[str, Program], path: Path) -> tuple[dict[str, Program], dict[str, float]]:
    """The programs whose frames are ours, to the bit or, of another scaler, nearly; and by how much they differ."""
    wanted = ours(path)
    right, differences = {}, {}
    for name, program in programs.items():
        got = program(path)
        difference = float(np.abs(got.astype(int) - wanted).mean()) if got.shape == wanted.shape else float("inf")
        if difference > (OTHER_SCALER_TOLERANCE if name.endswith(OWN_SCALERS) else 0.0):
            print(f"left out at {path.stem}: {name}: {got.shape}, differs by {difference:.2f}", file=sys.stderr)
        else:
            right[name], differences[name] = program, round(difference, 3)
    return right, differences


def time_interleaved(programs: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
    """Seconds, every program once, then all again: what disturbs the machine disturbs all of them."""
    samples: dict[str, list[float]] = {name: [] for name in programs}
    for repeat in range(-WARM_UP, repeats):
        for name, program in programs.items():
            began = time.perf_counter()
            program()
            if repeat >= 0:
                samples[name].append(time.perf_counter() - began)
    return samples


def time_isolation(files: Mapping[str, bytes], *, repeats: int) -> dict[str, Any]:
    """One file at a time, here and in a process of its own; and how long it takes until processes are ready."""
    starts = []
    for processes in (1, 2, 2):
        began = time.perf_counter()
        pool = DecoderPool(SPEC, limits=DecodeLimits(), processes=processes)
        pool.wait_ready()
        starts.append({"processes": processes, "seconds": time.perf_counter() - began})
        if len(starts) < 3:
            pool.close()
    programs: dict[str, Callable[[], object]] = {}
    for name, data in files.items():
        programs[f"{name}: here"] = partial(_decode, data)
        programs[f"{name}: process"] = lambda data=data: pool.submit(data).result()
        programs[f"{name}: 8 here"] = lambda data=data: [_decode(data) for _ in range(8)]
        programs[f"{name}: 8 in 2 processes"] = lambda data=data: [
            future.result() for future in [pool.submit(data) for _ in range(8)]
        ]
    samples = time_interleaved(programs, repeats=repeats)
    pool.close()
    return {"starts": starts, "seconds": samples}


@click.command()
@click.option("--frames", "num_frames", default=64, show_default=True, type=click.IntRange(2))
@click.option("--repeats", default=10, show_default=True, type=click.IntRange(3))
@click.option("--codec", default="libx264", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/bench/decode.json"), show_default=True)
def main(num_frames: int, repeats: int, codec: str, output: Path) -> None:
    """Milliseconds per video from a file's bytes to frames of 112 pixels."""
    programs: dict[str, Program] = {
        OURS: ours,
        "PyAV, one thread": with_threads("NONE", 1),
        "PyAV, slice threads": with_threads("SLICE", 0),
        "PyAV, frame threads": with_threads("FRAME", 0),
        "PyAV, filter graph": with_filters,
        "OpenCV": opencv,
    }
    rows, files = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in tqdm(SIZES, desc="sizes", disable=None):
            path = Path(folder) / f"{name}.mp4"
            files[name] = encode(name, codec=codec, num_frames=num_frames)
            path.write_bytes(files[name])
            right, differences = same_frames(programs, path)
            timed: dict[str, Callable[[], object]] = {
                program_name: partial(run, path) for program_name, run in right.items()
            }
            timed["the codec alone, one thread"] = partial(decode_alone, path)
            for program_name, samples in time_interleaved(timed, repeats=repeats).items():
                rows.append(
                    {
                        **{"size": name, "file_bytes": len(files[name]), "program": program_name},
                        **{"mean_difference": differences.get(program_name), "seconds": samples},
                    }
                )
    short = encode("240p", codec=codec, num_frames=16)
    report = {
        **origin(),
        **{"num_frames": num_frames, "size_px": SIZE_PX, "codec": codec},
        "videos": rows,
        "isolation": time_isolation({"240p, 16 frames": short, **files}, repeats=repeats),
        "npy": time_npy(repeats=repeats),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


def time_npy(*, repeats: int) -> dict[str, Any]:
    """An array of 16x112x112: RGB, read in the server; flow, which goes to a process and back as it is."""
    random = np.random.default_rng(0)
    programs: dict[str, Callable[[], object]] = {}
    pools, sizes = [], {}
    for stream, channels in (("rgb", 3), ("flow", 2)):
        buffer = BytesIO()
        np.save(buffer, random.integers(0, 256, (16, SIZE_PX, SIZE_PX, channels), np.uint8))
        data, spec = buffer.getvalue(), replace(SPEC, streams=(stream,))
        pools.append(DecoderPool(spec, limits=DecodeLimits(), processes=1))
        pools[-1].wait_ready()
        sizes[stream] = len(data)
        programs[f"{stream}: here"] = partial(decode, data, limits=DecodeLimits(), **vars(spec))
        programs[f"{stream}: pool"] = lambda data=data, pool=pools[-1]: pool.submit(data).result()
    samples = time_interleaved(programs, repeats=20 * repeats)
    for pool in pools:
        pool.close()
    return {"bytes": sizes, "seconds": samples}


def show(report: Mapping[str, Any]) -> None:
    console = Console(width=max(Console().width, 110))
    table = Table(title=f"{report['num_frames']} frames of {report['codec']} to 112 pixels", title_justify="left")
    for column in ("size", "program"):
        table.add_column(column)
    for column in ("ms per video", "min..max", "ours / this", "differs by"):
        table.add_column(column, justify="right")
    medians = {(row["size"], row["program"]): statistics.median(row["seconds"]) for row in report["videos"]}
    for row in report["videos"]:
        median = medians[row["size"], row["program"]]
        table.add_row(
            *(row["size"], row["program"], *_times(row["seconds"]), f"{medians[row['size'], OURS] / median:.2f}"),
            "" if row["mean_difference"] is None else f"{row['mean_difference']:.2f}",
        )
    console.print(table)
    table = Table(title="in processes of their own", title_justify="left")
    table.add_column("what")
    for column in ("ms", "min..max"):
        table.add_column(column, justify="right")
    for name, samples in report["isolation"]["seconds"].items():
        table.add_row(name, *_times(samples))
    for name, samples in report["npy"]["seconds"].items():
        table.add_row(f".npy of {name}", *_times(samples))
    for start in report["isolation"]["starts"]:
        table.add_row(f"start of {start['processes']}", f"{start['seconds'] * MS:.0f}", "")
    console.print(table)


def _times(samples: list[float]) -> tuple[str, str]:
    return f"{statistics.median(samples) * MS:.2f}", f"{min(samples) * MS:.2f}..{max(samples) * MS:.2f}"


if __name__ == "__main__":
    main()
