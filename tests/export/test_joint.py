"""The joint graph against float64 autograd on networks drawn at random.

Oracle: `tests.oracle.plain.attribute` (autograd, one clip at a time). Tolerance 1e-9 of each output's max per
clip, as in METHOD.md section 4: float64 rounds at 1e-16, a ReLU's sign is not in doubt, and any mix-up is of order one.
"""

import numpy as np
import pytest
import torch
from tests.oracle import tiny
from torch import Tensor, nn

from sum3dcam.errors import ArtifactError
from sum3dcam.export.joint import explain_graph, fold_weights, labels_graph
from sum3dcam.export.vjp import transpose_weight
from sum3dcam.models import Classifier

TOLERANCE = 1e-9


def run(graph: nn.Module, clips: np.ndarray, target: np.ndarray, *, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        values = graph(torch.from_numpy(clips), torch.from_numpy(target))
    return {name: value.numpy() for name, value in zip(outputs, values, strict=True)}


@pytest.mark.parametrize("seed", range(12))
def test_every_output_of_a_random_network_is_autograds(seed: int) -> None:
    case = tiny.random_case(seed)
    made = tiny.doubled(tiny.prepared(case))
    graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    for num_clips in (1, 2, 3):
        clips = tiny.clips(case, num_clips=num_clips, seed=seed)
        target = np.array([-1, tiny.NUM_CLASSES - 1, 0])[:num_clips]
        got = run(graph, clips, target, outputs=made.card.outputs)
        wanted = tiny.answers(made, clips, target)
        assert got.keys() == wanted.keys()
        errors = {name: tiny.relative_error(got[name], wanted[name]) for name in wanted}
        assert {name: error for name, error in errors.items() if not error <= TOLERANCE} == {}, case


@pytest.mark.parametrize("num_frames", [1, 2, 64])
def test_a_clip_may_be_one_frame_or_many(num_frames: int) -> None:
    case = tiny.Case(num_frames=num_frames, gates=("conv", "layer4"))
    made = tiny.doubled(tiny.prepared(case))
    graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    clips, target = tiny.clips(case, num_clips=2), np.array([-1, 3])
    got = run(graph, clips, target, outputs=made.card.outputs)
    for name, wanted in tiny.answers(made, clips, target).items():
        assert tiny.relative_error(got[name], wanted) <= TOLERANCE, name


def test_an_items_answer_does_not_depend_on_its_neighbours() -> None:
    case = tiny.Case(gates=("layer2",))
    made = tiny.doubled(tiny.prepared(case))
    graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    clips, target = tiny.clips(case, num_clips=5), np.array([-1, 0, 4, -1, 2])
    together = run(graph, clips, target, outputs=made.card.outputs)
    for index in range(5):
        alone = run(graph, clips[index : index + 1], target[index : index + 1], outputs=made.card.outputs)
        for name in made.card.outputs:
            assert tiny.relative_error(together[name][index : index + 1], alone[name]) <= 1e-12, name


def test_each_class_asked_for_gets_its_own_answer_in_one_batch() -> None:
    case = tiny.Case()
    made = tiny.doubled(tiny.prepared(case))
    graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    clips = np.repeat(tiny.clips(case, num_clips=1), tiny.NUM_CLASSES, axis=0)
    target = np.arange(tiny.NUM_CLASSES)
    got = run(graph, clips, target, outputs=made.card.outputs)
    assert got["explained"].tolist() == target.tolist()
    assert tiny.relative_error(got["gradient_conv"], tiny.answers(made, clips, target)["gradient_conv"]) <= TOLERANCE
    top = run(graph, clips, np.full_like(target, -1), outputs=made.card.outputs)
    assert (top["explained"] == got["logits"].argmax(1)).all()


def test_a_map_that_is_dark_everywhere_is_zero_and_not_nan() -> None:
    case = tiny.Case(taps=("layer4",))
    made = tiny.doubled(tiny.prepared(case))
    with torch.no_grad():
        made.classifier.network.get_submodule("fc").weight.copy_(-torch.ones(tiny.NUM_CLASSES, 16))
    graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    got = run(graph, tiny.clips(case, num_clips=2), np.array([-1, 1]), outputs=made.card.outputs)
    assert (got["gradient_layer4"] < 0).all()
    assert (got["saliency"] == 0).all()


def test_taps_come_alone_and_unchanged_by_what_else_is_tapped() -> None:
    everything = tiny.doubled(tiny.prepared(tiny.Case()))
    clips, target = tiny.clips(tiny.Case(), num_clips=2), np.array([-1, 2])
    graph = explain_graph(everything.classifier, taps=everything.card.taps, clip_BTHWC=everything.example_clip())
    whole = run(graph, clips, target, outputs=everything.card.outputs)
    for tap in everything.card.taps:
        made = tiny.doubled(tiny.prepared(tiny.Case(taps=(tap.name,))))
        one = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
        for name, value in run(one, clips, target, outputs=made.card.outputs).items():
            if name != "saliency":
                np.testing.assert_array_equal(value, whole[name])


def test_nothing_below_the_lowest_tap_is_differentiated() -> None:
    def convolutions(taps: tuple[str, ...]) -> int:
        made = tiny.prepared(tiny.Case(taps=taps))
        graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
        kinds = (torch.ops.aten.conv3d.default, torch.ops.aten.conv_transpose3d.input)
        return sum(node.target in kinds for node in graph.joint.graph.nodes)

    made = tiny.prepared(tiny.Case())
    labels = labels_graph(made.classifier, clip_BTHWC=made.example_clip())
    forward = sum(node.target is torch.ops.aten.conv3d.default for node in labels.network.graph.nodes)
    assert convolutions(("layer4",)) == forward  # the pool and the head alone are walked back
    assert convolutions(("conv",)) == 2 * forward - 1  # all but the stem


def test_the_labels_graph_gives_the_same_logits() -> None:
    case = tiny.Case(gates=("layer1", "layer3"))
    made = tiny.doubled(tiny.prepared(case))
    clips, target = tiny.clips(case, num_clips=3), np.array([-1, -1, -1])
    (logits,) = labels_graph(made.classifier, clip_BTHWC=made.example_clip())(torch.from_numpy(clips))
    wanted = tiny.answers(made, clips, target)["logits"]
    assert tiny.relative_error(logits.numpy(), wanted) <= TOLERANCE


def test_folded_weights_change_no_bit_and_leave_the_graph_as_it_was() -> None:
    case = tiny.Case()
    made = tiny.prepared(case)
    graph = explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    derived = sum(node.target is transpose_weight for node in graph.joint.graph.nodes)
    folded = fold_weights(graph)
    clips, target = tiny.clips(case, num_clips=2), np.array([-1, 1])
    kept = run(graph, clips, target, outputs=made.card.outputs)
    for name, value in run(folded, clips, target, outputs=made.card.outputs).items():
        np.testing.assert_array_equal(value, kept[name])
    assert derived > 0
    assert sum(node.target is transpose_weight for node in graph.joint.graph.nodes) == derived
    assert not any(node.target is transpose_weight for node in folded.joint.graph.nodes)


def test_building_a_graph_leaves_the_classifier_as_it_was() -> None:
    made = tiny.prepared(tiny.Case())
    before = {name: tensor.clone() for name, tensor in made.classifier.state_dict().items()}
    explain_graph(made.classifier, taps=made.card.taps, clip_BTHWC=made.example_clip())
    after = made.classifier.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


class _Strange(nn.Module):
    """A tap below an operator that no rule knows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, tiny.NUM_CLASSES)

    def forward(self, clip_BCTHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        tap = torch.relu(self.conv(clip_BCTHW))
        return self.fc(torch.sigmoid(tap).mean((2, 3, 4))), {"conv": tap}


def test_an_operator_without_a_rule_is_named() -> None:
    made = tiny.prepared(tiny.Case(taps=("conv",)))
    strange = Classifier(_Strange(), mean=tiny.MEAN, std=tiny.STD).eval()
    with pytest.raises(ArtifactError, match=r"sigmoid"):
        explain_graph(strange, taps=made.card.taps, clip_BTHWC=made.example_clip())


class _NormAfterSum(_Strange):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm3d(4)

    def forward(self, clip_BCTHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        out = self.conv(clip_BCTHW)
        tap = torch.relu(self.bn(out + out))
        return self.fc(tap.mean((2, 3, 4))), {"conv": tap}


def test_a_batch_norm_that_cannot_be_folded_is_an_error() -> None:
    made = tiny.prepared(tiny.Case(taps=("conv",)))
    strange = Classifier(_NormAfterSum(), mean=tiny.MEAN, std=tiny.STD).eval()
    with pytest.raises(ArtifactError, match="batch norm"):
        explain_graph(strange, taps=made.card.taps, clip_BTHWC=made.example_clip())
