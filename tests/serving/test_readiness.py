"""What the log of a worker that died is turned into."""

from pathlib import Path

import pytest

from sum3dcam.errors import ServerError
from sum3dcam.serving import readiness
from sum3dcam.serving.torchserve import Ports, Server

PREFIX = "2026-01-01T00:00:00,000 [INFO ] W-9000-m_1.0-stdout MODEL_LOG - "


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["Traceback", "sum3dcam.errors.ArtifactError: no card; got: x", "done"], "no card"),
        (["RuntimeError: real reason", "Backend died.", "RuntimeError: 500 - Unknown exception"], "real reason"),
        (["no Error here"], "InterruptedException"),
    ],
)
def test_reason_of_a_failed_start_is_told(
    lines: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logs").mkdir()
    text = "\n".join(PREFIX + line for line in [*lines, "Backend worker process died."])
    text += "\njava.lang.InterruptedException: null\n\tat java.base\n"
    (tmp_path / "logs" / "console.log").write_text(text)
    server = Server(
        pid=1, exporter_pid=2, ports=Ports(*range(1, 9)), models=("m",), run_dir=tmp_path, temp_dir=tmp_path
    )
    monkeypatch.setattr(readiness, "is_running", lambda server: True)
    with pytest.raises(ServerError, match="could not start") as caught:
        readiness.wait_ready(server, timeout_seconds=5)
    assert said in str(caught.value.got)
