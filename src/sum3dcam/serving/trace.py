"""A request's place in a trace that others write (https://www.w3.org/TR/trace-context/)."""

import re
from dataclasses import dataclass

# Version, trace, parent, flags; a later version than 00 may have more to say.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-[!-~]*)?")


@dataclass(frozen=True)
class Trace:
    """The trace, and the caller's span in it: 32 and 16 hexadecimal digits."""

    trace_id: str
    parent_id: str


def parse_traceparent(text: str) -> Trace | None:
    """What a traceparent says; None for one that the recommendation tells to ignore.

    >>> parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    Trace(trace_id='0af7651916cd43dd8448eb211c80319c', parent_id='b7ad6b7169203331')
    """
    match = _TRACEPARENT.fullmatch(text)
    if match is None or (match[1] == "00" and match[4]):
        return None
    return Trace(trace_id=match[2], parent_id=match[3])
