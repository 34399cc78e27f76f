"""Options: what each key takes, its default, and the error that names the key."""

from dataclasses import replace
from typing import Any

import pytest

from sum3dcam.contract import OPTION_KEYS, TOP_CLASS, Card, Tap
from sum3dcam.errors import BadOptionError, UnknownOptionError
from sum3dcam.serving.options import MAX_EXPLAINED, parse_options


@pytest.fixture
def card() -> Card:
    return Card(
        graph="explain",
        model="m",
        labels=("left", "right", "7", "left, right", "wave", "kick"),
        num_frames=4,
        size_px=16,
        streams=("rgb",),
        frames_per_second=None,
        preprocessing="shorter-side-centre-crop",
        taps=(Tap("layer1", 1, (1, 1, 1)), Tap("layer2", 1, (1, 1, 1))),
        gates=(),
        weights_sha256="",
        package_version="",
    )


def test_defaults(card: Card) -> None:
    options = parse_options({"data": b"..."}, card=card)
    assert (options.explain, options.method, options.taps) == ("none", "sum3dcam", ("layer1", "layer2"))
    assert (options.targets, options.top_k, options.threshold) == ((TOP_CLASS,), 5, None)
    assert (options.box_mode, options.map_dtype, options.format) == ("union", "u8", "json")
    assert options.tubes == "none"
    assert (options.deadline_ms, options.request_id) == (None, None)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("explain", "maps", "maps"),
        ("method", "layercam", "layercam"),
        ("taps", "layer2", ("layer2",)),
        ("taps", "layer2, layer1", ("layer2", "layer1")),
        ("top_k", "6", 6),
        ("threshold", "0.25", 0.25),
        ("threshold", "1", 1.0),
        ("box_mode", "all", "all"),
        ("tubes", "none", "none"),
        ("map_dtype", "f16", "f16"),
        ("deadline_ms", "1500", 1500),
        ("request_id", "häuser 7", "häuser 7"),
        ("request_id", "", ""),
    ],
)
@pytest.mark.parametrize("encode", [str, str.encode, lambda text: bytearray(text.encode())])
def test_values_come_as_text_or_bytes(key: str, text: str, value: Any, encode: Any, card: Card) -> None:
    assert getattr(parse_options({key: encode(text)}, card=card), key) == value


@pytest.mark.parametrize(
    ("explain", "format", "expected"),
    [
        ("none", None, "json"),
        ("boxes", None, "json"),
        ("maps", None, "safetensors"),
        ("grids", None, "safetensors"),
        ("none", "safetensors", "safetensors"),
        ("boxes", "json", "json"),
    ],
)
def test_format_follows_explain(explain: str, format: str | None, expected: str, card: Card) -> None:
    row = {"explain": explain} | ({"format": format} if format else {})
    assert parse_options(row, card=card).format == expected


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("explain", "yes"),
        ("explain", ""),
        ("explain", "MAPS"),
        ("method", "gradcam++"),
        ("taps", "layer9"),
        ("taps", ""),
        ("taps", "layer1,layer1"),
        ("target", "6"),
        ("target", "-1"),
        ("target", "jump"),
        ("target", "9" * 5000),
        ("target", "top-0"),
        ("target", "top-7"),
        ("target", "top-"),
        ("target", "top-three"),
        ("target", "top-2,right"),
        ("target", "0,0"),
        ("target", "right,1"),
        ("target", "right,"),
        ("target", "," * 5000),
        ("coordinates", "half"),
        ("normalisation", "video"),
        ("top_k", "0"),
        ("top_k", "7"),
        ("top_k", "2.0"),
        ("top_k", "²"),
        ("threshold", "0"),
        ("threshold", "1.01"),
        ("threshold", "nan"),
        ("threshold", "half"),
        ("box_mode", "biggest"),
        ("tubes", "yes"),
        ("map_dtype", "u16"),
        ("format", "xml"),
        ("deadline_ms", "0"),
        ("deadline_ms", "-5"),
        ("deadline_ms", "soon"),
        ("request_id", "x" * 129),
        ("request_id", "a\nb"),
    ],
)
def test_bad_value_names_key_and_what_is_allowed(key: str, text: str, card: Card) -> None:
    with pytest.raises(BadOptionError, match=key) as caught:
        parse_options({key: text}, card=card)
    assert caught.value.got is not None
    assert len(str(caught.value.got)) <= 80
    assert caught.value.allowed is not None


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("top", (TOP_CLASS,)),
        ("0", (0,)),
        ("5", (5,)),
        ("right", (1,)),
        ("7", (2,)),  # a label wins over an index
        ("left, right", (3,)),  # and a label with a comma over a list
        ("top-1", (TOP_CLASS,)),
        ("top-3", (TOP_CLASS, TOP_CLASS - 1, TOP_CLASS - 2)),
        ("right,0, top", (1, 0, TOP_CLASS)),
    ],
)
def test_targets_are_classes_or_the_best_ones(text: str, targets: tuple[int, ...], card: Card) -> None:
    assert parse_options({"target": text}, card=card).targets == targets


