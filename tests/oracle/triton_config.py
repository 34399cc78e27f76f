"""Triton's ModelConfig message, as far as this project writes it, and the rules by which Triton accepts one.

Field names and types are those of Triton's model_config.proto; protobuf's own parser refuses everything else. The
rules are read off Triton's sources: model_config_utils.cc of its core, onnxruntime.cc of the backend.
"""

from collections.abc import Mapping
from typing import Any

import onnx
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from onnx import TensorProto
from tests.oracle.onnx_file import describe

Field = descriptor_pb2.FieldDescriptorProto
STRING, INT32, INT64, UINT64 = Field.TYPE_STRING, Field.TYPE_INT32, Field.TYPE_INT64, Field.TYPE_UINT64
REPEATED = "repeated"
DATA_TYPES = {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_INT64": 9, "TYPE_FP32": 11}
KINDS = {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2}
ELEMENT_TYPES = {TensorProto.UINT8: 2, TensorProto.INT64: 9, TensorProto.FLOAT: 11}

# Message -> field -> its number and type: a scalar, or another message or enum by name.
MESSAGES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "Reshape": {"shape": (1, INT64, REPEATED)},
    "Input": {
        "name": (1, STRING),
        "data_type": (2, "DataType"),
        "dims": (4, INT64, REPEATED),
        "reshape": (5, "Reshape"),
    },
    "Output": {
        "name": (1, STRING),
        "data_type": (2, "DataType"),
        "dims": (3, INT64, REPEATED),
        "reshape": (5, "Reshape"),
    },
    "InstanceGroup": {"kind": (4, "Kind"), "count": (2, INT32)},
    "DynamicBatching": {
        "preferred_batch_size": (1, INT32, REPEATED),
        "max_queue_delay_microseconds": (2, UINT64),
    },
    "Specific": {"versions": (1, INT64, REPEATED)},
    "VersionPolicy": {"specific": (3, "Specific")},
    "Parameter": {"string_value": (1, STRING)},
    "ParametersEntry": {"key": (1, STRING), "value": (2, "Parameter")},
    "ModelConfig": {
        "name": (1, STRING),
        "backend": (17, STRING),
        "version_policy": (3, "VersionPolicy"),
        "max_batch_size": (4, INT32),
        "input": (5, "Input", REPEATED),
        "output": (6, "Output", REPEATED),
        "instance_group": (7, "InstanceGroup", REPEATED),
        "dynamic_batching": (11, "DynamicBatching"),
        "parameters": (14, "ParametersEntry", REPEATED),
    },
}


def parse(text: str) -> Any:
    """The message in a config.pbtxt.

    Raises:
        text_format.ParseError: an unknown field, a value of another type, a syntax error.
    """
    return text_format.Parse(text, _MODEL_CONFIG())


def check(config: Any, *, folder_name: str, model: onnx.ModelProto) -> None:
    """What Triton checks before it loads the model."""
    assert config.name == folder_name
    assert config.backend == "onnxruntime"
    assert config.max_batch_size >= 1
    assert all(1 <= size <= config.max_batch_size for size in config.dynamic_batching.preferred_batch_size)
    for tensors, infos in ((config.input, model.graph.input), (config.output, model.graph.output)):
        assert [tensor.name for tensor in tensors] == [info.name for info in infos]
        for tensor, info in zip(tensors, infos, strict=True):
            element_type, (batch, *axes) = describe(info)
            assert ELEMENT_TYPES[element_type] == tensor.data_type, tensor.name
            assert isinstance(batch, str), tensor.name  # a free batch axis
            assert len(tensor.dims) >= 1, tensor.name
            assert list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims) == axes, tensor.name
            if tensor.HasField("reshape"):
                assert list(tensor.dims) == [1]
                assert axes == []


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="triton_subset.proto", package="inference", syntax="proto3")
    for name, values in (("DataType", DATA_TYPES), ("Kind", KINDS)):
        enum = file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, *repeated) in fields.items():
            made = message.field.add(name=field, number=number)
            made.label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
            if isinstance(kind, str):
                made.type = Field.TYPE_MESSAGE if kind in MESSAGES else Field.TYPE_ENUM
                made.type_name = f".inference.{kind}"
            else:
                made.type = kind
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())
_MODEL_CONFIG = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("inference.ModelConfig"))
