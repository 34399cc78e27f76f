"""Configuration: what the server is told is checked before it starts."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from sum3dcam.errors import ArtifactError
from sum3dcam.serving.settings import TIME_SHARE, read_properties, read_settings, server_properties

ROOT = Path(__file__).resolve().parents[2]


def test_the_projects_own_configuration_is_valid_and_has_one_size_limit() -> None:
    properties = read_properties(ROOT / "serve_config" / "config.properties")
    model_config = yaml.safe_load((ROOT / "serve_config" / "model-config.yaml").read_text())
    settings = read_settings(model_config, properties=properties)
    assert settings.max_reply_bytes == settings.limits.max_bytes == int(properties["max_request_size"])
    assert settings.batch_seconds == TIME_SHARE * model_config["responseTimeout"]
    # TorchServe's own 300: so long /ping says Healthy of workers that do not come back.
    assert model_config["maxRetryTimeoutInSec"] <= 60


def test_everything_binds_to_loopback_and_nothing_can_be_loaded() -> None:
    properties = read_properties(ROOT / "serve_config" / "config.properties")
    for name in ("inference_address", "management_address", "metrics_address"):
        assert properties[name].startswith("http://127.0.0.1:")
    assert properties["grpc_inference_address"] == properties["grpc_management_address"] == "127.0.0.1"
    assert properties["enable_model_api"] == "false"


def test_each_graph_can_be_given_an_engine() -> None:
    assert read_settings(None, properties={}).engines == {}
    section = {"labels_engine": "openvino", "explain_engine": "onnxruntime"}
    settings = read_settings({"sum3dcam": section}, properties={})
    assert settings.engines == {"labels": "openvino", "explain": "onnxruntime"}


def test_videos_are_decoded_in_processes_of_their_own_unless_told_otherwise() -> None:
    assert read_settings(None, properties={}).decode_processes > 0
    assert read_settings({"sum3dcam": {"decode_processes": 0}}, properties={}).decode_processes == 0


def test_torchserves_own_limit_holds_where_no_configuration_names_one() -> None:
    assert read_settings(None, properties={}).max_reply_bytes == 6_553_500


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"batchSize": "8"}, "batchSize"),
        ({"batchSize": 0}, "batchSize"),
        ({"maxWorkers": True}, "maxWorkers"),
        ({"bachSize": 8}, "bachSize"),
        ({"sum3dcam": {"max_batch_clips": 0}}, "max_batch_clips"),
        ({"sum3dcam": {"threads": 2}}, "threads"),
        ({"sum3dcam": {"decode_processes": -1}}, "decode_processes"),
        ({"sum3dcam": {"engine": "openvino"}}, "labels_engine"),
        ({"sum3dcam": {"labels_engine": 1}}, "labels_engine"),
        ({"sum3dcam": {"max_bytes": 2}}, "max_bytes"),
        ({"sum3dcam": {"max_frames": 1.5}}, "max_frames"),
    ],
)
def test_wrong_model_configuration_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        read_settings(config, properties={})
    assert said in str(caught.value)


def test_wrong_size_limit_is_refused() -> None:
    with pytest.raises(ArtifactError, match="max_response_size"):
        read_settings(None, properties={"max_response_size": "64MB"})


def test_worker_finds_the_servers_configuration_where_torchserve_does(tmp_path: Path) -> None:
    path = tmp_path / "config.properties"
    path.write_text("# a comment=1\nmax_response_size = 5\n\nvmargs=-Da=b\n")
    assert server_properties({"TS_CONFIG_FILE": str(path)}) == {"max_response_size": "5", "vmargs": "-Da=b"}
    assert server_properties({}) == {}
