"""Gates: the paper's adaptive pooling, exactly; a fresh gate changes no logit."""

import pytest
import torch
from tests.oracle import tiny
from torch import nn

from sum3dcam.models import build_network
from sum3dcam.models.gating import FUSIONS, Gate, Gated
from sum3dcam.models.residual import TAPS


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 7, 8, 16, 17, 33])
def test_a_gate_pools_as_adaptive_avg_pool3d(num_frames: int) -> None:
    """Oracle: torch's own pooling to (max(1, t // 2), 1, 1); 1e-12, two orders of float64 sums."""
    generator = torch.Generator().manual_seed(num_frames)
    gate = Gate(6, num_frames=num_frames, num_classes=4).double()
    # The matrix is made in float32 (1/3 is rounded): made anew in float64 it must agree to rounding.
    nn.init.normal_(gate.fc.weight, generator=generator)
    nn.init.normal_(gate.fc.bias, generator=generator)
    tap = torch.randn(2, 6, num_frames, 5, 3, dtype=torch.float64, generator=generator)
    pooled = nn.AdaptiveAvgPool3d((max(1, num_frames // 2), 1, 1))(torch.relu(tap))
    wanted = gate.fc(pooled.flatten(1))
    got = gate(torch.relu(tap))
    assert float((got - wanted).detach().abs().max() / wanted.detach().abs().max()) <= 1e-7
    exact = {1, 2, 4, 8, 16}  # windows of one or two frames: every entry of the matrix is a power of two
    if num_frames in exact:
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("channels", "num_frames", "inputs"),
    [(64, 16, 512), (256, 8, 1024), (512, 4, 1024), (1024, 2, 1024), (2048, 1, 2048)],
)
def test_head_sizes_are_those_of_the_method(channels: int, num_frames: int, inputs: int) -> None:
    assert Gate(channels, num_frames=num_frames, num_classes=51).fc.in_features == inputs


@pytest.mark.parametrize("gates", [("conv",), ("layer2", "layer4"), TAPS])
def test_fresh_gates_change_no_bit_of_the_logits(gates: tuple[str, ...]) -> None:
    base = tiny.classifier(tiny.Case()).network.eval()
    spec = tiny.spec()
    gated = build_network(spec, num_classes=tiny.NUM_CLASSES, num_frames=8, gates=gates).eval()
    assert isinstance(gated, Gated)
    gated.base.load_state_dict(base.state_dict())
    clip = torch.randn(3, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(gated(clip)[0], base(clip)[0])


def test_fusions_are_the_sum_and_the_mean_of_all_heads() -> None:
    logits = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 5.0]]), torch.tensor([[-1.0, 2.0]])]
    assert FUSIONS["sum"](logits).tolist() == [[3.0, 9.0]]
    torch.testing.assert_close(FUSIONS["mean"](logits), torch.tensor([[1.0, 3.0]]))


def test_a_gated_network_keeps_the_base_head_and_adds_the_gates() -> None:
    made = tiny.classifier(tiny.Case(gates=("layer1", "layer3")))
    network = made.network
    assert isinstance(network, Gated)
    clip = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, taps = network(clip)
        base, _ = network.base(clip)
        parts = [gate(taps[name]) for name, gate in network.gates.items()]
    torch.testing.assert_close(logits, base + parts[0] + parts[1], rtol=1e-6, atol=1e-6)
    assert list(network.gates) == ["layer1", "layer3"]
