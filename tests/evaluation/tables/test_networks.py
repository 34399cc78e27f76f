"""Which row an artefact is for, and what an option's ROW=FILE means."""

import dataclasses
from pathlib import Path

import click
import pytest

from sum3dcam.errors import ArtifactError
from sum3dcam.evaluation.tables.networks import NamedFile, NamedFileType, row_of
from sum3dcam.evaluation.tables.specs import TABLES


@pytest.mark.parametrize(
    ("streams", "gates", "row"),
    [
        (("rgb",), (), "I3D"),
        (("rgb",), ("layer3",), "gated layer3"),
        (("rgb",), ("layer3", "layer2"), "gated layer2+3"),
        (("rgb", "flow"), ("rgb_layer3", "flow_layer3"), "rgb+flow gated layer3"),
    ],
)
def test_an_artefact_is_for_the_row_of_its_streams_and_gates(make_engine, streams, gates, row):
    card = dataclasses.replace(make_engine(num_frames=4, size_px=16).card, streams=streams, gates=gates)
    assert row_of(TABLES[10], card, named=None) == row


def test_an_artefact_of_no_row_is_refused_unless_its_row_is_named(make_engine):
    card = dataclasses.replace(make_engine(num_frames=4, size_px=16).card, gates=("conv",))
    with pytest.raises(ArtifactError, match="no row of the table"):
        row_of(TABLES[10], card, named=None)
    assert row_of(TABLES[10], card, named="gated layer2") == "gated layer2"
    with pytest.raises(ArtifactError, match="no such row"):
        row_of(TABLES[10], card, named="gated layer9")


def test_an_option_takes_a_file_or_a_rows_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net.onnx", "a=b.onnx"):
        (tmp_path / name).touch()
    convert = NamedFileType()
    assert convert("net.onnx", None, None) == NamedFile(Path("net.onnx"))
    assert convert("gated=net.onnx", None, None) == NamedFile(Path("net.onnx"), "gated")
    assert convert("a=b.onnx", None, None).row is None
    with pytest.raises(click.BadParameter, match="no such file"):
        convert("gated=other.onnx", None, None)
