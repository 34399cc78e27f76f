"""Oracles: scipy's own correlations, and networks whose maps are known."""

import json

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import pearsonr, spearmanr

from sum3dcam.contract import LABELS_GRAPH
from sum3dcam.errors import ArtifactError
from sum3dcam.evaluation.checks.clips import LabelledClip
from sum3dcam.evaluation.checks.picture import randomisation_row, write_picture
from sum3dcam.evaluation.checks.randomisation import (
    OTHER_CLASS,
    OTHER_VIDEO,
    STRIDE_PX,
    correlation,
    measure,
    read,
    summarise,
)
from sum3dcam.evaluation.checks.report import randomisation_json, render_randomisation
from sum3dcam.evaluation.report import dumps

SHAPE = (4, 16, 16)


class Turned:
    """The engine of another network: it sees its clip after `change`, and keeps the class explained."""

    def __init__(self, engine, change):
        self.card, self._engine, self._change = engine.card, engine, change

    def run(self, clip_BTHWC, *, target_B, outputs=None):
        return self._engine.run(self._change(clip_BTHWC), target_B=target_B)


def clips(num_videos, *, class_index=1):
    rng = np.random.default_rng(0)
    for _ in range(num_videos):
        yield LabelledClip(rng.integers(0, 256, (1, *SHAPE, 3), np.uint8), np.array([class_index]))


@pytest.fixture
def engine(make_engine):
    return make_engine(num_frames=SHAPE[0], size_px=SHAPE[1])


@pytest.fixture
def found(engine):
    stages = {
        "head": Turned(engine, lambda clip: clip),
        "layer1": Turned(engine, lambda clip: 255 - clip),
        "conv": Turned(engine, np.zeros_like),
    }
    return summarise({seed: measure(engine, clips(3), randomised=stages) for seed in (5, 6)})


def test_similarities_are_scipys_over_every_other_row_and_column():
    rng = np.random.default_rng(1)
    one, other = (rng.integers(0, 9, SHAPE).astype(np.float32) ** 2 for _ in range(2))  # with ties
    thin = [values[:, ::STRIDE_PX, ::STRIDE_PX].ravel().astype(float) for values in (one, other)]
    first, second = read(one), read(other)
    assert correlation(first["spearman"], second["spearman"]) == pytest.approx(spearmanr(*thin).statistic, abs=1e-12)
    assert correlation(first["pearson"], second["pearson"]) == pytest.approx(pearsonr(*thin).statistic, abs=1e-12)


def test_the_same_map_is_alike_its_inverse_the_opposite_and_an_empty_one_nothing(found):
    assert found.stages == ("head", "layer1", "conv")
    # One tap at full size: the map is the brightness (squared, for Sum3DCAM), of which Spearman sees the order alone.
    row = next(row for row in found.rows if row.kind.name == "Grad-CAM layer1")
    for name in ("spearman", "pearson"):
        values = {place: estimate.value for place, estimate in row.similarity[name].items()}
        assert values["head"] == pytest.approx(1)
        assert values["layer1"] == pytest.approx(-1, abs=1e-3)
        assert values["conv"] == 0
        assert abs(values[OTHER_VIDEO]) < 0.2  # noise against other noise, smoothed
    assert row.empty == {"head": 0.0, "layer1": 0.0, "conv": 1.0}


def test_every_map_of_a_clip_is_held_against_its_own_kind_and_clip(found):
    for row in found.rows:
        assert row.similarity["spearman"]["head"].value == pytest.approx(1), row.kind.name
        assert row.by_draw["spearman"]["head"] == pytest.approx((1, 1))


def test_a_draw_counts_like_the_others(engine):
    same, inverse = Turned(engine, lambda clip: clip), Turned(engine, lambda clip: 255 - clip)
    found = summarise(
        {seed: measure(engine, clips(2), randomised={"head": other}) for seed, other in enumerate((same, inverse))}
    )
    row = next(row for row in found.rows if row.kind.name == "Grad-CAM layer1")
    assert row.by_draw["pearson"]["head"] == pytest.approx((1, -1), abs=1e-3)
    assert row.similarity["pearson"]["head"].value == pytest.approx(0, abs=1e-3)


def test_where_the_network_itself_gives_no_map_there_is_no_figure(engine):
    found = summarise({0: measure(engine, clips(2, class_index=0), randomised={"head": engine})})
    tree = json.loads(dumps(randomisation_json(found)))
    assert tree["maps"][0]["similarity"]["spearman"]["head"] == {"value": None, "low": None, "high": None}


def test_the_explained_class_is_the_clips_own(engine):
    measure(engine, clips(2), randomised={"head": engine})
    assert engine.targets == [1, 1, 0] * 2  # its own, that of the random network, another for comparison


def test_another_class_is_of_the_same_clip(found):
    # The maps of class 0 are empty in this network.
    row = next(row for row in found.rows if row.kind.name == "Grad-CAM layer1")
    assert row.similarity["spearman"][OTHER_CLASS].value == 0


def test_a_network_that_explains_every_class_alike_is_found_out(engine):
    class Deaf(Turned):
        def run(self, clip_BTHWC, *, target_B, outputs=None):
            return super().run(clip_BTHWC, target_B=np.ones_like(target_B))

    deaf = Deaf(engine, lambda clip: clip)
    row = summarise({0: measure(deaf, clips(2), randomised={"head": deaf})}).rows[0]
    assert row.similarity["spearman"][OTHER_CLASS].value == pytest.approx(1)


def test_a_labels_graph_has_no_maps_to_check(make_engine):
    labels = make_engine(num_frames=SHAPE[0], size_px=SHAPE[1], graph=LABELS_GRAPH)
    with pytest.raises(ArtifactError, match="explain graph"):
        measure(labels, clips(1), randomised={"head": labels})


def test_table_and_picture_show_every_row_and_stage(found, tmp_path):
    console = Console(width=165)
    with console.capture() as capture:
        console.print(render_randomisation(found))
    for words in ("Sum3DCAM all taps", "head", "+ layer1", "+ conv", "another video", "100 % empty", "-1.00"):
        assert words in capture.get()
    write_picture([randomisation_row(found)], tmp_path / "out.png", title="a title")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_another_video_is_the_one_before(engine):
    first, second = clips(2)
    found = summarise({0: measure(engine, [first, second, second], randomised={"head": engine})})
    row = next(row for row in found.rows if row.kind.name == "Grad-CAM layer1")
    # Of the two pairs one is alike, the other is not.
    assert row.similarity["pearson"][OTHER_VIDEO].value == pytest.approx(0.5, abs=0.1)
