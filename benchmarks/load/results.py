"""Results files."""

import json
import re
from collections.abc import Mapping
from typing import Any


def dumps(report: Mapping[str, Any]) -> str:
    """JSON with each innermost list or object, a histogram say, on one line."""
    text = json.dumps(report, indent=1, allow_nan=False)
    return re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda inner: " ".join(inner.group().split()), text) + "\n"
