"""Serves archives with Triton's own server: python handlers/sum3dcam_triton.py model_store/NAME.mar

A shell round sum3dcam.serving, as sum3dcam_handler.py is for TorchServe: the same archives, configuration and replies.
Needs the environment that `make triton-env` makes.
"""

import logging
import os
import signal
import sys
import zipfile
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from pytriton.model_config import DynamicBatcher, ModelConfig, QueuePolicy, Tensor
from pytriton.triton import Triton, TritonConfig

from sum3dcam.errors import Sum3DCamError
from sum3dcam.serving.archive import Archive, read_archive
from sum3dcam.serving.logs import log_as_json
from sum3dcam.serving.predictor import Predictor
from sum3dcam.serving.settings import CONFIG_VARIABLE
from sum3dcam.serving.telemetry import Telemetry
from sum3dcam.serving.triton import DATA, OPTIONS, REPLY, answer
from sum3dcam.serving.worker import start_predictor

ROOT = Path(__file__).resolve().parents[1]


def bind(triton: Triton, archive: Archive, *, folder: Path, gpu_id: int | None) -> None:
    """Unpacks the archive into folder and gives Triton its predictor, batched and queued as its configuration says."""
    with zipfile.ZipFile(archive.path) as packed:
        packed.extractall(folder)
    predictor = start_predictor(folder, gpu_id=gpu_id, model_config=archive.config, version=archive.version)
    telemetry = Telemetry(archive.model, version=archive.version, engines=predictor.engines)
    tensor = partial(Tensor, dtype=bytes, shape=(1,))
    triton.bind(
        archive.model,
        partial(_infer, predictor=predictor, telemetry=telemetry),
        inputs=[tensor(name=DATA), tensor(name=OPTIONS, optional=True)],
        outputs=[tensor(name=REPLY)],
        config=ModelConfig(
            max_batch_size=archive.config.get("batchSize", 1),
            batcher=DynamicBatcher(
                max_queue_delay_microseconds=1000 * archive.config.get("maxBatchDelay", 0),
                default_queue_policy=QueuePolicy(max_queue_size=archive.config.get("jobQueueSize", 0)),
            ),
        ),
        strict=True,
    )


def _infer(requests: list[Any], *, predictor: Predictor, telemetry: Telemetry) -> list[dict[str, Any]]:
    return answer([request.data for request in requests], predictor=predictor, telemetry=telemetry)


@click.command(context_settings={"show_default": True})
@click.argument("archives", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--config", type=click.Path(path_type=Path), default=ROOT / "serve_config" / "config.properties")
@click.option("--host", default="127.0.0.1", help="What HTTP, gRPC and metrics listen on.")
@click.option("--http-port", default=8000)
@click.option("--grpc-port", default=8001)
@click.option("--metrics-port", default=8002)
@click.option("--gpu-id", type=click.IntRange(0), help="Without it, the CPU.")
def main(archives: tuple[Path, ...], config: Path, host: str, gpu_id: int | None, **ports: int) -> None:
    """Serves ARCHIVES until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    log_as_json("sum3dcam")
    os.environ[CONFIG_VARIABLE] = str(config)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    triton_config = TritonConfig(http_address=host, grpc_address=host, metrics_address=host, **ports)
    with TemporaryDirectory(prefix="sum3dcam-") as folder:
        triton = Triton(config=triton_config)
        try:
            for path in archives:
                archive = read_archive(path)
                bind(triton, archive, folder=Path(folder) / archive.model, gpu_id=gpu_id)
            triton.run()
            click.echo(f"serving on http://{host}:{ports['http_port']} and grpc {host}:{ports['grpc_port']}")
            triton.serve()
        except Sum3DCamError as error:
            raise click.ClickException(str(error)) from error
        finally:
            triton.stop()


if __name__ == "__main__":
    main()
