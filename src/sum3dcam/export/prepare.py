"""What every exporter starts from: the network with its weights, the taps to explain, the card to sign."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sum3dcam import __version__
from sum3dcam.contract import EXPLAIN_GRAPH, FP32, Card
from sum3dcam.errors import CheckpointError
from sum3dcam.models import NETWORKS, Classifier, build_network, measure_taps
from sum3dcam.models.checkpoints import DEFAULT_FUSION, WeightsCard, build_classifier, load_weights
from sum3dcam.models.checkpoints.labels import read_labels
from sum3dcam.models.gating import Gate
from sum3dcam.models.residual import Bottleneck

DEFAULT_NUM_CLASSES = 51
CALIBRATION_CLIPS = 4
# Of a random residual branch beside its shortcut. At 1, ResNeXt-101 amplifies float32's rounding to 2e-4 of its largest
# logit in any program; at 1/4 it is 5e-6, as on trained weights.
RESIDUAL_SCALE = 0.25


@dataclass(frozen=True)
class Prepared:
    """A float32 classifier in eval mode and the card of its explain graph (without parity rows yet)."""

    classifier: Classifier
    card: Card

    def example_clip(self, num_clips: int = 2) -> Tensor:
        """uint8 zeros (num_clips,T,H,W,C), to trace with."""
        return torch.zeros(num_clips, *self.card.clip_shape_THWC, dtype=torch.uint8)


def prepare(
    model: str | None = None,
    *,
    weights: Sequence[Path] = (),
    random_seed: int | None = None,
    gates: Sequence[str] | None = None,
    fusion: str | None = None,
    labels: Path | None = None,
    num_frames: int | None = None,
    size_px: int | None = None,
    taps: Sequence[str] | None = None,
    preprocessing: str | None = None,
    frames_per_second: float | None = None,
    precision: str = FP32,
) -> Prepared:
    """Builds the network from weights files or, when asked for in words, from a random seed.

    What is None is what the weights say, or else the network's spec; `taps` None takes all of them, and
    `frames_per_second` None every frame of a video.

    Raises:
        CheckpointError: neither or both of weights and seed, weights that do not fit, unknown taps or gates.
    """
    if bool(weights) == (random_seed is not None) or (random_seed is not None and model is None):
        raise CheckpointError(
            "name the weights to export: either --weights FILE, or --model NAME --random-weights SEED for a network "
            "that has learnt nothing"
        )
    names = None if labels is None else read_labels(labels)
    if weights:
        loaded = load_weights(
            *weights, model=model, gates=gates, fusion=fusion, labels=names, num_frames=num_frames, size_px=size_px
        )
        card, digest = loaded.card, loaded.sha256
    else:
        spec = NETWORKS[str(model)]
        card = WeightsCard(
            model=str(model),
            labels=names or tuple(f"class_{index}" for index in range(DEFAULT_NUM_CLASSES)),
            gates=tuple(spec.default_gates if gates is None else gates),
            num_frames=num_frames or spec.num_frames,
            size_px=size_px or spec.size_px,
            fusion=fusion or DEFAULT_FUSION,
        )
        digest = f"random-weights-{random_seed}"
    spec = NETWORKS[card.model]
    spec.check_taps(card.gates, what="gate")
    spec.check_taps(taps or (), what="tap")
    if taps == ():
        raise CheckpointError("no such tap in this network", got="none", allowed=list(spec.taps))
    classifier = build_classifier(loaded) if weights else random_classifier(card, seed=int(random_seed or 0))
    return Prepared(
        classifier,
        Card(
            graph=EXPLAIN_GRAPH,
            model=card.model,
            labels=card.labels,
            num_frames=card.num_frames,
            size_px=card.size_px,
            streams=spec.streams,
            preprocessing=preprocessing or spec.preprocessing,
            frames_per_second=frames_per_second,
            taps=tuple(
                tap
                for tap in measure_taps(classifier.network, spec=spec, num_frames=card.num_frames, size_px=card.size_px)
                if taps is None or tap.name in taps
            ),
            gates=card.gates,
            weights_sha256=digest,
            package_version=__version__,
            precision=precision,
        ),
    )


def random_classifier(card: WeightsCard, *, seed: int) -> Classifier:
    """Random weights on which arithmetic is well-conditioned: batch norms measured on random clips, gates not zero."""
    spec = NETWORKS[card.model]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(
            spec, num_classes=len(card.labels), num_frames=card.num_frames, gates=card.gates, fusion=card.fusion
        )
        for module in network.modules():
            if isinstance(module, Gate):
                nn.init.normal_(module.fc.weight, std=0.5 / module.fc.in_features**0.5)
            if isinstance(module, Bottleneck):
                nn.init.constant_(module.bn3.weight, RESIDUAL_SCALE)
    classifier = Classifier(network, mean=spec.mean, std=spec.std)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    for norm in norms:
        norm.momentum = 1.0  # the running statistics become those of the one batch below
    clips_BTHWC = random_clips(
        CALIBRATION_CLIPS, num_frames=card.num_frames, size_px=card.size_px, num_channels=len(spec.mean), seed=seed
    )
    with torch.no_grad():
        classifier.train()(torch.from_numpy(clips_BTHWC))
    return classifier.eval()


def random_clips(
    num_clips: int, *, num_frames: int, size_px: int, num_channels: int, seed: int
) -> npt.NDArray[np.uint8]:
    """uint8 (N,T,H,W,C): smooth random blobs under fine noise, so that every tap has something to see."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(size=(num_clips, num_channels, max(2, num_frames // 4), 8, 8)))
    smooth = nn.functional.interpolate(coarse, size=(num_frames, size_px, size_px), mode="trilinear")
    noise_NTHWC = smooth.permute(0, 2, 3, 4, 1).numpy() * 60 + rng.normal(
        scale=20, size=(num_clips, num_frames, size_px, size_px, num_channels)
    )
    return np.clip(127.5 + noise_NTHWC, 0, 255).astype(np.uint8)
