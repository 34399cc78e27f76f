"""What this machine computes with, as Linux names it."""

import platform
import re
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_INSTRUCTIONS = re.compile(r"s?sse|avx|amx|fma|f16c|bmi|abm|adx|movbe|popcnt")
_NVIDIA = Path("/proc/driver/nvidia/gpus")


def processor() -> str:
    """The processor's name."""
    return _first(_CPUINFO, key="model name") or platform.processor() or platform.machine()


def cpu_features() -> frozenset[str]:
    """The processor's instruction sets that a compiler for it may use; empty where Linux does not name them."""
    flags = _first(_CPUINFO, key="flags") or ""
    return frozenset(flag for flag in flags.split() if _INSTRUCTIONS.match(flag))


def gpu() -> str | None:
    """The first NVIDIA GPU's name; None where this machine has none."""
    cards = sorted(_NVIDIA.glob("*/information"))
    return _first(cards[0], key="Model") if cards else None


def _first(path: Path, *, key: str) -> str | None:
    """The first value under `key` in a file of `key : value` lines."""
    lines = path.read_text().splitlines() if path.exists() else []
    values = [value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key]
    return values[0] if values else None
