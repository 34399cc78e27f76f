"""How large replies are, and how long their bytes take to make: python benchmarks/replies.py.

One clip through the archive's predictor, in this process; the maps that a client rebuilds from the grids are held
against the served ones first.
"""

import io
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from load.inprocess import MAX_MESSAGE, unpacked
from load.results import dumps
from origin import origin
from rich.console import Console
from rich.table import Table

from sum3dcam import wire
from sum3dcam.client.rebuild import rebuild_maps
from sum3dcam.client.reply import read_reply
from sum3dcam.serving.codec import encode_reply
from sum3dcam.video.decode import DecodeLimits, decode

LAYERS = "layer1,layer2,layer3,layer4"
MAPS = {"explain": "maps", "method": "sum3dcam"}
WISHES: Mapping[str, Mapping[str, str]] = {
    "labels": {"explain": "none"},
    "boxes": {"explain": "boxes"},
    "maps, u8": {**MAPS, "map_dtype": "u8"},
    "maps, u8, zlib": {**MAPS, "map_dtype": "u8", "compression": "zlib"},
    "maps, u8, delta-zlib": {**MAPS, "map_dtype": "u8", "compression": "delta-zlib"},
    "maps, f16": {**MAPS, "map_dtype": "f16"},
    "maps, f32": {**MAPS, "map_dtype": "f32"},
    "grids of layers 1-4": {"explain": "grids", "taps": LAYERS},
    "grids of layers 1-4, zlib": {"explain": "grids", "taps": LAYERS, "compression": "zlib"},
    "grids of all taps": {"explain": "grids"},
}
# Of maps, whose max is 1.
REBUILT_TOLERANCE = 1e-6
REPEATS = 200


@click.command(context_settings={"show_default": True})
@click.option("--archive", type=click.Path(exists=True, path_type=Path), default=Path("model_store/resnext-mini.mar"))
@click.option(
    "--input",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A video, whose first frames are the clip; by default noise, whose maps compress the worst.",
)
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/bench/replies.json"))
def main(archive: Path, source: Path | None, output: Path) -> None:
    """Writes bytes of the whole reply and of its tensors, and milliseconds of encoding them."""
    with unpacked(archive) as here:
        shape = here.explain.card.clip_shape_THWC
        clip_THWC = (
            decode(source.read_bytes(), size_px=shape[1], limits=DecodeLimits()).frames_THWC[: shape[0]]
            if source
            else np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        )
        data = npy(clip_THWC)
        bodies = {name: here.answer([data], wish)[0] for name, wish in WISHES.items()}
        served = read_reply(here.answer([data], {**MAPS, "map_dtype": "f32", "taps": LAYERS})[0])
    rebuilt = rebuild_maps(read_reply(bodies["grids of layers 1-4"]))
    difference = float(np.abs(rebuilt - served.maps_NETHW).max())
    if difference > REBUILT_TOLERANCE:
        raise click.ClickException(f"maps rebuilt from grids differ by {difference:.1e}")
    rows = {name: measure(body, WISHES[name]) for name, body in bodies.items()}
    show(rows, title=f"Replies to one clip of {shape[0]}x{shape[1]}x{shape[2]}")
    report = {
        **origin(),
        "clip_shape_THWC": list(shape),
        "rebuilt_difference": difference,
        "replies": rows,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(dumps(report))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def measure(body: bytes, wish: Mapping[str, str]) -> dict[str, Any]:
    """The reply's bytes, and what it takes to make them of the envelope and the tensors that they hold."""
    envelope, tensors = wire.decode_reply(body)
    samples = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        reply = encode_reply(
            envelope,
            tensors=tensors,
            format="safetensors" if tensors else "json",
            compression=wish.get("compression", "none"),
            max_reply_bytes=int(MAX_MESSAGE["max_response_size"]),
        )
        samples.append(1000 * (time.perf_counter() - began))
    assert reply.body == body
    tensor_bytes = sum(tensor.nbytes for tensor in tensors.values())
    return {
        "bytes": len(body),
        "tensor_bytes": tensor_bytes,
        "encode_ms": {"median": median(samples), "min": min(samples), "max": max(samples)},
    }


def show(rows: Mapping[str, Mapping[str, Any]], *, title: str) -> None:
    table = Table(title=title)
    for heading in ("reply", "kB", "of which tensors", "ms to encode", "min..max"):
        table.add_column(heading, justify="left" if heading == "reply" else "right")
    for name, row in rows.items():
        spent = row["encode_ms"]
        table.add_row(
            name,
            f"{row['bytes'] / 1000:.1f}",
            f"{row['tensor_bytes'] / 1000:.1f}",
            f"{spent['median']:.2f}",
            f"{spent['min']:.2f}..{spent['max']:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
