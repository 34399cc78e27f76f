"""A served model as an engine: the same grids and labels, by way of HTTP or gRPC."""

import hashlib
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, Unpack

import numpy as np
import numpy.typing as npt

from sum3dcam.artefact import read_card
from sum3dcam.attribution.maps import METHODS
from sum3dcam.client.prediction import Prediction
from sum3dcam.client.request import Options
from sum3dcam.contract import EXPLAINED, LOGITS, TOP_CLASS, Card, grid_name
from sum3dcam.errors import ArtifactError


class Client(Protocol):
    """What asks a server: `client.http.HttpClient` or `client.grpc.GrpcClient`."""

    def predict(self, data: bytes, **options: Unpack[Options]) -> Prediction: ...


class ServedEngine:
    """Asks the server for what an engine would compute; one request per method whose grids are wanted.

    Logits come as logarithms of the scores: the same but for a constant, which neither argmax nor softmax notices.

    Args:
        artifact: the file that is served, for its card; it is not loaded.
        name: of the transport.
    """

    def __init__(self, client: Client, *, artifact: Path, name: str) -> None:
        self._client = client
        self.card: Card = read_card(artifact)
        self.name, self.provider = name, "server"
        self.sha256 = hashlib.sha256(artifact.read_bytes()).hexdigest()

    def run(
        self,
        clip_BTHWC: npt.NDArray[np.uint8],
        *,
        target_B: npt.NDArray[np.int64],
        outputs: Collection[str] | None = None,
    ) -> Mapping[str, npt.NDArray[Any]]:
        """As `serving.engines.Engine.run`, of one target and of grids that methods read.

        Raises:
            ArtifactError: the server's model was made of other weights.
            ValueError: several targets, or outputs that no reply holds.
            RequestError, UnreachableError, ...: as the client's.
        """
        (target,) = set(target_B.tolist())
        data = io.BytesIO()
        np.save(data, clip_BTHWC)
        wanted = set(outputs or ()) - {LOGITS, EXPLAINED}
        asked: list[Options] = [
            {
                "explain": "grids",
                "method": method,
                "taps": taps,
                "target": "top" if target == TOP_CLASS else target,
                "top_k": len(self.card.labels),
            }
            for method, taps in self._requests(wanted)
        ]
        found: dict[str, npt.NDArray[Any]] = {}
        for options in asked or [{"explain": "none", "top_k": len(self.card.labels)}]:
            prediction = self._client.predict(data.getvalue(), **options)
            self._check_model(prediction)
            found[LOGITS] = self._logits(prediction)
            if prediction.grids:
                found[EXPLAINED] = np.array([clip.explanations[0].index for clip in prediction.clips], np.int64)
                found |= {name: grid[:, 0] for name, grid in prediction.grids.items()}
        if missing := wanted - found.keys():
            raise ValueError(f"no method reads {sorted(missing)}: a server does not send them")
        return found

    def _requests(self, wanted: Collection[str]) -> list[tuple[str, tuple[str, ...]]]:
        """Methods, each with its taps, whose grids are together those wanted."""
        requests = []
        left = set(wanted)
        for name, method in METHODS.items():
            taps = tuple(
                tap for tap in self.card.tap_names if any(grid_name(grid, tap) in left for grid in method.grids)
            )
            if taps and method.max_taps is None:
                requests.append((name, taps))
                left -= {grid_name(grid, tap) for grid in method.grids for tap in taps}
        return requests

    def _logits(self, prediction: Prediction) -> npt.NDArray[np.float64]:
        scores_NK = np.zeros((len(prediction.clips), len(self.card.labels)))
        for clip in prediction.clips:
            for label in clip.labels:
                scores_NK[clip.index, label.index] = label.score
        logits_NK: npt.NDArray[np.float64] = np.log(np.maximum(scores_NK, np.finfo(np.float64).tiny))
        return logits_NK

    def _check_model(self, prediction: Prediction) -> None:
        served = prediction.model.get("weights_sha256")
        if served != self.card.weights_sha256:
            raise ArtifactError(
                "the server's model was made of other weights than the artefact given; name it with --model",
                got=served,
                allowed=self.card.weights_sha256,
            )
