"""What the log of a worker that died is turned into."""

from pathlib import Path

import pytest

from sum3dcam.errors import ServerError
from sum3dcam.serving import readiness
from sum3dcam.serving.torchserve import Ports, Server

PREFIX = "2026-01-01T00:00:00,000 [INFO ] W-9000-m_1.0-stdout MODEL_LOG - "


@pytest.fixture
def server(tmp_path: Path) -> Server:
    (tmp_path / "logs").mkdir()
    return Server(pid=1, exporter_pid=2, ports=Ports(*range(1, 9)), models=("m",), run_dir=tmp_path, temp_dir=tmp_path)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["Traceback", "sum3dcam.errors.ArtifactError: no card; got: x", "done"], "no card"),
        (["RuntimeError: real reason", "Backend died.", "RuntimeError: 500 - Unknown exception"], "real reason"),
        (["no Error here"], "InterruptedException"),
    ],
)
def test_reason_of_a_failed_start_is_told(
    lines: list[str], said: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(PREFIX + line for line in [*lines, "Backend worker process died."])
    text += "\njava.lang.InterruptedException: null\n\tat java.base\n"
    (server.log_dir / "console.log").write_text(text)
    monkeypatch.setattr(readiness, "is_running", lambda server: True)
    with pytest.raises(ServerError, match="could not start") as caught:
        readiness.wait_ready(server, timeout_seconds=5)
    assert said in str(caught.value.got)


def test_only_the_end_of_the_console_is_read_and_what_was_said_before_is_no_reason(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "TAIL_BYTES", 1000)
    died = f"{PREFIX}ValueError: ä {{}}\n{PREFIX}Backend worker process died.\n"
    console = server.log_dir / "console.log"
    console.write_text(died.format("old"))
    said_before = readiness.console_length(server)
    assert readiness.failed_start(server, said_before=said_before) is None
    console.write_text(died.format("old") + died.format("new"))
    assert readiness.failed_start(server, said_before=said_before) == "ValueError: ä new"
    console.write_text(died.format("old") + "x" * 1000)
    assert readiness.failed_start(server) is None
