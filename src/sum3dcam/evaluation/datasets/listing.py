"""The text files and folders that data sets list their videos in."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")

# Three splits of a data set into a training and a test part, as HMDB51, JHMDB and UCF101 have them.
THREE_SPLITS = tuple(f"{part}{number}" for part in ("test", "train") for number in (1, 2, 3))


def check_split(split: str, *, allowed: Sequence[str]) -> None:
    """Raises ValueError for a split that is not one of those allowed."""
    if split not in allowed:
        raise ValueError(f"got split '{split}', wanted one of {', '.join(allowed)}")


def read_lines(path: Path, *, advice: str) -> Iterator[tuple[int, str]]:
    """Each line that is not blank, without blanks and line ends of any system round it, and its number from 1.

    Raises:
        FileNotFoundError: no such file; says `advice`.
        ValueError: it is no UTF-8 text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {advice}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 text: {error}") from error
    # Not splitlines: it takes control characters, which a file's name may hold, for ends of lines.
    for number, line in enumerate(text.split("\n"), start=1):
        if stripped := line.strip():
            yield number, stripped


def find_folder(directory: Path, names: Sequence[str], *, holding: str, advice: str) -> Path:
    """The first of these folders of the data set that holds an entry of that name or pattern.

    Raises:
        FileNotFoundError: none of them does; names them and says `advice`.
    """
    for name in names:
        folder = directory / name
        if folder.is_dir() and next(folder.glob(holding), None) is not None:
            return folder
    tried = ", ".join(str(directory / name) for name in names)
    raise FileNotFoundError(f"none of these holds {holding}: {tried}; {advice}")


def find_video_folder(directory: Path, names: Sequence[str], *, holding: str) -> Path:
    """The first of these folders that holds an entry of that name or pattern, or else the first.

    Labels and boxes can be looked at without the videos: whoever reads frames is told where they should be.
    """
    holders = (directory / name for name in names if next((directory / name).glob(holding), None) is not None)
    return next(holders, directory / names[0])


def spread(items: Sequence[Item], *, limit: int | None) -> tuple[Item, ...]:
    """All, or `limit` of them from evenly over the sequence: sets are listed by class, so the first would be one class.

    >>> spread("aabbcc", limit=3)
    ('a', 'b', 'c')
    """
    count = len(items) if limit is None else min(limit, len(items))
    return tuple(items[index * len(items) // count] for index in range(count))
