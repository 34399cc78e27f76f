"""Oracle: counts made up so that every share is known."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from sum3dcam.evaluation.kinds import TRIVIAL_BOXES, MapKind, map_kinds
from sum3dcam.evaluation.picture import write_picture
from sum3dcam.evaluation.report import dumps, render, to_json, verdict
from sum3dcam.evaluation.study import KindCounts, Settings, VideoCounts
from sum3dcam.evaluation.summary import summarise

SETTINGS = Settings(thresholds=(0.2, 0.4), ious=(0.3, 0.5, 0.7))
KINDS = (MapKind("good", "3DCAM", "sum3dcam", ("conv",)), MapKind("poor", "3DCAM", "sum3dcam", ("layer4",)))


def counted(v1, v2=None, *, oracle=(4, 4, 4), pointed=0, empty_clips=0):
    hits = {"v1": np.array(v1), "v2": np.array(v2 or v1)}
    return KindCounts(hits, np.array(oracle), pointed, pointed, empty_clips)


def video(good, *, clips_right=1, video_right=1):
    """Four frames in two clips; every trivial box is right in one of them at the lowest IoU."""
    trivial = {name: counted([[1, 0, 0]] * len(sides)) for name, sides in TRIVIAL_BOXES.items()}
    poor = counted([[1, 0, 0], [0, 0, 0]], empty_clips=2)
    return VideoCounts(4, 2, clips_right, video_right, {"good": good, "poor": poor, **trivial}, 1e-7)


@pytest.fixture(scope="module")
def summary():
    videos = [video(counted([[4, 1, 0], [2, 2, 0]], [[4, 3, 1], [2, 2, 1]], pointed=3)) for _ in range(10)]
    videos.append(video(counted([[0, 1, 0], [2, 2, 0]], pointed=1), clips_right=2, video_right=0))
    return summarise(videos, kinds=KINDS, settings=SETTINGS)


def row_named(summary, name):
    return next(row for row in summary.rows if row.name == name)


def test_accuracies_are_shares_of_clips_and_of_videos(summary):
    assert (summary.num_videos, summary.num_clips, summary.num_frames) == (11, 22, 44)
    assert summary.clip_accuracy.value == pytest.approx(12 / 22)
    assert summary.video_accuracy.value == pytest.approx(10 / 11)


def test_each_iou_takes_its_best_threshold(summary):
    good = row_named(summary, "good")
    assert [curve.share.value for curve in good.max_box_acc["v1"]] == pytest.approx([40 / 44, 22 / 44, 0])
    assert [good.parameters[curve.best] for curve in good.max_box_acc["v1"]] == [0.2, 0.4, 0.2]
    assert good.pointed.value == pytest.approx(31 / 44)


def test_v2_is_the_mean_over_its_ious(summary):
    at_3, at_5, at_7 = 40 / 44, 31 / 44, 10 / 44
    assert row_named(summary, "good").v2_mean == pytest.approx((at_3 + at_5 + at_7) / 3)


def test_v2_needs_its_ious():
    settings = Settings(thresholds=(0.2, 0.4), ious=(0.3, 0.5, 0.9))
    videos = [video(counted([[4, 1, 0], [2, 2, 0]]))]
    assert summarise(videos, kinds=KINDS, settings=settings).rows[0].v2_mean is None


def test_a_map_beats_the_trivial_boxes_only_beyond_doubt(summary):
    assert row_named(summary, "good").beats_trivial["v1"] == (True, True, False)
    assert row_named(summary, "poor").beats_trivial["v1"] == (False, False, False)  # equal is not better


def test_one_lucky_video_of_many_is_no_proof():
    videos = [video(counted([[1, 0, 0], [0, 0, 0]])) for _ in range(10)] + [video(counted([[4, 0, 0], [0, 0, 0]]))]
    lucky = summarise(videos, kinds=KINDS, settings=SETTINGS).rows[0]
    assert lucky.max_box_acc["v1"][0].share.value > 0.25
    assert lucky.beats_trivial["v1"][0] is False


def test_a_data_set_without_any_ground_truth_is_refused():
    nothing = counted([[0, 0, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match="no frame has ground truth"):
        summarise([dataclasses.replace(video(nothing), frames=0)], kinds=KINDS, settings=SETTINGS)


def test_the_verdict_names_who_is_better_and_who_is_not(summary):
    assert verdict(summary)[0] == "IoU .3 (V1), clearly better than every trivial box: good; not: poor."


def test_the_table_shows_every_row_and_says_what_was_explained(summary):
    console = Console(width=165)
    with console.capture() as capture:
        console.print(render(summary, title="a title"))
    text = capture.get()
    for words in ("a title", "good", "poor", "Full frame", "Centre box 0.7", "ground-truth class", "54.5", "90.9"):
        assert words in text
    assert "…" not in text


def test_the_json_holds_the_figures_and_is_plain(summary):
    plain = to_json(summary, provenance={"command": "sum3dcam evaluate"})
    text = dumps(plain)
    tree = json.loads(text)
    assert tree == json.loads(json.dumps(plain))
    assert '"thresholds": [0.2, 0.4]' in text
    good = tree["maps"][0]
    assert tree["command"] == "sum3dcam evaluate"
    assert good["max_box_acc"]["v1"]["0.3"]["value"] == pytest.approx(40 / 44)
    assert good["max_box_acc"]["v1"]["0.5"]["parameter"] == 0.4
    assert good["max_box_acc"]["v1"]["0.3"]["curve"] == pytest.approx([40 / 44, 22 / 44], abs=1e-6)
    assert tree["maps"][1]["empty_clips"] == 1.0
    assert len(tree["maps"]) == 2 + len(TRIVIAL_BOXES)


def test_the_picture_is_a_png(summary, tmp_path):
    write_picture(summary, tmp_path / "out.png", title="a title")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_kinds_follow_the_cards_taps_and_are_told_apart():
    five = map_kinds(("conv", "layer1", "layer2", "layer3", "layer4"))
    names = [kind.name for kind in five]
    assert len(set(names)) == len(names)
    assert {"Sum3DCAM all taps", "Sum3DCAM conv+layer1", "3DCAM layer3", "Grad-CAM layer4"} <= set(names)
    assert [kind.name for kind in map_kinds(("layer2",))] == [
        "Sum3DCAM all taps",
        "Sum3DCAM-elementwise all taps",
        "Sum Grad-CAM all taps",
        "Grad-CAM layer2",
    ]
