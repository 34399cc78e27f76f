"""Nobody hears of what is served: ONNX Runtime and OpenVINO report to their makers unless they are kept from it."""

import os
import subprocess
import sys
from pathlib import Path

ENGINES = "import onnxruntime, openvino"


def files_after(program: str, *, home: Path) -> list[str]:
    """What a program leaves in a home of its own; without what the environment says, as of a CI, since that counts."""
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "https_proxy": "http://127.0.0.1:9"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def test_engines_make_no_identifier_to_report_under(tmp_path: Path) -> None:
    assert files_after(f"import sum3dcam; {ENGINES}", home=tmp_path / "ours") == []
    # As they come: identifiers of the machine, counts, what waits to be sent. If they ever leave none, nothing is to be
    # kept from them.
    assert files_after(ENGINES, home=tmp_path / "bare") != []
