"""Compile a network with its attribution graph for this processor: FILE.aoti explains, FILE.labels.aoti gives labels.

It wants a C++ compiler (g++, or what CXX names); the server does not.
"""

import sys
from pathlib import Path
from typing import Any

import click

from sum3dcam.errors import Sum3DCamError
from sum3dcam.export.commands import export_options, run_export


@click.command()
@export_options
def main(output: Path, **wanted: Any) -> None:
    """Write the explain graph to OUTPUT and the labels graph beside it, both past the parity gate."""
    try:
        run_export(output=output, suffix=".aoti", **wanted)
    except Sum3DCamError as error:
        sys.exit(f"{error.code}: {error}")


if __name__ == "__main__":
    main()
