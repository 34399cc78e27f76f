"""A request's options: flat keys with text values, each parsed by one function, unknown ones refused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sum3dcam.attribution.maps import METHODS, choose_taps
from sum3dcam.contract import (
    BOX_MODES,
    COMPRESSIONS,
    COORDINATES,
    DEFAULT_METHOD,
    EXPLAIN_MODES,
    FORMATS,
    MAP_DTYPES,
    NORMALISATIONS,
    OPTION_KEYS,
    TOP_CLASS,
    TUBE_MODES,
    Card,
)
from sum3dcam.errors import BadOptionError, UnknownOptionError
from sum3dcam.serving.trace import Trace, parse_traceparent

Row = Mapping[str, Any]

# What a server's row may hold beside options: the bytes, and the name under which TorchServe finds the model.
BODY_KEYS = ("data", "body")
TRANSPORT_KEYS = (*BODY_KEYS, "model_name")

DEFAULT_TOP_K = 5
# Each class explained costs a pass of the explain graph, and its map as many bytes as the first's.
MAX_EXPLAINED = 10
TOP = "top"
MAX_REQUEST_ID_CHARACTERS = 128


@dataclass(frozen=True)
class RequestOptions:
    """What a request asks for.

    `targets` are the classes to explain: an index, TOP_CLASS, or, below it, the clip's second best (-2), third best
    (-3) and so on, which come with TOP_CLASS before them. `threshold` None is the authors' rule. `deadline_ms` counts
    from the request's arrival at the worker, or, from UNIX_TIME_FROM_MS on, is a Unix time, which covers the queue too.
    """

    explain: str
    method: str
    taps: tuple[str, ...]
    targets: tuple[int, ...]
    coordinates: str
    normalisation: str
    top_k: int
    threshold: float | None
    box_mode: str
    tubes: str
    map_dtype: str
    format: str
    compression: str
    deadline_ms: int | None
    request_id: str | None


def parse_options(row: Row, *, card: Card) -> RequestOptions:
    """The row's options, defaults filled in from the card.

    Raises:
        UnknownOptionError: a key outside OPTION_KEYS.
        BadOptionError: a value outside what its key allows.
    """
    unknown = sorted(set(row) - {*OPTION_KEYS, *TRANSPORT_KEYS})
    if unknown:
        raise _unknown(unknown[0])
    texts = {key: _text(key, row[key]) for key in OPTION_KEYS if key in row}

    def value(key: str, parse: Callable[..., Any], default: Any) -> Any:
        return parse(key, texts[key], card) if key in texts else default

    explain = value("explain", _one_of(EXPLAIN_MODES), "none")
    method = value("method", _one_of(tuple(METHODS)), DEFAULT_METHOD)
    return RequestOptions(
        explain=explain,
        method=method,
        taps=choose_taps(value("taps", _names, None), method=method, available=card.tap_names),
        targets=value("target", _targets, (TOP_CLASS,)),
        coordinates=value("coordinates", _one_of(COORDINATES), COORDINATES[0]),
        normalisation=value("normalisation", _one_of(NORMALISATIONS), NORMALISATIONS[0]),
        top_k=value("top_k", _top_k, min(DEFAULT_TOP_K, len(card.labels))),
        threshold=value("threshold", _threshold, None),
        box_mode=value("box_mode", _one_of(BOX_MODES), BOX_MODES[0]),
        tubes=_tubes(value("tubes", _one_of(TUBE_MODES), TUBE_MODES[0]), explain=explain),
        map_dtype=value("map_dtype", _one_of(MAP_DTYPES), MAP_DTYPES[0]),
        format=_format(texts.get("format"), explain=explain),
        compression=value("compression", _one_of(COMPRESSIONS), COMPRESSIONS[0]),
        deadline_ms=value("deadline_ms", _deadline_ms, None),
        request_id=read_request_id(row),
    )


def read_request_id(row: Row) -> str | None:
    """The request's own name for itself.

    Raises:
        BadOptionError: too long or not printable.
    """
    if "request_id" not in row:
        return None
    text = _text("request_id", row["request_id"])
    if len(text) > MAX_REQUEST_ID_CHARACTERS or not text.isprintable():
        raise _bad("request_id", text, f"at most {MAX_REQUEST_ID_CHARACTERS} printable characters")
    return text


def read_trace(row: Row) -> Trace | None:
    """The request's place in a trace.

    Raises:
        BadOptionError: not a traceparent.
    """
    if "traceparent" not in row:
        return None
    text = _text("traceparent", row["traceparent"])
    trace = parse_traceparent(text)
    if trace is None:
        raise _bad("traceparent", text, "W3C Trace Context: 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")
    return trace


def _unknown(key: str) -> UnknownOptionError:
    if key.isprintable():
        return UnknownOptionError(f"unknown option '{key[:80]}'", got=key[:80], allowed=list(OPTION_KEYS))
    return UnknownOptionError(
        "the body was sent form-encoded and read as options; send it as application/octet-stream or video/*",
        got=repr(key[:40]),
        allowed=list(OPTION_KEYS),
    )


def _bad(key: str, got: Any, allowed: Any) -> BadOptionError:
    return BadOptionError(f"bad value for option '{key}'", got=str(got)[:80], allowed=allowed)


def _text(key: str, value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _bad(key, bytes(value[:40]), "UTF-8 text") from error
    return str(value)


def _one_of(allowed: tuple[str, ...]) -> Callable[[str, str, Card], str]:
    def parse(key: str, text: str, card: Card) -> str:
        if text not in allowed:
            raise _bad(key, text, list(allowed))
        return text

    return parse


def _names(key: str, text: str, card: Card) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _targets(key: str, text: str, card: Card) -> tuple[int, ...]:
    """A label, which may hold commas; or several labels, indices and `top`; or `top-3`: the three best."""
    most = min(MAX_EXPLAINED, len(card.labels))
    if text in card.labels:
        return (card.labels.index(text),)
    head, dash, count = text.partition("-")
    if head == TOP and dash:
        allowed = f"'top-2' to 'top-{most}'"
        return tuple(-rank for rank in range(1, 1 + _integer(key, count, lowest=1, highest=most, allowed=allowed)))
    targets = tuple(_target(key, part.strip(), card) for part in text.split(",", maxsplit=most))
    if len(set(targets)) != len(targets) or len(targets) > most:
        raise _bad(key, text, f"at most {most} different classes")
    return targets


def _target(key: str, text: str, card: Card) -> int:
    if text == TOP:
        return TOP_CLASS
    if text in card.labels:
        return card.labels.index(text)
    highest = len(card.labels) - 1
    allowed = f"'top', a label, an index from 0 to {highest}, several of these with commas between, or 'top-3'"
    return _integer(key, text, lowest=0, highest=highest, allowed=allowed)


def _integer(key: str, text: str, *, lowest: int, highest: int, allowed: str | None = None) -> int:
    # The length check keeps int() off a megabyte of digits.
    if not (text.isascii() and text.isdigit() and len(text) < 20 and lowest <= int(text) <= highest):
        raise _bad(key, text, allowed or f"an integer from {lowest} to {highest}")
    return int(text)


def _top_k(key: str, text: str, card: Card) -> int:
    return _integer(key, text, lowest=1, highest=len(card.labels))


def _deadline_ms(key: str, text: str, card: Card) -> int:
    return _integer(key, text, lowest=1, highest=10**15)


def _threshold(key: str, text: str, card: Card) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not 0.0 < number <= 1.0:
        raise _bad(key, text, "a number above 0 and up to 1")
    return number


def _tubes(mode: str, *, explain: str) -> str:
    if explain == "none" and mode != "none":
        raise BadOptionError(
            f"option 'tubes={mode}' links the boxes of an explanation, and explain=none asks for none",
            got=f"explain={explain}",
            allowed=[f"explain={other}" for other in EXPLAIN_MODES if other != "none"],
        )
    return mode


def _format(text: str | None, *, explain: str) -> str:
    has_tensors = explain in ("maps", "grids")
    allowed = tuple(name for name in FORMATS if name != "json" or not has_tensors)
    if text is None:
        return allowed[0]
    if text not in allowed:
        raise BadOptionError(f"bad value for option 'format' with explain={explain}", got=text[:80], allowed=allowed)
    return text
