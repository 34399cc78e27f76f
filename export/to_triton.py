"""Writes a Triton model repository: python export/to_triton.py --artifact FILE.onnx --name NAME --output REPOSITORY"""

from pathlib import Path
from typing import Any

import click

from sum3dcam.errors import ArtifactError
from sum3dcam.export.triton import DEVICES, Serving, build_repository


@click.command(context_settings={"show_default": True})
@click.option("--artifact", type=click.Path(path_type=Path), required=True, help="FILE.onnx.")
@click.option("--name", required=True, help="Name under which the model is served; its labels graph is NAME-labels.")
@click.option("--version", type=click.IntRange(1), default=1)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The repository, new or with models.")
@click.option("--device", type=click.Choice(sorted(DEVICES)), default=Serving.device)
@click.option("--instances", type=click.IntRange(1), default=Serving.instances, help="Of each graph, per device.")
@click.option("--max-batch-size", type=click.IntRange(1), default=Serving.max_batch_size)
@click.option(
    "--max-queue-delay-us",
    type=click.IntRange(0),
    default=Serving.max_queue_delay_us,
    help="How long a request waits for others to share its batch.",
)
def main(artifact: Path, name: str, version: int, output: Path, **serving: Any) -> None:
    """Writes OUTPUT/NAME (explains) and OUTPUT/NAME-labels: config.pbtxt and VERSION/model.onnx each."""
    try:
        models = build_repository(artifact, name=name, version=version, output=output, serving=Serving(**serving))
    except ArtifactError as error:
        raise click.ClickException(str(error)) from error
    for model in models:
        click.echo(model / str(version))


if __name__ == "__main__":
    main()
