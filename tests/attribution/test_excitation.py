"""Oracles: probabilities worked out by hand, a walk down the modules that hands probabilities on layer by layer, and
the law that none is lost. All in float64; 1e-9 as everywhere."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.oracle import tiny
from torch import Tensor, nn

from sum3dcam.attribution.baselines.excitation import contrastive_excitation, contrastive_map, excitation
from sum3dcam.contract import TOP_CLASS
from sum3dcam.errors import ArtifactError
from sum3dcam.export.prepare import Prepared, prepare, random_clips
from sum3dcam.models import Classifier
from sum3dcam.models.residual import Bottleneck

TOLERANCE = 1e-9


class Toy(nn.Module):
    """Tap `conv`: the input's two channels, ReLU; a 1x1x1 convolution to three; the mean; two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 1)
        self.fc = nn.Linear(3, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([[1.0, 1.0], [3.0, -1.0], [-9.0, 2.0]]).view(3, 2, 1, 1, 1))
            self.conv.bias.copy_(torch.tensor([0.5, 0.0, 0.0]))
            self.fc.weight.copy_(torch.tensor([[2.0, 1.0, -1.0], [-1.0, 1.0, 3.0]]))

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        tap = torch.relu(x)
        return self.fc(torch.relu(self.conv(tap)).mean((2, 3, 4))), {"conv": tap}


def toy() -> tuple[Classifier, Tensor]:
    """Two voxels of the frame: channels (1, 3) and (2, 0)."""
    clip_BTHWC = torch.tensor([[1, 3], [2, 0]], dtype=torch.uint8).view(1, 1, 1, 2, 2)
    return Classifier(Toy(), mean=(0, 0), std=(1, 1)).double(), clip_BTHWC


def test_probabilities_worked_out_by_hand() -> None:
    classifier, clip_BTHWC = toy()
    # Behind the convolution: voxel 1 has (4.5, 0, 0), voxel 2 (2.5, 6, 0); means (3.5, 3, 0).
    # Class 0: 2 * 3.5 : 1 * 3 = 7/10 : 3/10 over the channels. Channel 0's go 4.5 : 2.5 to the voxels, channel 1's to
    # voxel 2. Voxel 1: 0.7 * 4.5 / 7 = .45, split 1 : 3 (weights 1 and 1, the bias takes nothing); voxel 2:
    # .25 + .3, all to its first channel.
    got = excitation(classifier, clip_BTHWC=clip_BTHWC, target_B=torch.tensor([0]), tap="conv")
    np.testing.assert_allclose(got.view(2, 2), [[0.1125, 0.55], [0.3375, 0.0]], rtol=TOLERANCE)
    # The dual of class 0 is excited by channel 2 alone, which is silent: nothing to subtract. That of class 1 by
    # channel 0 (all of it: 4.5 : 2.5 to the voxels, the first split 1 : 3); class 1 itself by channel 1: voxel 2.
    contrast = contrastive_excitation(classifier, clip_BTHWC=clip_BTHWC, target_B=torch.tensor([1]), tap="conv")
    np.testing.assert_allclose(
        contrast.view(2, 2), [[-4.5 / 28, 1 - 2.5 / 7], [-13.5 / 28, 0.0]], rtol=TOLERANCE, atol=TOLERANCE
    )
    lit = contrastive_map(classifier, clip_BTHWC=clip_BTHWC, target_B=torch.tensor([0]), tap="conv")
    assert lit.shape == (1, 1, 1, 1)


