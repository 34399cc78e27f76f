"""benchmarks/study.py: equal training, counts that resume, figures and verdicts as computed by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import study
import torch
from claims import page
from claims.measurement import ELEMENTWISE, FULL_SUM, PAPERS_SUM, Counted, Facts
from claims.presets import Preset, hard
from claims.summary import BETTER, GROUPS, UNDECIDED, WORSE, Measured, summarise
from click.testing import CliRunner

from sum3dcam.evaluation.datasets.rendered import read_rendered
from sum3dcam.evaluation.prepare import true_boxes
from sum3dcam.synthetic import read_annotations, write_dataset
from sum3dcam.training.stages import Recipe

TINY = Preset(
    model="resnext-mini",
    initial=Path(__file__).parents[2] / "export" / "weights" / "resnext-mini.safetensors",
    base=Recipe((hard(num_videos=4, size_px=32, steps=1, batch_clips=4, peak=1e-3),)),
    last=Recipe((hard(num_videos=4, size_px=32, steps=1, batch_clips=4, peak=1e-3),)),
    seeds=(0,),
    test_videos=2,
    map_videos=1,
    test_frames=16,
    takes="seconds",
)


def run(folder: Path) -> dict[str, Any]:
    threads = torch.get_num_threads()
    arguments = ["--preset", "short", "--work", str(folder / "work"), "--results", str(folder / "results")]
    outcome = CliRunner().invoke(study.main, arguments, catch_exceptions=False)
    torch.set_num_threads(threads)
    assert outcome.exit_code == 0, outcome.output
    report: dict[str, Any] = json.loads((folder / "results" / "study.json").read_text())
    return report


@pytest.mark.slow
def test_the_study_trains_both_alike_measures_both_and_goes_on_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "PRESETS", {"short": TINY})
    monkeypatch.setattr("claims.learning.CURVE_VIDEOS", 2)
    first = run(tmp_path)
    assert set(first["results"]["maps"]) == {"plain", "gated"}
    assert first["results"]["videos"] == 2
    text = (tmp_path / "results" / "STUDY.md").read_text()
    assert "3DCAM layer3" in text
    assert (tmp_path / "results" / "study.png").stat().st_size > 0
    # The first batch's loss: same base, gates at zero, same clips. Another batch would move it in the first digit.
    losses = [
        json.loads((tmp_path / "work" / f"{name}-seed0" / "log.jsonl").read_text().splitlines()[-1])["loss"]
        for name in ("plain", "gated")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)

    for name in ("labels.jsonl", "maps.jsonl"):
        log = tmp_path / "work" / "gated-seed0" / name
        log.write_text(log.read_text()[:-40])
    assert run(tmp_path)["results"] == first["results"]

    monkeypatch.undo()
    other = CliRunner().invoke(study.main, ["--preset", "short", "--work", str(tmp_path / "work")])
    assert other.exit_code == 2
    assert "another preset" in other.output


ONE_ACTOR = Facts(cut=False, second_action=False, height_share=0.3)


def counted(videos: list[tuple[int, int, list[int]]]) -> Counted:
    """Of each video, of two clips and ten frames: clips right, frames hit, and at three thresholds frames at 0.3."""
    kinds = (FULL_SUM, PAPERS_SUM, ELEMENTWISE, "Sum Grad-CAM all taps")
    labels = [{"videos": 1, "clips": 2, "clips_right": right, "video_right": right // 2} for right, _, _ in videos]
    maps = [
        {
            "frames": 10,
            **{f"{kind}/box": [hit, hit, 0] for kind in kinds},
            **{f"{kind}/sweep": [[0, count, 0] for count in sweep] for kind in kinds},
        }
        for _, hit, sweep in videos
    ]
    return Counted(*(tuple({n: np.array(c) for n, c in one.items()} for one in every) for every in (labels, maps)))


def test_shares_are_over_clips_and_frames_and_the_threshold_is_one_for_the_data_set() -> None:
    """By hand: 3 of 4 clips; hits 12 of 20 frames; at the second threshold 9 + 4 of 20, more than any other."""
    network = counted([(2, 8, [1, 9, 0]), (1, 4, [10, 4, 0])])
    found = summarise({"plain": [network], "gated": [network]}, facts=[ONE_ACTOR] * 2)
    assert found["accuracy"]["plain"]["clip accuracy"]["by_seed"] == [0.75]
    assert found["accuracy"]["plain"]["video accuracy"]["value"] == 0.5
    values = {name: figure["value"] for name, figure in found["maps"]["gated"][FULL_SUM].items()}
    assert values == {
        "hit point": 0.6,
        "box accuracy 0.3": 0.6,
        "box accuracy 0.5": 0.0,
        "MaxBoxAcc 0.3": 0.65,
        "MaxBoxAcc 0.5": 0.0,
    }


def test_a_claim_is_decided_only_where_interval_and_every_seed_agree() -> None:
    def difference(values: list[float], low: float, high: float) -> Measured:
        return Measured(np.array(values), np.tile(np.linspace(low, high, 100), (len(values), 1)))

    assert difference([0.1, 0.2], 0.05, 0.3).verdict() == BETTER
    assert difference([-0.1, -0.2], -0.3, -0.05).verdict() == WORSE
    assert difference([0.1, 0.2], -0.1, 0.3).verdict() == UNDECIDED
    assert difference([0.4, -0.1], 0.05, 0.3).verdict() == UNDECIDED


def test_differences_are_paired_over_the_same_resampled_videos() -> None:
    """Two networks that differ by one clip in every video: their difference has no spread, however videos differ."""
    rights = (0, 1, 0, 1, 1)
    worse, better = (counted([(right + more, 0, [0, 0, 0]) for right in rights]) for more in (0, 1))
    networks = {"plain": [worse], "gated": [better]}
    found = summarise(networks, facts=[ONE_ACTOR] * 5)["gated_minus_plain"]["clip accuracy"]
    assert (found["low"], found["value"], found["high"]) == (0.5, 0.5, 0.5)
    assert found["verdict"] == BETTER


def test_groups_take_their_own_videos_and_the_page_says_all_of_it() -> None:
    network = counted([(2, 5, [1, 2, 3]), (0, 5, [1, 2, 3])])
    found = summarise({"plain": [network], "gated": [network]}, facts=[ONE_ACTOR, replace(ONE_ACTOR, cut=True)])
    assert found["groups"]["a cut"]["accuracy"]["gated"]["clip accuracy"]["value"] == 0.0
    assert found["groups"]["one shot, one action"]["videos"] == 1
    assert set(found["groups"]) < set(GROUPS)
    assert found["gated_minus_plain"]["clip accuracy"]["verdict"] == UNDECIDED
    report = {
        "command": "python benchmarks/study.py --preset short",
        "preset": study.facts(study.PRESETS["short"]),
        "seeds": [0],
        "test": {"seed": 1},
        "threads": 1,
        "machine": {"processor": "a processor"},
        "versions": {"torch": "2"},
        "training_minutes": 3.2,
        "results": found,
    }
    text = page.page(report)
    assert "| gated - plain | +0.0 [+0.0, +0.0] (+0): undecided |" in text
    assert "python benchmarks/study.py --preset short" in text
    assert "| gated | 50.0 [0.0, 100.0] (50) |" in text


def test_the_truth_of_a_video_is_of_those_who_do_its_action_over_all_shots(tmp_path: Path) -> None:
    """As the study's counts take it: a second person's action is in the tubes, but not what a map must show."""
    write_dataset(tmp_path, num_videos=10, seed=5, difficulty="hard", num_frames=16, width=96, height=72)
    read = read_rendered(tmp_path)
    assert any(len({tube.label for tube in video.read_tubes()}) > 1 for video in read.videos)
    for video, entry in zip(read.videos, read_annotations(tmp_path).videos, strict=True):
        np.testing.assert_array_equal(np.concatenate(true_boxes(video, num_frames=16)), entry.boxes_xyxy_px)
