"""Boxes as a numpy table."""

import json
from typing import Any

import numpy as np

from sum3dcam.client.boxes import FIELDS, box_table
from sum3dcam.client.reply import read_reply


def test_every_box_is_a_row_of_typed_fields(make: Any) -> None:
    envelope = make.envelope()
    boxes = envelope["clips"][1]["explanations"][0]["boxes"]
    boxes.append({"frame": 5, "time_seconds": None, "box_xyxy_px": [1, 2, 3, 4], "score": 0.5})
    table = box_table(read_reply(json.dumps(envelope).encode()))
    assert table.dtype.names == tuple(FIELDS)
    assert table["frame"].tolist() == [1, 5]
    assert table["clip"].tolist() == [0, 1]
    assert table["label"].tolist() == ["wave", "wave"]
    np.testing.assert_array_equal(table["time_seconds"], [1 / 25, np.nan])
    np.testing.assert_array_equal(table["x2_px"] - table["x1_px"], [40, 2])


def test_no_boxes_are_an_empty_table_of_the_same_fields(make: Any) -> None:
    envelope = make.envelope()
    for clip in envelope["clips"]:
        clip["explanations"] = []
    table = box_table(read_reply(json.dumps(envelope).encode()))
    assert (len(table), table.dtype.names) == (0, tuple(FIELDS))
