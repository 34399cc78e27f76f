"""The handler without a server: what TorchServe gives it, and what it gives back."""

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sum3dcam.errors import ArtifactError
from sum3dcam.serving.codec import Reply
from sum3dcam.serving.report import Report

REPORT = Report(code="ok", request_id=None, trace=None, batch_items=3, num_clips=1, seconds={})
HANDLER = Path(__file__).resolve().parents[2] / "handlers" / "sum3dcam_handler.py"


@pytest.fixture(scope="module")
def module() -> ModuleType:
    """The handler's file, imported by its base name as TorchServe does."""
    spec = importlib.util.spec_from_file_location("sum3dcam_handler", HANDLER)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    loaded.log_as_json = lambda name: None  # type: ignore[attr-defined]  # the tests' own log stays as it is
    return loaded


class Context:
    """The part of ts.context.Context that a handler uses."""

    def __init__(self, model_dir: Path, *, gpu_id: int | None = None, config: Any = None) -> None:
        self.system_properties = {"model_dir": str(model_dir), "gpu_id": gpu_id}
        self.manifest = {"model": {"modelVersion": "1.2"}}
        self.model_name = "m"
        self.model_yaml_config = config
        self.types: dict[int, str] = {}
        self.statuses: dict[int, tuple[int, str]] = {}

    def get_request_id(self, idx: int = 0) -> str:
        return f"id{idx}"

    def get_all_request_header(self, idx: int) -> dict[str, Any]:
        return {"body": {"content-type": "video/mp4"}} | ({"Host": "h"} if idx else {})

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.types[idx] = value

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.statuses[idx] = (code, phrase)


@pytest.fixture
def started(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the worker was started with; its predictor answers each row with its bytes and its own status."""
    seen: dict[str, Any] = {}

    class Predictor:
        engines = ()

        def answer(self, rows: Any) -> list[tuple[Reply, Report]]:
            return [(Reply(bytes(row["body"]), row["type"], row["status"]), REPORT) for row in rows]

    def start_predictor(model_dir: Path, **arguments: Any) -> Predictor:
        seen.update(arguments, model_dir=model_dir)
        return Predictor()

    monkeypatch.setattr(module, "start_predictor", start_predictor)
    return seen


def test_file_is_short_and_holds_one_class(module: ModuleType) -> None:
    classes = [item for _, item in inspect.getmembers(module, inspect.isclass) if item.__module__ == module.__name__]
    assert len(classes) == 1  # TorchServe refuses two
    assert not hasattr(module, "handle")  # a module-level handle would be taken instead
    assert len(HANDLER.read_text().splitlines()) <= 60


@pytest.mark.parametrize("gpu_id", [None, 0, 3])
def test_worker_gets_the_archives_folder_configuration_and_device(
    gpu_id: int | None, module: ModuleType, started: dict[str, Any], tmp_path: Path
) -> None:
    module.Sum3DCamHandler().initialize(Context(tmp_path, gpu_id=gpu_id, config={"batchSize": 8}))
    config = {"batchSize": 8}
    assert started == {"model_dir": tmp_path, "gpu_id": gpu_id, "model_config": config, "version": "1.2"}


def test_every_row_gets_bytes_with_its_own_status_and_type(
    module: ModuleType, started: dict[str, Any], tmp_path: Path
) -> None:
    handler, context = module.Sum3DCamHandler(), Context(tmp_path)
    handler.initialize(context)
    rows = [
        {"body": bytearray(b"one"), "type": "application/json", "status": 200},
        {"body": bytearray(b"two"), "type": "application/vnd.safetensors", "status": 200},
        {"body": bytearray(b"three"), "type": "application/json", "status": 415},
    ]
    bodies = handler.handle(rows, context)
    assert bodies == [b"one", b"two", b"three"]
    assert all(type(body) is bytes for body in bodies)  # anything else would be dumped as JSON
    assert context.statuses == {0: (200, "OK"), 1: (200, "OK"), 2: (415, "Unsupported Media Type")}
    assert context.types == {item: row["type"] for item, row in enumerate(rows)}


def test_every_row_is_told_with_its_transport_and_the_servers_id(
    module: ModuleType, started: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    handler, context = module.Sum3DCamHandler(), Context(tmp_path)
    handler.initialize(context)
    with caplog.at_level("INFO"):
        handler.handle([{"body": b"x", "type": "application/json", "status": 200}] * 2, context)
    said = [record.fields for record in caplog.records]
    assert [(line["transport"], line["request_id"], line["model"]) for line in said] == [
        ("grpc", "id0", "m"),
        ("http", "id1", "m"),
    ]


def test_archive_that_cannot_be_served_stops_the_worker(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        module.Sum3DCamHandler().initialize(Context(tmp_path))


def test_handle_before_initialize_is_our_fault(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="initialize"):
        module.Sum3DCamHandler().handle([], Context(tmp_path))
