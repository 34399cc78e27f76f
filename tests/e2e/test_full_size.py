"""Full-size networks from files in the public layouts, served: labels and maps over both transports.

Oracles: `plain` and `i3d`, written from METHOD.md alone, in float64 on the clip that the server decodes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import Exports, export_without_openvino
from tests.oracle import i3d, plain
from tests.oracle.plain import Explanation

from sum3dcam.client.grpc import GrpcClient
from sum3dcam.client.http import HttpClient
from sum3dcam.export.prepare import prepare
from sum3dcam.serving import readiness, torchserve
from sum3dcam.serving.torchserve import Server
from sum3dcam.video.decode import DecodeLimits, decode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NUM_I3D_CLASSES = 11
# Scores are softmaxed logits, which agree to 1e-4 of their largest (METHOD.md section 4).
SCORE_TOLERANCE = 1e-3
# A flipped ReLU moves single voxels by some per cent; the wrong tap, clip or class moves the mean by tens.
MAP_MEAN_TOLERANCE = 5e-3


@dataclass(frozen=True)
class Served:
    """A model behind the server: how its clip is made, and the oracle's answer to a clip."""

    size_px: int
    preprocessing: str
    explain: Callable[[np.ndarray], Explanation]


@pytest.fixture(autouse=True)
def worker_is_never_restarted() -> None:
    """The session's server has no part here."""


@pytest.fixture(scope="module")
def served(
    resnext101_exports: Exports, run_script: Any, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Mapping[str, Served]]]:
    folder = tmp_path_factory.mktemp("full-size")
    state = i3d.random_state(num_classes=NUM_I3D_CLASSES, num_channels=3, seed=4)
    i3d.write_checkpoint(folder / "model_rgb.pth", state, layout="b", legacy=True)
    prepared = prepare(weights=[folder / "model_rgb.pth"], num_frames=16, size_px=64)
    export_without_openvino(prepared, folder / "i3d.onnx")
    for name, artifact in (("i3d", folder / "i3d.onnx"), ("r101", resnext101_exports.onnx)):
        run_script("export/to_mar.py", "--artifact", artifact, "--name", name, "--output", folder)
    server = torchserve.start(
        [folder / "i3d.mar", folder / "r101.mar"],
        config=project / "serve_config" / "config.properties",
        run_dir=folder / "run",
        ports=torchserve.free_ports(),
    )
    top = np.array([-1])
    models = {
        "i3d": Served(
            64,
            "shorter-side-256-crop-224",
            lambda clip: i3d.explain({name: t.double() for name, t in state.items()}, clip, target_B=top),
        ),
        "r101": Served(
            112,
            "shorter-side-centre-crop",
            lambda clip: plain.explain(
                plain.load(resnext101_exports.checkpoint, dtype=plain.torch.float64), clip, target_B=top
            ),
        ),
    }
    try:
        readiness.wait_ready(server, timeout_seconds=300)
        yield server, models
    finally:
        torchserve.stop(server)
        for path in folder.iterdir():
            if path.is_file():
                path.unlink()


@pytest.mark.parametrize("name", ["i3d", "r101"])
def test_a_public_checkpoint_is_served_with_the_oracles_labels_and_map(
    served: tuple[Server, Mapping[str, Served]], videos: list[bytes], name: str
) -> None:
    server, models = served
    model = models[name]
    clip = decode(
        videos[0], size_px=model.size_px, limits=DecodeLimits(), preprocessing=model.preprocessing
    ).frames_THWC[None]
    wanted = model.explain(clip)
    answers = []
    with HttpClient(server.url, model=name) as http, GrpcClient(server.grpc_address, model=name) as grpc:
        for client in (http, grpc):
            answers.append(client.predict(videos[0], explain="maps", map_dtype="f32", top_k=3))
    exp = np.exp(wanted.logits_BK[0] - wanted.logits_BK[0].max())
    scores_K = exp / exp.sum()
    for answer in answers:
        labels = answer.clips[0].labels
        assert [label.index for label in labels] == np.argsort(-scores_K)[:3].tolist()
        for label in labels:
            assert label.score == pytest.approx(scores_K[label.index], abs=SCORE_TOLERANCE)
        assert answer.maps_NETHW is not None
        assert np.abs(answer.maps_NETHW[:, 0] - wanted.saliency_BTHW).mean() <= MAP_MEAN_TOLERANCE
        assert answer.clips[0].explanations[0].boxes
    np.testing.assert_array_equal(answers[0].maps_NETHW, answers[1].maps_NETHW)
    assert answers[0].clips == answers[1].clips
