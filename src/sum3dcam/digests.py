"""SHA-256 of archives and of the files in them: written when an archive is packed, checked before it is served."""

import hashlib
import zipfile
from pathlib import Path

from sum3dcam.errors import ArtifactError

# Inside the archive, of its other files, and beside it, of the archive: both are lines that `sha256sum -c` reads.
SUMS = "MAR-INF/SHA256SUMS"
SUFFIX = ".sha256"


def file_sha256(path: Path) -> str:
    """The file's digest in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_path(archive: Path) -> Path:
    """Where an archive's own digest lies.

    >>> digest_path(Path("a/b.mar")).as_posix()
    'a/b.mar.sha256'
    """
    return archive.with_name(archive.name + SUFFIX)


def seal_archive(path: Path) -> Path:
    """Adds the digests of its files to an archive, which has none yet, and writes the archive's own beside it.

    Gives the path of the latter.
    """
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(SUMS, "".join(f"{digest}  {name}\n" for name, digest in _members(archive).items()))
    digest_path(path).write_text(f"{file_sha256(path)}  {path.name}\n")
    return digest_path(path)


def check_archive(path: Path) -> None:
    """Holds an archive against its own digest, and its files against theirs.

    Raises:
        ArtifactError: no digests, or others; a file more or less than were packed.
    """
    beside = digest_path(path)
    if not beside.is_file():
        raise ArtifactError(
            f"the archive has no digest beside it, {beside.name}; pack it again with export/to_mar.py, which writes it",
            got=path.name,
        )
    expected, actual = beside.read_text().partition(" ")[0], file_sha256(path)
    changed = _changed_files(path)
    if actual != expected or changed:
        raise ArtifactError(
            f"the archive {path.name} is not what {beside.name} and the digests in it say was packed; pack it again, "
            "or fetch both again from whom you trust",
            got=f"{actual}; changed, added or missing in it: {', '.join(changed) or 'nothing'}",
            allowed=expected,
        )


def _changed_files(path: Path) -> list[str]:
    """The files in an archive that are not those of its SUMS."""
    try:
        with zipfile.ZipFile(path) as archive:
            lines = archive.read(SUMS).decode().splitlines()
            packed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
            found = {name: digest for name, digest in _members(archive).items() if name != SUMS}
            # Of two files of one name, other readers may take the other one.
            names = archive.namelist()
            twice = {name for name in names if names.count(name) > 1}
    except KeyError:
        return [SUMS]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError("not an archive of export/to_mar.py; pack it again", got=path.name) from error
    return sorted(name for name in {*packed, *found} if packed.get(name) != found.get(name) or name in twice)


def _members(archive: zipfile.ZipFile) -> dict[str, str]:
    digests = {}
    for name in archive.namelist():
        with archive.open(name) as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return digests
