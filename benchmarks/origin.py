"""What every result says of where it came from."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sum3dcam.evaluation.provenance import PACKAGES, machine, versions


def origin(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """The command as it was typed in the project's folder, the machine, and the versions of these packages."""
    return {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(packages),
    }
