"""The card inside an artefact file, read without the engine that runs the file."""

import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import onnx

from sum3dcam.contract import CARD_KEY, Card
from sum3dcam.errors import ArtifactError


def _onnx_card(path: Path) -> str | None:
    model = onnx.load(path, load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}.get(CARD_KEY)


def read_extra(path: Path, *, key: str) -> str | None:
    """An extra file of a TorchScript, .pt2 or .aoti file: they are zips with these under ARCHIVE/extra/."""
    with zipfile.ZipFile(path) as file:
        for name in file.namelist():
            if name.endswith(f"/extra/{key}"):
                return file.read(name).decode()
    return None


_zip_card = partial(read_extra, key=CARD_KEY)

_CARD_READERS: Mapping[str, Callable[[Path], str | None]] = {
    ".onnx": _onnx_card,
    ".pt": _zip_card,
    ".pt2": _zip_card,
    ".aoti": _zip_card,
}
ARTIFACT_SUFFIXES = tuple(_CARD_READERS)


def read_card(path: Path) -> Card:
    """The card inside an artefact file.

    Raises:
        ArtifactError: no such file, another kind of file, or no card of this contract version in it.
    """
    if path.suffix not in _CARD_READERS:
        raise ArtifactError("an artefact is a file of another kind", got=path.name, allowed=sorted(_CARD_READERS))
    if not path.is_file():
        raise ArtifactError("no such artefact; export it first, the labels graph is written beside it", got=path.name)
    try:
        text = _CARD_READERS[path.suffix](path)
    except Exception as error:
        raise ArtifactError("the artefact cannot be read; export it again", got=path.name) from error
    return Card.from_json(text)
