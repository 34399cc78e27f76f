"""What the Makefile would do, as `make --dry-run` prints it."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INSTALLS = "/bin/pip install"
MAKES_OWN = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "EXTRAS", "VENV")


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """Where an environment may be; none is."""
    folder = tmp_path / "venv"
    folder.mkdir()
    return folder


def would_do(target: str, *, venv: Path) -> str:
    command = ["make", "--dry-run", "--no-print-directory", "-C", str(ROOT), target, f"VENV={venv}"]
    clean = {key: value for key, value in os.environ.items() if key not in MAKES_OWN}
    return subprocess.run(command, env=clean, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", ["serve", "stop", "demo", "cluster", "cluster-stop"])
def test_what_runs_takes_the_environment_that_is_there(target: str, venv: Path) -> None:
    assert INSTALLS in would_do(target, venv=venv)
    (venv / ".gpu-done").touch()
    done = would_do(target, venv=venv)
    assert INSTALLS not in done
    assert "-m sum3dcam.serving." in done


def test_what_tests_wants_everything_installed(venv: Path) -> None:
    (venv / ".openvino-done").touch()
    assert INSTALLS in would_do("check", venv=venv)
    (venv / ".dev-done").touch()
    assert INSTALLS not in would_do("check", venv=venv)
