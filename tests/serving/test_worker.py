"""A worker's start, from an unpacked archive to a predictor that answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sum3dcam.errors import ArtifactError, TooLargeError
from sum3dcam.serving.worker import start_predictor
from sum3dcam.wire import decode_reply


def test_archives_artefact_and_configuration_answer(tiny_folder: Path, clip_bytes: Callable[..., bytes]) -> None:
    config = {"batchSize": 8, "sum3dcam": {"max_frames": 4, "num_threads": 1}}
    predictor = start_predictor(tiny_folder, gpu_id=None, model_config=config)
    rows = [{"data": clip_bytes(), "explain": "maps"}, {"body": clip_bytes(num_frames=5)}]
    good, too_long = predictor.predict(rows)
    envelope, tensors = decode_reply(good.body)
    assert (envelope["model"]["engine"], envelope["model"]["provider"]) == ("onnxruntime", "CPUExecutionProvider")
    assert tensors["maps"].shape == (1, 1, 4, 16, 16)
    with pytest.raises(TooLargeError, match="frames"):
        decode_reply(too_long.body)


def test_one_server_answers_labels_and_explanations_in_engines_of_their_own(
    tiny_folder: Path, clip_bytes: Callable[..., bytes]
) -> None:
    config = {"sum3dcam": {"labels_engine": "openvino", "num_threads": 1}}
    predictor = start_predictor(tiny_folder, gpu_id=None, model_config=config)
    replies = predictor.predict([{"data": clip_bytes()}, {"data": clip_bytes(), "explain": "boxes"}])
    said = [decode_reply(reply.body)[0]["model"] for reply in replies]
    assert [model["engine"] for model in said] == ["openvino", "onnxruntime"]


def test_servers_size_limit_reaches_the_replies(
    tiny_folder: Path, clip_bytes: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.properties").write_text("max_response_size=2000\nmax_request_size=100000\n")
    monkeypatch.setenv("TS_CONFIG_FILE", str(tmp_path / "config.properties"))
    predictor = start_predictor(tiny_folder, gpu_id=None, model_config=None)
    (reply,) = predictor.predict([{"data": clip_bytes(), "explain": "maps"}])
    with pytest.raises(TooLargeError, match="max_response_size"):
        decode_reply(reply.body)


@pytest.mark.parametrize("config", [{"sum3dcam": {"max_frame": 3}}, {"batchSize": "8"}])
def test_wrong_configuration_stops_the_worker(config: Any, tiny_folder: Path) -> None:
    with pytest.raises(ArtifactError):
        start_predictor(tiny_folder, gpu_id=None, model_config=config)