def test_a_weighted_mean_over_time_splits_by_weight_and_value() -> None:
    class Weighted(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            tap = torch.relu(x)
            pooled = tap.mean((3, 4)) @ torch.tensor([[0.25], [0.5], [0.25]]).double()
            return F.linear(pooled.flatten(1), torch.ones(1, 1).double()), {"conv": tap}

    classifier = Classifier(Weighted(), mean=(0,), std=(1,)).double()
    clip_BTHWC = torch.tensor([1, 1, 2], dtype=torch.uint8).view(1, 3, 1, 1, 1)
    got = excitation(classifier, clip_BTHWC=clip_BTHWC, target_B=torch.tensor([0]), tap="conv")
    np.testing.assert_allclose(got.flatten(), [0.2, 0.4, 0.4], rtol=TOLERANCE)  # .25 : .5 : .5


def hand_on(x: Tensor, conv: nn.Conv3d, norm: nn.BatchNorm3d | None, probability: Tensor) -> Tensor:
    """The rule for a convolution, spelt out: transposed convolution of P / z with ReLU(w), times x."""
    weight = conv.weight
    if norm is not None:
        weight = weight * (norm.weight / (norm.running_var + norm.eps).sqrt()).view(-1, 1, 1, 1, 1)
    weight, x = weight.clamp_min(0), x.clamp_min(0)
    z = F.conv3d(x, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)
    out = torch.where(z > 0, probability / z.clamp_min(1e-300), 0)
    rest = [
        size - ((o - 1) * s - 2 * p + k)
        for size, o, s, p, k in zip(x.shape[2:], z.shape[2:], conv.stride, conv.padding, conv.kernel_size, strict=True)
    ]
    return x * F.conv_transpose3d(out, weight, None, conv.stride, conv.padding, rest, conv.groups, conv.dilation)


def through_block(block: Bottleneck, x: Tensor, probability: Tensor) -> Tensor:
    """Down one bottleneck: the addition's terms share by their positive parts."""
    first = torch.relu(block.bn1(block.conv1(x)))
    second = torch.relu(block.bn2(block.conv2(first)))
    branch = block.bn3(block.conv3(second)).clamp_min(0)
    shortcut = (x if block.downsample is None else block.downsample(x)).clamp_min(0)
    both = (branch + shortcut).clamp_min(1e-300)
    down = hand_on(second, block.conv3, block.bn3, probability * branch / both)
    down = hand_on(x, block.conv1, block.bn1, hand_on(first, block.conv2, block.bn2, down))
    beside = probability * shortcut / both
    if block.downsample is not None:
        beside = hand_on(x, block.downsample[0], block.downsample[1], beside)
    return down + beside


def by_walking(made: Prepared, clip_BTHWC: Tensor, target: int) -> dict[str, Tensor]:
    """Probabilities at layer1 .. layer4 of an ungated residual network for one clip."""
    network = made.classifier.network
    x, inputs = network.maxpool(made.classifier(clip_BTHWC)[1]["conv"]), {}
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for block in network.get_submodule(stage):
            inputs[block] = x
            x = block(x)
    share = x.mean((2, 3, 4)) * network.fc.weight[target].clamp_min(0)
    probability = (share / share.sum() / x.sum((2, 3, 4)).clamp_min(1e-300))[..., None, None, None] * x
    found = {}
    for stage in ("layer4", "layer3", "layer2", "layer1"):
        found[stage] = probability
        for block in reversed(network.get_submodule(stage)):
            probability = through_block(block, inputs[block], probability)
    return found


@pytest.fixture(scope="module")
def residual() -> Prepared:
    """With batch norms that turn every other channel's sign."""
    made = tiny.doubled(tiny.prepared(tiny.Case(seed=2)))
    with torch.no_grad():
        for module in made.classifier.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.weight[::2] *= -1
    return made


def test_it_is_the_walk_down_the_modules(residual: Prepared) -> None:
    clips = torch.from_numpy(tiny.clips(tiny.Case(), num_clips=2))
    for tap in ("layer1", "layer2", "layer3", "layer4"):
        got = excitation(residual.classifier, clip_BTHWC=clips, target_B=torch.tensor([3, 1]), tap=tap)
        with torch.no_grad():
            for item, target in enumerate((3, 1)):
                wanted = by_walking(residual, clips[item : item + 1], target)[tap][0]
                assert wanted.max() > 0
                assert (got[item] - wanted).abs().max() <= TOLERANCE * wanted.max()


@pytest.mark.parametrize("network", ["residual", "gated", "averaged", "inception", "two streams"])
def test_no_probability_is_lost(network: str) -> None:
    """At the lowest tap every path arrives, the gates' too; nothing here fires from a bias alone."""
    made = tiny.doubled(MADE[network]())
    card = made.card
    clips = torch.from_numpy(
        random_clips(2, num_frames=card.num_frames, size_px=card.size_px, num_channels=card.num_channels, seed=3)
    )
    lowest = [tap.name for tap in card.taps if tap.name.endswith("conv")]
    arrived = sum(
        excitation(made.classifier, clip_BTHWC=clips, target_B=torch.tensor([TOP_CLASS, 2]), tap=tap).sum((1, 2, 3, 4))
        for tap in lowest
    )
    np.testing.assert_allclose(arrived, [1, 1], rtol=TOLERANCE)


def unbiased(case: tiny.Case) -> Prepared:
    """Without shifts no neuron fires unless an excitatory input does."""
    made = tiny.prepared(case)
    for module in made.classifier.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.zeros_(module.bias)
            nn.init.zeros_(module.running_mean)
    return made


def random_inception(model: str, gates: tuple[str, ...]) -> Prepared:
    return prepare(model, random_seed=2, num_frames=8, size_px=32, gates=gates)


MADE = {
    "residual": lambda: unbiased(tiny.Case(seed=1)),
    "gated": lambda: unbiased(tiny.Case(seed=2, gates=("conv", "layer1", "layer4"))),
    "averaged": lambda: unbiased(tiny.Case(seed=3, gates=("layer2",), fusion="mean", size_px=33)),
    "inception": lambda: random_inception("i3d", ("layer2",)),
    "two streams": lambda: random_inception("i3d-two-stream", ()),
}


def test_what_a_gate_below_the_tap_gets_does_not_pass_it() -> None:
    made = tiny.doubled(unbiased(tiny.Case(seed=2, gates=("layer1",))))
    clips = torch.from_numpy(tiny.clips(tiny.Case(), num_clips=1))
    with torch.no_grad():
        _, taps = made.classifier(clips)
        gate, fc = made.classifier.network.gates["layer1"], made.classifier.network.base.fc
        to_gate = (taps["layer1"].mean((3, 4)) @ gate.pool_tp).flatten(1) * gate.fc.weight[2].clamp_min(0)
        to_base = taps["layer4"].mean((2, 3, 4)) * fc.weight[2].clamp_min(0)
    for tap, wanted in (("layer4", to_base.sum() / (to_base.sum() + to_gate.sum())), ("layer1", 1.0)):
        got = excitation(made.classifier, clip_BTHWC=clips, target_B=torch.tensor([2]), tap=tap)
        assert float(got.sum()) == pytest.approx(float(wanted), rel=TOLERANCE)


def test_a_contrast_turns_with_the_weights_of_its_class(residual: Prepared) -> None:
    clips = torch.from_numpy(tiny.clips(tiny.Case(), num_clips=1))
    how = {"clip_BTHWC": clips, "target_B": torch.tensor([1]), "tap": "layer2"}
    before = contrastive_excitation(residual.classifier, **how)
    weight = residual.classifier.network.fc.weight
    with torch.no_grad():
        weight[1] *= -1
        after = contrastive_excitation(residual.classifier, **how)
        weight[1] *= -1
    assert before.abs().max() > 0
    assert (before + after).abs().max() <= TOLERANCE * before.abs().max()


def test_an_operator_without_a_rule_is_named() -> None:
    class Curved(Toy):
        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            tap = torch.relu(x)
            return self.fc(torch.tanh(self.conv(tap)).mean((2, 3, 4))), {"conv": tap}

    classifier = Classifier(Curved(), mean=(0, 0), std=(1, 1)).double()
    with pytest.raises(ArtifactError, match="tanh"):
        excitation(classifier, clip_BTHWC=toy()[1], target_B=torch.tensor([0]), tap="conv")
