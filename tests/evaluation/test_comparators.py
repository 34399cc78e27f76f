"""Comparators as rows: they must be of the artefact's own weights, and be counted like any map."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from sum3dcam.contract import LOGITS
from sum3dcam.errors import ArtifactError
from sum3dcam.evaluation.comparators import load_comparators
from sum3dcam.evaluation.kinds import COMPARATOR, Comparator, MapKind
from sum3dcam.evaluation.study import PreparedVideo, Settings, count_video
from sum3dcam.export.prepare import prepare

WEIGHTS = Path(__file__).resolve().parents[2] / "export" / "weights" / "resnext-mini.safetensors"


class Eager:
    """An artefact's answers by the network itself, its logits times `factor`."""

    def __init__(self, card, classifier, *, factor=1.0):
        self.card, self._classifier, self._factor = card, classifier, factor

    def run(self, clip_BTHWC, *, target_B, outputs=None):
        with torch.no_grad():
            return {LOGITS: self._factor * self._classifier(torch.from_numpy(clip_BTHWC))[0].numpy()}


@pytest.fixture(scope="module")
def made():
    return prepare(weights=[WEIGHTS])


def test_there_is_a_map_of_every_comparator_for_the_class_asked_for(made):
    comparators = load_comparators([WEIGHTS], engine=Eager(made.card, made.classifier), num_threads=1)
    assert [made.kind.name for made in comparators] == [
        "Grad-CAM++ layer4",
        "c-MWP layer3",
        "c-MWP layer4",
        "Integrated gradients",
    ]
    clip = np.random.default_rng(0).integers(0, 256, (1, *made.card.clip_shape_THWC), np.uint8)
    for comparator in comparators[:3]:
        one, other = (comparator.maps(clip, np.array([index])) for index in (0, 5))
        assert one.shape == (1, *made.card.clip_shape_THWC[:3])
        assert one.dtype == np.float32
        assert one.min() >= 0
        assert one.max() in (0, 1)
        assert np.abs(one - other).max() > 0.1


def test_other_weights_than_the_artefacts_are_refused(made):
    card = dataclasses.replace(made.card, weights_sha256="0" * 64)
    with pytest.raises(ArtifactError, match="not the weights of which"):
        load_comparators([WEIGHTS], engine=Eager(card, made.classifier), num_threads=1)


def test_weights_that_give_other_logits_are_refused(made):
    with pytest.raises(ArtifactError, match="other logits"):
        load_comparators([WEIGHTS], engine=Eager(made.card, made.classifier, factor=1.01), num_threads=1)


def test_a_comparator_is_counted_as_the_artefacts_own_map_is(make_engine):
    engine = make_engine(num_frames=4, size_px=16)
    seen = []

    def brightness(clip_BTHWC, class_B):
        seen.extend(class_B.tolist())
        return clip_BTHWC.mean(-1, dtype=np.float32) / 255

    clips = np.zeros((3, 4, 16, 16, 3), np.uint8)
    for index, clip in enumerate(clips):
        clip[:, index : index + 6, 2 * index : 2 * index + 6] = 200
    truth = [[2 * index, index, 2 * index + 6, index + 6] for index in range(3) for _ in range(4)]
    kind = MapKind("conv", "3DCAM", "layercam", ("conv",))
    counts = count_video(
        engine,
        PreparedVideo(clips, np.array(truth, float), 1, 0.0),
        kinds=[kind],
        settings=Settings(thresholds=(0.0, 0.5), ious=(0.3, 0.9), batch_clips=2),
        comparators=[Comparator(MapKind("bright", COMPARATOR, "bright", ()), brightness)],
    )
    assert seen == [1, 1, 1]
    np.testing.assert_array_equal(counts.kinds["bright"].hits["v1"], counts.kinds["conv"].hits["v1"])
    assert counts.kinds["bright"].peak_inside == counts.kinds["conv"].peak_inside == 12
