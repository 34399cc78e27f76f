"""A network whose explanation is known: it sees what is bright, so its maps light up where the pixels do."""

import numpy as np
import pytest

from sum3dcam.attribution.maps import build_maps
from sum3dcam.contract import EXPLAIN_GRAPH, EXPLAINED, GRIDS, LOGITS, SALIENCY, TOP_CLASS, Card, Tap, grid_name


class BrightEngine:
    """Two taps, `conv` of full size and `layer1` of half size, all grids the brightness; bright clips are class 1.

    The grids of another class than that are zero: the explanation depends on the target, as a real one does.
    """

    name, provider, sha256 = "bright", "none", "0" * 64

    def __init__(self, *, num_frames, size_px, labels=("dark", "bright"), graph=EXPLAIN_GRAPH):
        self.card = Card(
            graph=graph,
            model="bright",
            labels=tuple(labels),
            num_frames=num_frames,
            size_px=size_px,
            streams=("rgb",),
            frames_per_second=None,
            preprocessing="shorter-side-centre-crop",
            taps=(
                Tap("conv", 1, (num_frames, size_px, size_px)),
                Tap("layer1", 1, (num_frames, size_px // 2, size_px // 2)),
            ),
            gates=(),
            weights_sha256="1" * 64,
            package_version="0",
        )
        self.batches = []
        self.targets = []

    def run(self, clip_BTHWC, *, target_B, outputs=None):
        self.batches.append(len(clip_BTHWC))
        self.targets += target_B.tolist()
        bright_BTHW = clip_BTHWC.mean(-1).astype(np.float32) / 255
        logits = np.zeros((len(clip_BTHWC), len(self.card.labels)), np.float32)
        logits[:, 1] = 100 * bright_BTHW.mean((1, 2, 3)) - 1
        explained = np.where(target_B == TOP_CLASS, logits.argmax(1), target_B)
        full = bright_BTHW * (explained == 1)[:, None, None, None]
        batch, t, h, w = full.shape
        half = full.reshape(batch, t, h // 2, 2, w // 2, 2).mean((3, 5))
        outputs = {LOGITS: logits, EXPLAINED: explained}
        for grid in GRIDS:
            outputs[grid_name(grid, "conv")], outputs[grid_name(grid, "layer1")] = full, half
        saliency = build_maps(outputs, taps=("conv", "layer1"), method="sum3dcam", num_frames=t, size_px=h).maps_BTHW
        return {**outputs, SALIENCY: saliency}


@pytest.fixture
def make_engine():
    return BrightEngine
