"""What runs an artefact. A new kind of file is one module and one line in LOADERS."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from sum3dcam.contract import EAGER, EXPLAIN_GRAPH, LABELS_GRAPH, STREAM_CHANNELS, Card
from sum3dcam.errors import ArtifactError
from sum3dcam.serving.engines import onnx_runtime, pt2, torchscript
from sum3dcam.serving.engines.engine import Engine
from sum3dcam.video.geometry import PREPROCESSING

__all__ = ["LOADERS", "Engine", "load_engine", "load_engines"]

logger = logging.getLogger(__name__)

# File suffix -> loader(path, device=, num_threads=); device is "cpu" or "cuda:INDEX".
LOADERS: Mapping[str, Callable[..., Engine]] = {
    ".onnx": onnx_runtime.load,
    ".pt": torchscript.load,
    ".pt2": pt2.load,
}


def load_engine(path: Path, *, device: str, num_threads: int) -> Engine:
    """Loads an artefact and holds it against its own card.

    Raises:
        ArtifactError: no card, graph and card disagree, frames this server cannot make, the device asked for cannot be
            had, or the engine did not pass the parity gate there when the file was exported.
    """
    if path.suffix not in LOADERS:
        raise ArtifactError("no engine runs this kind of file", got=path.name, allowed=sorted(LOADERS))
    engine = LOADERS[path.suffix](path, device=device, num_threads=num_threads)
    if engine.card.preprocessing not in PREPROCESSING or not set(engine.card.streams) <= set(STREAM_CHANNELS):
        raise ArtifactError(
            f"{path.name} wants frames that this server cannot make",
            got=f"{engine.card.preprocessing} of {', '.join(engine.card.streams)}",
            allowed=[f"{name} of {', '.join(STREAM_CHANNELS)}" for name in PREPROCESSING],
        )
    _check_certificate(engine, path=path)
    return engine


def load_engines(folder: Path, *, device: str, num_threads: int) -> tuple[Engine, Engine]:
    """The explain engine and the labels engine among a folder's artefacts, told apart by their cards.

    Raises:
        ArtifactError: as `load_engine`; not exactly one of each; or the two are of different models.
    """
    engines = {
        path.name: load_engine(path, device=device, num_threads=num_threads)
        for path in sorted(folder.iterdir())
        if path.suffix in LOADERS
    }
    graphs = {engine.card.graph: engine for engine in engines.values()}
    if len(engines) != 2 or set(graphs) != {EXPLAIN_GRAPH, LABELS_GRAPH}:
        raise ArtifactError(
            "an archive holds one explain graph and its labels graph; pack it with export/to_mar.py",
            got={name: engine.card.graph for name, engine in engines.items()},
            allowed=[EXPLAIN_GRAPH, LABELS_GRAPH],
        )
    explain, labels = graphs[EXPLAIN_GRAPH], graphs[LABELS_GRAPH]
    if _model_facts(explain.card) != _model_facts(labels.card):
        raise ArtifactError(
            "the explain graph and the labels graph are of different models; export them again",
            got=labels.card.model,
            allowed=explain.card.model,
        )
    return explain, labels


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
    return (card.model, card.labels, *seen, card.weights_sha256)
