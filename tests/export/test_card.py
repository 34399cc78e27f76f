"""The card travels unchanged, and what is no card of this contract is refused in words."""

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.oracle import tiny

from sum3dcam.contract import CONTRACT_VERSION, GRIDS, LABELS_GRAPH, Card
from sum3dcam.errors import ArtifactError


def card() -> Card:
    made = tiny.prepared(tiny.Case(gates=("conv",))).card
    row = {"engine": "e", "provider": "cpu", "passed": True, "logits_max_error": 1.5e-7}
    return Card(**{**vars(made), "parity": (row,), "labels": ("ä", "b", "c", "d", "e")})


def test_a_card_survives_its_round_trip() -> None:
    assert Card.from_json(card().to_json()) == card()


def test_the_outputs_follow_from_the_card() -> None:
    made = card()
    assert made.outputs[:3] == ("logits", "explained", "saliency")
    assert made.outputs[3:8] == tuple(f"{grid}_conv" for grid in GRIDS)
    assert len(made.outputs) == 3 + 5 * len(GRIDS)
    assert Card(**{**vars(made), "graph": LABELS_GRAPH}).outputs == ("logits",)


@pytest.mark.parametrize("version", [CONTRACT_VERSION + 1, CONTRACT_VERSION - 1, "1", None])
def test_another_contract_version_is_refused(version: Any) -> None:
    raw = json.loads(card().to_json()) | {"contract_version": version}
    with pytest.raises(ArtifactError, match="another contract version") as caught:
        Card.from_json(json.dumps(raw))
    assert caught.value.allowed == CONTRACT_VERSION


@pytest.mark.parametrize("text", ["", None, "{", "[]", "3", '"text"', "{}", "null"])
def test_what_is_no_card_is_refused(text: str | None) -> None:
    with pytest.raises(ArtifactError):
        Card.from_json(text)


@pytest.mark.parametrize("change", [{"more": 1}, {"labels": ...}])
def test_fields_missing_or_in_excess_are_named(change: dict[str, Any]) -> None:
    raw = json.loads(card().to_json()) | change
    raw = {name: value for name, value in raw.items() if value is not ...}
    with pytest.raises(ArtifactError, match="other fields") as caught:
        Card.from_json(json.dumps(raw))
    assert caught.value.got == list(change)


@pytest.mark.parametrize("taps", [[{"name": "conv"}], ["conv"], None, [None]])
def test_fields_of_another_kind_are_refused(taps: Any) -> None:
    raw = json.loads(card().to_json()) | {"taps": taps}
    with pytest.raises(ArtifactError):
        Card.from_json(json.dumps(raw))


@pytest.mark.parametrize(
    "rows", [3, [3], [{}], [{"engine": "e", "provider": "cpu"}], [{"engine": "e", "provider": "cpu", "passed": "yes"}]]
)
def test_a_certificate_of_another_kind_is_refused(rows: Any) -> None:
    raw = json.loads(card().to_json()) | {"parity": rows}
    with pytest.raises(ArtifactError, match="another kind"):
        Card.from_json(json.dumps(raw))


def test_a_row_is_found_by_engine_and_provider_whichever_the_device() -> None:
    rows = tuple({"engine": "e", "provider": provider, "passed": True} for provider in ("cpu", "cuda"))
    made = replace(card(), parity=rows)
    assert made.parity_row("e", provider="cuda:1") == rows[1]
    assert made.parity_row("e", provider="cpu") == rows[0]
    assert made.parity_row("other", provider="cpu") is None
    assert made.parity_row("e", provider="xpu") is None


def test_a_card_from_before_there_were_precisions_is_float32s() -> None:
    raw = json.loads(card().to_json())
    assert raw.pop("precision") == "fp32"
    assert Card.from_json(json.dumps(raw)) == card()
    assert Card.from_json(json.dumps(raw | {"precision": "bf16"})).precision == "bf16"
    with pytest.raises(ArtifactError, match="of another kind"):
        Card.from_json(json.dumps(raw | {"precision": "fp8"}))
