"""An archive's digests: what sha256sum says of them, and every way in which an archive is not what was packed."""

import subprocess
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sum3dcam.digests import SUMS, check_archive, digest_path, seal_archive
from sum3dcam.errors import ArtifactError

FILES = {"MAR-INF/MANIFEST.json": b"{}", "handler.py": b"pass\n", "model.onnx": bytes(range(256)) * 5000}


def write(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "m.mar"
    write(path, FILES)
    seal_archive(path)
    return path


def test_what_was_packed_passes_and_sha256sum_agrees(archive: Path, tmp_path: Path) -> None:
    check_archive(archive)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "unpacked")
    for folder, sums in ((archive.parent, digest_path(archive).name), (tmp_path / "unpacked", SUMS)):
        done = subprocess.run(["sha256sum", "-c", sums], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines() == [f"{name}: OK" for name in FILES]


def without(path: Path, name: str) -> None:
    with zipfile.ZipFile(path) as packed:
        files = {member: packed.read(member) for member in packed.namelist() if member != name}
    write(path, files)


def replace(path: Path) -> None:
    with zipfile.ZipFile(path) as packed:
        files = {member: packed.read(member) for member in packed.namelist()}
    write(path, files | {"handler.py": b"import os\n"})


def append(path: Path, name: str) -> None:
    with zipfile.ZipFile(path, "a") as packed, warnings.catch_warnings(action="ignore"):  # of a second file of one name
        packed.writestr(name, FILES.get(name, b"more"))


CHANGES: dict[str, Callable[[Path], None]] = {
    "handler.py": replace,
    "model.onnx": lambda path: without(path, "model.onnx"),
    SUMS: lambda path: without(path, SUMS),
    "more.py": lambda path: append(path, "more.py"),
    "MAR-INF/MANIFEST.json": lambda path: append(path, "MAR-INF/MANIFEST.json"),  # the same bytes, but twice
    "nothing": lambda path: path.write_bytes(path.read_bytes() + b"\0" * 8),
}


@pytest.mark.parametrize("named", CHANGES)
def test_another_archive_is_refused_and_what_changed_is_named(named: str, archive: Path) -> None:
    CHANGES[named](archive)
    with pytest.raises(ArtifactError, match="not what") as caught:
        check_archive(archive)
    assert caught.value.got.endswith(f": {named}")
    assert caught.value.allowed in digest_path(archive).read_text()


@pytest.mark.parametrize("named", [name for name in CHANGES if name != "nothing"])
def test_a_new_digest_beside_it_does_not_make_up_for_other_files(named: str, archive: Path) -> None:
    CHANGES[named](archive)
    done = subprocess.run(["sha256sum", archive.name], cwd=archive.parent, capture_output=True, text=True, check=True)
    digest_path(archive).write_text(done.stdout)
    with pytest.raises(ArtifactError, match="not what"):
        check_archive(archive)


def test_an_archive_without_a_digest_is_refused_with_what_to_do(archive: Path) -> None:
    digest_path(archive).unlink()
    with pytest.raises(ArtifactError, match=r"no digest beside it, m\.mar\.sha256; pack it again"):
        check_archive(archive)


def test_a_file_that_is_no_archive_is_refused(archive: Path) -> None:
    archive.write_bytes(b"no zip")
    with pytest.raises(ArtifactError, match="not an archive"):
        check_archive(archive)