def test_more_classes_than_a_server_explains_are_refused(card: Card) -> None:
    many = replace(card, labels=tuple(f"class {index}" for index in range(40)))
    assert len(parse_options({"target": f"top-{MAX_EXPLAINED}"}, card=many).targets) == MAX_EXPLAINED
    for text in (f"top-{MAX_EXPLAINED + 1}", ",".join(str(index) for index in range(MAX_EXPLAINED + 1))):
        with pytest.raises(BadOptionError, match="target") as caught:
            parse_options({"target": text}, card=many)
        assert str(MAX_EXPLAINED) in str(caught.value.allowed)


@pytest.mark.parametrize("tubes", ["none", "linked", "smoothed"])
@pytest.mark.parametrize("explain", ["boxes", "maps", "grids"])
def test_tubes_go_with_every_explanation(explain: str, tubes: str, card: Card) -> None:
    assert parse_options({"explain": explain, "tubes": tubes}, card=card).tubes == tubes


@pytest.mark.parametrize("row", [{}, {"explain": "none"}])
@pytest.mark.parametrize("tubes", ["linked", "smoothed"])
def test_tubes_without_an_explanation_are_refused(row: dict[str, str], tubes: str, card: Card) -> None:
    with pytest.raises(BadOptionError, match=f"tubes={tubes}.*explain=none") as caught:
        parse_options({**row, "tubes": tubes}, card=card)
    assert caught.value.allowed == ["explain=boxes", "explain=maps", "explain=grids"]


def test_no_tubes_may_be_asked_for_without_an_explanation(card: Card) -> None:
    assert parse_options({"tubes": "none"}, card=card).tubes == "none"


@pytest.mark.parametrize("explain", ["maps", "grids"])
def test_tensors_do_not_travel_as_json(explain: str, card: Card) -> None:
    with pytest.raises(BadOptionError, match="format"):
        parse_options({"explain": explain, "format": "json"}, card=card)


def test_bytes_that_are_no_text_name_their_key(card: Card) -> None:
    with pytest.raises(BadOptionError, match="target"):
        parse_options({"target": b"\xff\xfe"}, card=card)


def test_unknown_key_is_named_with_all_known_ones(card: Card) -> None:
    with pytest.raises(UnknownOptionError, match="tpo_k") as caught:
        parse_options({"tpo_k": "3", "data": b"x"}, card=card)
    assert caught.value.got == "tpo_k"
    assert caught.value.allowed == list(OPTION_KEYS)


def test_video_read_as_a_form_is_recognised(card: Card) -> None:
    with pytest.raises(UnknownOptionError, match="form-encoded"):
        parse_options({"\x00\x00 ftypisom\x00": "mdat"}, card=card)


@pytest.mark.parametrize("key", ["data", "body", "model_name"])
def test_what_the_transport_adds_is_no_option(key: str, card: Card) -> None:
    parse_options({key: b"x"}, card=card)


def test_single_tap_method_takes_the_deepest_tap_by_default(card: Card) -> None:
    assert parse_options({"method": "gradcam"}, card=card).taps == ("layer2",)
