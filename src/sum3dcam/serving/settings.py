"""What a server is told: the archive's model-config.yaml and TorchServe's config.properties, both checked.

TorchServe itself only logs a warning for a wrong type and goes on with its default.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sum3dcam.contract import EXPLAIN_GRAPH, LABELS_GRAPH
from sum3dcam.errors import ArtifactError
from sum3dcam.video.decode import DecodeLimits

SECTION = "sum3dcam"
CONFIG_VARIABLE = "TS_CONFIG_FILE"

# TorchServe's own keys that this project's model-config.yaml may hold, with the least value of each.
_TORCHSERVE_KEYS: Mapping[str, int] = {
    "minWorkers": 1,
    "maxWorkers": 1,
    "batchSize": 1,
    "maxBatchDelay": 0,
    "responseTimeout": 1,
    "startupTimeout": 1,
    "maxRetryTimeoutInSec": 1,
    "jobQueueSize": 1,
}
# Whether an engine of that name runs the file is found out when it is loaded.
_ENGINE_KEYS: Mapping[str, str] = {f"{graph}_engine": graph for graph in (EXPLAIN_GRAPH, LABELS_GRAPH)}
_TORCHSERVE_DEFAULT_BYTES = 6_553_500
_DEFAULT_RESPONSE_TIMEOUT_SECONDS = 120

# A batch stops computing at this share of TorchServe's responseTimeout, after which the worker would be killed.
TIME_SHARE = 0.8


@dataclass(frozen=True)
class Settings:
    """One worker's facts.

    `num_threads` is per worker, 0 leaves it to the engine; `decode_processes` is per worker, 0 decodes in the worker
    itself, which a hostile file may then crash; `engines` names what runs a graph (explain, labels) in place of the
    fastest engine that is installed and certified; `max_batch_clips` is how many clips one call of the engine takes,
    None asks for the device's default; `cuda_graph_clips` is up to how many of them a call is a recorded CUDA graph.
    """

    num_threads: int = 0
    decode_processes: int = 2
    engines: Mapping[str, str] = field(default_factory=dict)
    max_batch_clips: int | None = None
    cuda_graph_clips: int = 0
    batch_seconds: float = TIME_SHARE * _DEFAULT_RESPONSE_TIMEOUT_SECONDS
    max_reply_bytes: int = _TORCHSERVE_DEFAULT_BYTES
    limits: DecodeLimits = field(default_factory=DecodeLimits)


def read_settings(model_config: Mapping[str, Any] | None, *, properties: Mapping[str, str]) -> Settings:
    """The settings in a parsed model-config.yaml and a parsed config.properties; defaults for what they leave out.

    Raises:
        ArtifactError: an unknown key, or a value of another type or range.
    """
    config = dict(model_config or {})
    section = dict(config.pop(SECTION, None) or {})
    _check_keys(config, allowed=_TORCHSERVE_KEYS, where="model-config.yaml")
    for key, value in config.items():
        _number(value, key=key, lowest=_TORCHSERVE_KEYS[key])
    limit_names = {field.name for field in fields(DecodeLimits)}
    numbers = {"num_threads", "decode_processes", "max_batch_clips", "cuda_graph_clips"}
    allowed = (numbers | _ENGINE_KEYS.keys() | limit_names) - {"max_bytes"}
    _check_keys(section, allowed=allowed, where=f"model-config.yaml, section {SECTION}")
    limits = {key: _number(value, key=key, lowest=1) for key, value in section.items() if key in limit_names}
    return Settings(
        num_threads=_number(section.get("num_threads", 0), key="num_threads", lowest=0),
        decode_processes=_number(
            section.get("decode_processes", Settings.decode_processes), key="decode_processes", lowest=0
        ),
        engines={graph: _text(section[key], key=key) for key, graph in _ENGINE_KEYS.items() if key in section},
        max_batch_clips=(
            _number(section["max_batch_clips"], key="max_batch_clips", lowest=1)
            if "max_batch_clips" in section
            else None
        ),
        cuda_graph_clips=_number(section.get("cuda_graph_clips", 0), key="cuda_graph_clips", lowest=0),
        batch_seconds=TIME_SHARE * config.get("responseTimeout", _DEFAULT_RESPONSE_TIMEOUT_SECONDS),
        max_reply_bytes=size_limit(properties, "max_response_size"),
        limits=DecodeLimits(max_bytes=size_limit(properties, "max_request_size"), **limits),
    )


def read_properties(path: Path | None) -> dict[str, str]:
    """The key=value lines of a config.properties; nothing for None."""
    if path is None:
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def server_properties(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The config.properties of the server that this worker belongs to, found as TorchServe finds it."""
    path = environment.get(CONFIG_VARIABLE)
    return read_properties(Path(path) if path else None)


def size_limit(properties: Mapping[str, str], key: str) -> int:
    """Bytes that a config.properties grants under max_request_size or max_response_size; TorchServe's own where it
    is silent.

    Raises:
        ArtifactError: not a number.
    """
    text = properties.get(key, str(_TORCHSERVE_DEFAULT_BYTES))
    if not text.isdigit():
        raise ArtifactError(f"bad value for '{key}' in config.properties", got=text, allowed="a number of bytes")
    return int(text)


def _check_keys(values: Mapping[str, Any], *, allowed: Any, where: str) -> None:
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        raise ArtifactError(f"unknown key in {where}", got=unknown, allowed=sorted(allowed))


def _number(value: Any, *, key: str, lowest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
        raise ArtifactError(f"bad value for '{key}' in model-config.yaml", got=value, allowed=f"an integer >= {lowest}")
    return value


def _text(value: Any, *, key: str) -> str:
    if not isinstance(value, str):
        raise ArtifactError(f"bad value for '{key}' in model-config.yaml", got=value, allowed="a name")
    return value
