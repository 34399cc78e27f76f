"""The command line's root is quick and names what it can do."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from sum3dcam.__main__ import COMMANDS, main

HEAVY = ("torch", "onnxruntime", "cv2", "av", "numpy", "grpc", "httpx", "scipy", "matplotlib")


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["figure", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from sum3dcam.__main__ import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "loaded: []" in done.stdout
    assert "Usage:" in done.stdout


def test_predict_has_no_torch_even_when_it_runs(tmp_path: object) -> None:
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from sum3dcam.__main__ import main\n"
        "import sum3dcam.client.overlay, sum3dcam.client.grpc\n"
        "CliRunner().invoke(main, ['predict', 'none.mp4'])\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_table_says(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert name in CliRunner().invoke(main, ["--help"]).output


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(main, ["predikt"])
    assert result.exit_code == 2
    assert "predikt" in result.output


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run([sys.executable, "-m", "sum3dcam", "--version"], capture_output=True, text=True, check=True)
    assert "version" in done.stdout
