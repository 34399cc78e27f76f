"""Networks small enough to differentiate in milliseconds, and their answers by autograd (`plain.attribute`)."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from tests.oracle import plain
from torch import nn

from sum3dcam.contract import EXPLAIN_GRAPH, Card
from sum3dcam.export.prepare import Prepared
from sum3dcam.models import Classifier, NetworkSpec, build_network, measure_taps
from sum3dcam.models.gating import Gate
from sum3dcam.models.residual import TAPS, ResidualNetwork, ResidualShape
from sum3dcam.models.spec import Layout

TINY = ResidualShape(
    blocks=(1, 1, 1, 1), widths=(4, 4, 8, 8), expansion=2, groups=2, stem_channels=4, stem_kernel_THW=(3, 3, 3)
)
NUM_CLASSES = 5
MEAN, STD = (110.0, 100.0, 90.0), (50.0, 60.0, 70.0)


@dataclass(frozen=True)
class Case:
    """One network, one shape of clips, one choice of taps."""

    shape: ResidualShape = TINY
    gates: tuple[str, ...] = ()
    fusion: str = "sum"
    taps: tuple[str, ...] = TAPS
    num_frames: int = 8
    size_px: int = 32
    seed: int = 0


def spec(shape: ResidualShape = TINY, *, default_gates: tuple[str, ...] = ()) -> NetworkSpec:
    return NetworkSpec(
        build=lambda num_classes, num_frames: ResidualNetwork(shape, num_classes=num_classes),
        taps=TAPS,
        mean=MEAN,
        std=STD,
        head="fc.weight",
        num_frames=16,
        size_px=112,
        label_sets={},
        layouts=(Layout("tiny"),),
        preprocessing="shorter-side-centre-crop",
        default_gates=default_gates,
    )


def random_case(seed: int) -> Case:
    """Any member of the family: groups, widths, depths, stem kernels, gates, fusion, taps, odd sizes and lengths."""
    rng = random.Random(seed)
    groups = rng.choice((1, 2, 4))
    shape = ResidualShape(
        blocks=tuple(rng.choice((1, 1, 2)) for _ in range(4)),  # type: ignore[arg-type]
        widths=tuple(groups * rng.choice((1, 2, 3)) for _ in range(4)),  # type: ignore[arg-type]
        expansion=2,
        groups=groups,
        stem_channels=rng.choice((2, 5, 8)),
        stem_kernel_THW=(rng.choice((1, 3, 7)), rng.choice((3, 5, 7)), rng.choice((3, 5, 7))),
    )
    return Case(
        shape=shape,
        gates=_subset(rng, at_least=rng.choice((0, 1))),
        fusion=rng.choice(("sum", "mean")),
        taps=_subset(rng, at_least=1),
        num_frames=rng.choice((8, 16, 17)),
        size_px=rng.choice((32, 33, 50)),
        seed=seed,
    )


def classifier(case: Case) -> Classifier:
    """float32, in eval mode, with every parameter and statistic random, the gates' too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case.seed)
        network = build_network(
            spec(case.shape),
            num_classes=NUM_CLASSES,
            num_frames=case.num_frames,
            gates=case.gates,
            fusion=case.fusion,
        )
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
                module.momentum = 1.0
            if isinstance(module, Gate):
                nn.init.normal_(module.fc.weight, std=0.3)
                nn.init.normal_(module.fc.bias, std=0.3)
        made = Classifier(network, mean=MEAN, std=STD)
        with torch.no_grad():
            made.train()(torch.from_numpy(clips(case, num_clips=4)))
    return made.eval()


def clips(case: Case, *, num_clips: int, seed: int = 1) -> np.ndarray:
    return plain.random_clips(num_clips, size_px=case.size_px, num_frames=case.num_frames, seed=seed)


def prepared(case: Case) -> Prepared:
    made = classifier(case)
    taps = measure_taps(made.network, spec=spec(case.shape), num_frames=case.num_frames, size_px=case.size_px)
    card = Card(
        graph=EXPLAIN_GRAPH,
        model="tiny",
        labels=tuple(f"class_{index}" for index in range(NUM_CLASSES)),
        num_frames=case.num_frames,
        size_px=case.size_px,
        streams=("rgb",),
        frames_per_second=None,
        preprocessing="shorter-side-centre-crop",
        taps=tuple(tap for tap in taps if tap.name in case.taps),
        gates=case.gates,
        weights_sha256="0" * 64,
        package_version="0",
    )
    return Prepared(made, card)


def doubled(made: Prepared) -> Prepared:
    return replace(made, classifier=made.classifier.double())


def answers(made: Prepared, clips_BTHWC: np.ndarray, target_B: np.ndarray) -> dict[str, np.ndarray]:
    """What the explain graph must answer, by autograd, item after item, in the dtype of the weights."""
    found = []
    for index in range(len(clips_BTHWC)):
        logits, taps = made.classifier(torch.from_numpy(clips_BTHWC[index : index + 1]))
        explanation = plain.attribute(
            logits,
            {name: taps[name] for name in made.card.tap_names},
            target_B=target_B[index : index + 1],
            size_THW=clips_BTHWC.shape[1:4],
        )
        found.append(explanation.outputs())
    return {name: np.concatenate([item[name] for item in found]) for name in found[0]}


def relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference over the largest value of each item; the worst item."""
    axes = tuple(range(1, wanted.ndim))
    scale = np.maximum(np.abs(wanted.astype(np.float64)).max(axes), 1e-300)
    return float((np.abs(got - wanted.astype(np.float64)).max(axes) / scale).max())


def _subset(rng: random.Random, *, at_least: int) -> tuple[str, ...]:
    chosen: Sequence[str] = rng.sample(TAPS, rng.randint(at_least, len(TAPS)))
    return tuple(tap for tap in TAPS if tap in chosen)
