"""What tests of several folders share: the full-size network's artefacts, which take minutes to make."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.oracle import plain

from sum3dcam.export import runners
from sum3dcam.export.artefacts import export_pair
from sum3dcam.export.parity import reference
from sum3dcam.export.prepare import Prepared, prepare

NUM_CLASSES = 51


@dataclass(frozen=True)
class Exports:
    checkpoint: Path
    onnx: Path
    torchscript: Path


def export_without_openvino(prepared: Prepared, *outputs: Path) -> None:
    """Past one gate; OpenVINO takes as long over full-size graphs as all the rest."""
    oracle = reference(prepared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runners, "find_spec", lambda name: None)
        for output in outputs:
            export_pair(prepared, output, oracle=oracle)


@pytest.fixture(scope="session")
def resnext101_exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    """ONNX and TorchScript past one gate."""
    folder = tmp_path_factory.mktemp("resnext101")
    made = Exports(folder / "checkpoint.pth", folder / "r101.onnx", folder / "r101.pt")
    plain.write_checkpoint(made.checkpoint, num_classes=NUM_CLASSES, seed=5)
    export_without_openvino(prepare(weights=[made.checkpoint]), made.onnx, made.torchscript)
    yield made
    for path in folder.iterdir():  # a gigabyte, which pytest would keep
        path.unlink()
