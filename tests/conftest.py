"""What tests of several folders share: the full-size network's artefacts, which take minutes to make."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.oracle import plain

from sum3dcam.export import runners
from sum3dcam.export.artefacts import export_pair
from sum3dcam.export.parity import reference
from sum3dcam.export.prepare import prepare

NUM_CLASSES = 51


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two groups for two processes: in one, tests that mostly wait for servers; in the other, those that compute."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.xdist_group("computing"))
        elif "e2e" in item.path.parts:
            item.add_marker(pytest.mark.xdist_group("servers"))


@dataclass(frozen=True)
class Exports:
    checkpoint: Path
    onnx: Path
    torchscript: Path


@pytest.fixture(scope="session")
def resnext101_exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    """ONNX and TorchScript past one gate; without OpenVINO, which takes as long over these graphs as all the rest."""
    folder = tmp_path_factory.mktemp("resnext101")
    made = Exports(folder / "checkpoint.pth", folder / "r101.onnx", folder / "r101.pt")
    plain.write_checkpoint(made.checkpoint, num_classes=NUM_CLASSES, seed=5)
    prepared = prepare(weights=[made.checkpoint])
    oracle = reference(prepared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runners, "find_spec", lambda name: None)
        for output in (made.onnx, made.torchscript):
            export_pair(prepared, output, oracle=oracle)
    yield made
    for path in folder.iterdir():  # a gigabyte, which pytest would keep
        path.unlink()
