"""What a server's worker does at its start: find its settings, its device and its artefact."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sum3dcam.serving.engines import load_engines
from sum3dcam.serving.predictor import Predictor
from sum3dcam.serving.request import frame_spec
from sum3dcam.serving.settings import read_settings, server_properties
from sum3dcam.video.decoder import Decoder, InProcessDecoder
from sum3dcam.video.footage import DecodeLimits, FrameSpec
from sum3dcam.video.isolation.pool import DecoderPool

logger = logging.getLogger(__name__)


def start_predictor(
    model_dir: Path, *, gpu_id: int | None, model_config: Mapping[str, Any] | None, version: str | None = None
) -> Predictor:
    """The predictor of an unpacked archive of this version, on the GPU given or, for None, on the CPU.

    Raises:
        ArtifactError: the archive, its configuration or the device cannot be served; the worker must not start.
        RuntimeError: a decoder process does not start.
    """
    settings = read_settings(model_config, properties=server_properties())
    device = "cpu" if gpu_id is None else f"cuda:{gpu_id}"
    explain, labels = load_engines(
        model_dir,
        device=device,
        num_threads=settings.num_threads,
        engines=settings.engines,
        cuda_graph_batches=range(1, settings.cuda_graph_clips + 1),
    )
    decoder = _start_decoder(frame_spec(explain.card), limits=settings.limits, processes=settings.decode_processes)
    return Predictor(explain, labels, settings=settings, decoder=decoder, version=version)


def _start_decoder(spec: FrameSpec, *, limits: DecodeLimits, processes: int) -> Decoder:
    if not processes:
        return InProcessDecoder(spec, limits=limits)
    pool = DecoderPool(spec, limits=limits, processes=processes)
    logger.info("decoder processes pids=%s held=%s", pool.pids, ", ".join(pool.wait_ready()))
    return pool
