"""Oracle: counts of four videos whose shares are fractions by hand."""

import numpy as np
import pytest

from sum3dcam.evaluation.statistics import pool
from sum3dcam.evaluation.tables.report import MEANINGS, figure, to_csv, to_json
from sum3dcam.evaluation.tables.result import (
    ONE_THRESHOLD,
    ORACLE,
    SERVED,
    accuracy_result,
    localisation_result,
)
from sum3dcam.evaluation.tables.specs import MEAN, TABLES, AccuracyTable, LocalisationTable

ILSVRC = TABLES[7]


def ilsvrc_counts(sweep):
    """Of four images, one frame each, one map of the table and one trivial box."""
    for image, best in enumerate(sweep):
        yield {
            "videos": np.asarray(1),
            "clips": np.asarray(1),
            "clips_right": np.asarray(image % 2),
            "video_right": np.asarray(image % 2),
            "frames": np.asarray(1),
            "Grad-CAM layer4/box": np.array([1, image % 2, 0]),
            "Grad-CAM layer4/oracle": np.array([1, 1, 1]),
            "Grad-CAM layer4/sweep": np.asarray(best),
            "Full frame/box": np.array([1, 0, 0]),
        }


# Two thresholds: at the first theta the one is right twice, the other three times; at the second 2 and 1.
SWEEP = ([[1, 1, 0], [1, 0, 0]], [[1, 0, 0], [1, 0, 0]], [[0, 0, 0], [1, 1, 0]], [[0, 1, 0], [0, 0, 0]])


def values(line):
    return {column: estimate.value for column, estimate in line.values.items()}


def test_a_row_has_the_served_box_one_threshold_and_the_oracle_beside_the_paper():
    pooled = pool(ilsvrc_counts(SWEEP), num_videos=4)
    result = localisation_result(7, ILSVRC, pooled, trivial=("Full frame",))
    assert result.columns == (".3", ".5", ".7", MEAN)
    rows = {row.name: row for row in result.rows}
    served, one, oracle = rows["Grad-CAM layer4"].lines
    assert (served.name, one.name, oracle.name) == (SERVED, ONE_THRESHOLD, ORACLE)
    assert values(served) == {".3": 1.0, ".5": 0.5, ".7": 0.0, MEAN: 0.5}
    # The best ONE threshold per column, not the best of every image.
    assert values(one) == {".3": 0.75, ".5": 0.5, ".7": 0.0, MEAN: pytest.approx(1.25 / 3)}
    assert values(oracle) == dict.fromkeys(result.columns, 1.0)
    assert rows["Sum 2DCAM layer2+3+4"].lines == ()
    assert rows["Sum 2DCAM layer2+3+4"].paper == {".3": 0.819, ".5": 0.622, ".7": 0.354}
    assert values(rows["Full frame"].lines[0])[".3"] == 1.0
    assert result.counts == {"videos": 4, "clips": 4, "frames": 4}
    assert result.accuracy["clip accuracy"].value == 0.5


def test_the_threshold_is_chosen_anew_in_every_resample():
    pooled = pool(ilsvrc_counts(SWEEP), num_videos=4)
    one = localisation_result(7, ILSVRC, pooled, trivial=()).rows[0].lines[1].values[".3"]
    sweep, frames = pooled["Grad-CAM layer4/sweep"][1:, :, 0], pooled["frames"][1:, None]
    assert (one.low, one.high) == tuple(np.quantile((sweep / frames).max(axis=1), [0.025, 0.975]))


def test_a_table_of_networks_has_a_row_for_each_and_the_most_frequent_class():
    def counts(rights):
        for clips_right, video_right in rights:
            yield {
                "videos": np.asarray(1),
                "clips": np.asarray(4),
                "clips_right": np.asarray(clips_right),
                "video_right": np.asarray(video_right),
                "Most frequent class/clips_right": np.asarray(4 * video_right),
                "Most frequent class/video_right": np.asarray(video_right),
            }

    pooled = {
        "ResNeXt-101": pool(counts([(4, 1), (1, 0)]), num_videos=2),
        "gated conv+layer1+2+3+4": pool(counts([(4, 1), (2, 1)]), num_videos=2),
    }
    result = accuracy_result(9, TABLES[9], pooled)
    assert [values(row.lines[0]) for row in result.rows] == [
        {"clip accuracy": 5 / 8, "video accuracy": 0.5},
        {"clip accuracy": 6 / 8, "video accuracy": 1.0},
        {"clip accuracy": 0.5, "video accuracy": 0.5},
    ]


@pytest.mark.parametrize("number", TABLES)
def test_every_figure_of_the_paper_is_in_a_row_and_a_column_of_its_table(number):
    table = TABLES[number]
    names = {row.name for row in table.rows}
    assert set(table.paper) <= names
    references = table.references if isinstance(table, LocalisationTable) else ()
    columns = {column.name for column in table.columns} | {MEAN}
    for figures in (*table.paper.values(), *(row.paper for row in references)):
        assert set(figures) <= columns
        assert all(0 < value < 1 for value in figures.values())


def test_the_paper_is_repeated_as_it_was_printed():
    (best,) = TABLES[6].references
    assert [figure(value) for value in best.paper.values()] == [".835", ".676", ".426", ".238", ".132", ".063", ".395"]
    # The paper's own mean, to its digits.
    *six, mean = best.paper.values()
    assert np.mean(six) == pytest.approx(mean, abs=5e-4)


def test_json_and_csv_hold_every_figure():
    result = localisation_result(7, ILSVRC, pool(ilsvrc_counts(SWEEP), num_videos=4), trivial=("Full frame",))
    row = to_json(result, provenance={"command": "c"})["rows"][0]
    assert set(row) == {"name", "family", "paper", SERVED, ONE_THRESHOLD, ORACLE}
    assert set(row) - {"name", "family"} <= set(MEANINGS)
    lines = to_csv(result).splitlines()
    assert lines[0] == "row,line,column,value,low,high,paper"
    assert lines[1].startswith("Grad-CAM layer4,served box,.3,1.000000,1.000000,1.000000,")
    assert "Sum 2DCAM layer2+3+4,,.5,,,,0.622" in lines


def test_tables_of_the_paper_are_these():
    assert set(TABLES) == {3, 4, 5, 6, 7, 9, 10}
    assert {n for n, table in TABLES.items() if isinstance(table, AccuracyTable)} == {9, 10}
