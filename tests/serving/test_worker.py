"""A worker's start, from an unpacked archive to a predictor that answers."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from threading import Timer
from typing import Any

import av
import numpy as np
import onnxruntime
import psutil
import pytest

from sum3dcam.errors import ArtifactError, DecoderCrashedError, TooLargeError
from sum3dcam.serving.worker import start_predictor
from sum3dcam.wire import decode_reply


def test_archives_artefact_and_configuration_answer(tiny_folder: Path, clip_bytes: Callable[..., bytes]) -> None:
    config = {"batchSize": 8, "sum3dcam": {"decode_processes": 0, "max_frames": 4, "num_threads": 1}}
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
    config = {"sum3dcam": {"decode_processes": 0, "labels_engine": "openvino", "num_threads": 1}}
    predictor = start_predictor(tiny_folder, gpu_id=None, model_config=config)
    replies = predictor.predict([{"data": clip_bytes()}, {"data": clip_bytes(), "explain": "boxes"}])
    said = [decode_reply(reply.body)[0]["model"] for reply in replies]
    assert [model["engine"] for model in said] == ["openvino", "onnxruntime"]


def test_servers_size_limit_reaches_the_replies(
    tiny_folder: Path, clip_bytes: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.properties").write_text("max_response_size=2000\nmax_request_size=100000\n")
    monkeypatch.setenv("TS_CONFIG_FILE", str(tmp_path / "config.properties"))
    predictor = start_predictor(tiny_folder, gpu_id=None, model_config={"sum3dcam": {"decode_processes": 0}})
    (reply,) = predictor.predict([{"data": clip_bytes(), "explain": "maps"}])
    with pytest.raises(TooLargeError, match="max_response_size"):
        decode_reply(reply.body)


def test_the_gpu_that_the_server_names_is_the_one_asked_for(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ArtifactError, match="cuda:3"):
        start_predictor(tiny_folder, gpu_id=3, model_config={"sum3dcam": {"decode_processes": 0}})


@pytest.mark.parametrize("config", [{"sum3dcam": {"max_frame": 3}}, {"batchSize": "8"}])
def test_wrong_configuration_stops_the_worker(config: Any, tiny_folder: Path) -> None:
    with pytest.raises(ArtifactError):
        start_predictor(tiny_folder, gpu_id=None, model_config=config)


def test_videos_are_decoded_in_other_processes_and_answered_as_ever(
    tiny_folder: Path, clip_bytes: Callable[..., bytes]
) -> None:
    rows: list[dict[str, Any]] = [{"data": grey_video(seed), "explain": "boxes"} for seed in range(4)]
    rows.insert(2, {"data": grey_video(0)[:-50]})
    rows.insert(4, {"data": clip_bytes()})
    here, there = (
        start_predictor(tiny_folder, gpu_id=None, model_config={"sum3dcam": {"decode_processes": n, "num_threads": 1}})
        for n in (0, 2)
    )
    expected = here.predict(rows)
    assert [reply.http_status for reply in expected] == [200, 200, 415, 200, 200, 200]
    assert there.predict(rows) == expected


def test_a_worker_whose_decoders_are_killed_in_the_middle_of_a_file_goes_on(tiny_folder: Path) -> None:
    config = {"sum3dcam": {"decode_processes": 1, "num_threads": 1}}
    before = psutil.Process().children()
    predictor = start_predictor(tiny_folder, gpu_id=None, model_config=config)
    (decoder,) = (child for child in psutil.Process().children() if child not in before)
    rows = [{"data": grey_video(seed)} for seed in range(2)]
    good = predictor.predict(rows)
    decoder.suspend()
    killer = Timer(0.3, decoder.kill)
    killer.start()
    crashed, after = predictor.predict(rows)
    killer.join()
    with pytest.raises(DecoderCrashedError, match="SIGKILL"):
        decode_reply(crashed.body)
    assert (crashed.http_status, after) == (422, good[1])


def grey_video(seed: int) -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for level in range(4 + seed):
            frame = np.full((16, 32, 3), 20 + 30 * level, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()
