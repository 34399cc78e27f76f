"""The committed stubs are what grpcio-tools makes of inference.proto.

Regenerate: python -m grpc_tools.protoc -Isrc --python_out=src --grpc_python_out=src sum3dcam/client/inference.proto
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import sum3dcam.client
from sum3dcam.client import inference_pb2, inference_pb2_grpc

PROTO = "sum3dcam/client/inference.proto"
SOURCES = Path(sum3dcam.client.__file__).parents[2]


def _without_versions(text: str) -> str:
    """The stubs name the generator's release; another release of the same stubs is no difference."""
    return re.sub(r"\d+\.\d+\.\d+|^    \d+,$", "X", text, flags=re.MULTILINE)


def test_stubs_are_generated_from_the_proto_beside_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCES}", f"--python_out={tmp_path}"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run([*command, f"--grpc_python_out={tmp_path}", PROTO], check=True, env=environment)
    for stub in ("inference_pb2.py", "inference_pb2_grpc.py"):
        made = (tmp_path / PROTO).with_name(stub).read_text()
        committed = (SOURCES / PROTO).with_name(stub).read_text()
        assert _without_versions(committed) == _without_versions(made), "regenerate: see this file's docstring"


def test_messages_have_torchserves_names_and_numbers() -> None:
    service = inference_pb2.DESCRIPTOR.services_by_name["InferenceAPIsService"]
    assert service.full_name == "org.pytorch.serve.grpc.inference.InferenceAPIsService"
    assert [method.name for method in service.methods] == ["Ping", "Predictions", "StreamPredictions"]
    numbers = {
        message.name: {field.name: field.number for field in message.fields}
        for message in inference_pb2.DESCRIPTOR.message_types_by_name.values()
    }
    assert numbers == {
        "PredictionsRequest": {"model_name": 1, "model_version": 2, "input": 3},
        "PredictionResponse": {"prediction": 1},
        "TorchServeHealthResponse": {"health": 1},
    }


def test_stubs_import_as_modules_of_the_package() -> None:
    assert inference_pb2_grpc.__name__ == "sum3dcam.client.inference_pb2_grpc"
