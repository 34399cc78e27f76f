"""Packs an exported model for TorchServe: python export/to_mar.py --artifact FILE --name NAME --output model_store/"""

from pathlib import Path

import click

from sum3dcam.errors import ArtifactError
from sum3dcam.export.archive import build_archive

ROOT = Path(__file__).resolve().parents[1]


@click.command(context_settings={"show_default": True})
@click.option("--artifact", type=click.Path(path_type=Path), required=True, help="What an export wrote.")
@click.option("--name", required=True, help="Name under which the model is served.")
@click.option("--version", default="1.0")
@click.option("--output", type=click.Path(path_type=Path), default=ROOT / "model_store", help="Folder of archives.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, exists=True),
    default=ROOT / "serve_config" / "model-config.yaml",
    help="Workers, batching and limits of this model.",
)
def main(artifact: Path, name: str, version: str, output: Path, config: Path) -> None:
    """Packs FILE, its labels graph (FILE.labels.*), the handler and the configuration into OUTPUT/NAME.mar."""
    try:
        archive = build_archive(
            artifact,
            name=name,
            version=version,
            output=output,
            handler=ROOT / "handlers" / "sum3dcam_handler.py",
            config=config,
        )
    except ArtifactError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{archive} ({archive.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
