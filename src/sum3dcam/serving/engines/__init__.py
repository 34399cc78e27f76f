"""What runs an artefact. A new engine is one module and one line in LOADERS."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from sum3dcam.artefact import read_card
from sum3dcam.contract import (
    AOTI,
    EAGER,
    EXPLAIN_GRAPH,
    LABELS_GRAPH,
    ONNXRUNTIME,
    OPENVINO,
    PT2,
    STREAM_CHANNELS,
    TORCHSCRIPT,
    Card,
)
from sum3dcam.errors import ArtifactError
from sum3dcam.parts import usual_outputs
from sum3dcam.serving.engines import aoti, onnx_runtime, open_vino, pt2, torchscript
from sum3dcam.serving.engines.engine import Engine, try_one_clip
from sum3dcam.serving.engines.torch_engine import TorchEngine
from sum3dcam.video.geometry import PREPROCESSING

__all__ = ["LOADERS", "Engine", "load_engine", "load_engines"]

logger = logging.getLogger(__name__)

# File suffix -> engine -> loader(path, card=, device=, num_threads=); the first engine is the format's own. device is
# "cpu" or "cuda:INDEX".
LOADERS: Mapping[str, Mapping[str, Callable[..., Engine]]] = {
    ".onnx": {ONNXRUNTIME: onnx_runtime.load, OPENVINO: open_vino.load},
    ".pt": {TORCHSCRIPT: torchscript.load},
    ".pt2": {PT2: pt2.load},
    ".aoti": {AOTI: aoti.load},
}


def load_engine(
    path: Path,
    *,
    device: str,
    num_threads: int,
    engine: str | None = None,
    wanted: Collection[str] | None = None,
    cuda_graph_batches: Collection[int] = (),
) -> Engine:
    """Loads an artefact in the engine named, or else in the fastest, holds it against its own card, and tries it.

    Args:
        wanted: the outputs that will mostly be asked for; what they need is ready afterwards. None: the whole graph.
        cuda_graph_batches: sizes of batches that are recorded as CUDA graphs.

    Raises:
        ArtifactError: no card, graph and card disagree, frames this server cannot make, an engine that does not run
            such files, the device or the CUDA graphs asked for cannot be had, or the engine did not pass the parity
            gate there when the file was exported.
    """
    if path.suffix not in LOADERS:
        raise ArtifactError("no engine runs this kind of file", got=path.name, allowed=sorted(LOADERS))
    loaders = LOADERS[path.suffix]
    if engine is not None and engine not in loaders:
        raise ArtifactError(f"{path.name} cannot be run by this engine", got=engine, allowed=list(loaders))
    card = read_card(path)
    name = engine or _fastest(card, loaders=loaders, device=device)
    if card.preprocessing not in PREPROCESSING or not set(card.streams) <= set(STREAM_CHANNELS):
        raise ArtifactError(
            f"{path.name} wants frames that this server cannot make",
            got=f"{card.preprocessing} of {', '.join(card.streams)}",
            allowed=[f"{name} of {', '.join(STREAM_CHANNELS)}" for name in PREPROCESSING],
        )
    loaded = loaders[name](path, card=card, device=device, num_threads=num_threads)
    _check_certificate(loaded, path=path)
    try_one_clip(loaded, outputs=wanted)
    if cuda_graph_batches:
        _record(loaded, cuda_graph_batches)
    return loaded


def _record(engine: Engine, batch_sizes: Collection[int]) -> None:
    if not isinstance(engine, TorchEngine) or engine.provider == "cpu":
        raise ArtifactError(
            "CUDA graphs are had on a GPU in torch's engines alone; leave cuda_graph_clips out",
            got=f"{engine.name} on {engine.provider}",
            allowed=[f"{name} on cuda" for name in (TORCHSCRIPT, PT2)],
        )
    try:
        engine.replay(batch_sizes)
    except RuntimeError as error:
        raise ArtifactError(
            "the CUDA graphs cannot be recorded; ask for fewer with cuda_graph_clips, or leave it out",
            got=str(error).strip(),
        ) from error


def load_engines(
    folder: Path,
    *,
    device: str,
    num_threads: int,
    engines: Mapping[str, str] | None = None,
    cuda_graph_batches: Collection[int] = (),
) -> tuple[Engine, Engine]:
    """The explain engine and the labels engine among a folder's artefacts, told apart by their cards.

    Args:
        engines: graph -> the engine that runs it; a graph that is not named runs in the fastest.
        cuda_graph_batches: as `load_engine`.

    Raises:
        ArtifactError: as `load_engine`; not exactly one of each; or the two are of different models.
    """
    cards = {path: read_card(path) for path in sorted(folder.iterdir()) if path.suffix in LOADERS}
    paths = {card.graph: path for path, card in cards.items()}
    if len(cards) != 2 or set(paths) != {EXPLAIN_GRAPH, LABELS_GRAPH}:
        raise ArtifactError(
            "an archive holds one explain graph and its labels graph; pack it with export/to_mar.py",
            got={path.name: card.graph for path, card in cards.items()},
            allowed=[EXPLAIN_GRAPH, LABELS_GRAPH],
        )
    explain, labels = (cards[paths[graph]] for graph in (EXPLAIN_GRAPH, LABELS_GRAPH))
    if _model_facts(explain) != _model_facts(labels):
        raise ArtifactError(
            "the explain graph and the labels graph are of different models or precisions; export them again",
            got=f"{labels.model} {labels.precision}",
            allowed=f"{explain.model} {explain.precision}",
        )
    chosen = engines or {}
    explain_engine, labels_engine = (
        load_engine(
            paths[graph],
            device=device,
            num_threads=num_threads,
            engine=chosen.get(graph),
            wanted=usual_outputs(card),
            cuda_graph_batches=cuda_graph_batches,
        )
        for graph, card in ((EXPLAIN_GRAPH, explain), (LABELS_GRAPH, labels))
    )
    return explain_engine, labels_engine


def _fastest(card: Card, *, loaders: Iterable[str], device: str) -> str:
    """Of the engines installed that passed on this kind of device, the one that the export timed as the fastest; where
    it timed none, the format's own."""
    kinds = ("CUDAExecutionProvider", "cuda") if device.startswith("cuda") else ("CPUExecutionProvider", "CPU", "cpu")
    timed = {
        row["engine"]: row["clip_seconds"]
        for row in card.parity
        if row["passed"] and row["engine"] in loaders and row["provider"] in kinds and row.get("clip_seconds")
    }
    if OPENVINO in timed and find_spec("openvino") is None:
        del timed[OPENVINO]
    return min(timed, key=timed.__getitem__, default=next(iter(loaders)))


def _check_certificate(engine: Engine, *, path: Path) -> None:
    card, where = engine.card, f"{engine.name} on {engine.provider}"
    row = card.parity_row(engine.name, provider=engine.provider)
    if row is None:
        logger.warning("%s is not certified for %s, which its export did not have", path.name, where)
    elif not row["passed"]:
        passed = [row for row in card.parity if row["passed"] and row["engine"] != EAGER]
        raise ArtifactError(
            f"{path.name} did not pass the parity gate in {where}; choose another engine",
            got=row.get("reason"),
            allowed=[f"{row['engine']} on {row['provider']}" for row in passed],
        )


def _model_facts(card: Card) -> tuple[object, ...]:
    seen = (card.clip_shape_THWC, card.streams, card.preprocessing, card.frames_per_second)
    return (card.model, card.labels, *seen, card.weights_sha256, card.precision)
