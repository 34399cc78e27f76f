"""The served archive without a server: what its predictor does per second here, and where one request's time goes."""

import math
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np

from load.inputs import Inputs
from sum3dcam.contract import TOP_CLASS
from sum3dcam.serving.answer import build_answer
from sum3dcam.serving.archive import Archive, read_archive
from sum3dcam.serving.codec import encode_reply
from sum3dcam.serving.engines import load_engines
from sum3dcam.serving.explanation import outputs_read
from sum3dcam.serving.predictor import Predictor
from sum3dcam.serving.request import begin_request, frame_spec
from sum3dcam.serving.settings import Settings, read_settings
from sum3dcam.video.decoder import InProcessDecoder

PHASES = ("decode", "compute", "encode")
# As serve_config/config.properties has it: TorchServe's own default would refuse maps of long videos.
MAX_MESSAGE = {"max_request_size": "67108864", "max_response_size": "67108864"}


class InProcess:
    """The archive's engines, started as its worker starts them, on the CPU."""

    def __init__(self, folder: Path, *, archive: Archive) -> None:
        self.settings: Settings = read_settings(archive.config, properties=MAX_MESSAGE)
        self.batch_size: int = archive.config.get("batchSize", 1)
        self.explain, self.labels = load_engines(
            folder, device="cpu", num_threads=self.settings.num_threads, engines=self.settings.engines
        )
        self._decoder = InProcessDecoder(frame_spec(self.explain.card), limits=self.settings.limits)
        self._predictor = Predictor(self.explain, self.labels, settings=self.settings, version=archive.version)

    def answer(self, data: Sequence[bytes], options: Mapping[str, str]) -> list[bytes]:
        """The replies to one batch."""
        return [reply.body for reply in self._predictor.predict([{"body": one, **options} for one in data])]

    def rate_per_second(
        self, inputs: Inputs, options: Mapping[str, str], *, seconds: float, first_serial: int
    ) -> float:
        """Requests per second in full batches, bytes to bytes."""
        answered, began = 0, time.perf_counter()
        while not answered or time.perf_counter() - began < seconds:
            first = first_serial + answered
            self.answer([inputs.data(first + place) for place in range(self.batch_size)], options)
            answered += self.batch_size
        return answered / (time.perf_counter() - began)

    def phases(
        self, inputs: Inputs, options: Mapping[str, str], *, repeats: int, first_serial: int
    ) -> dict[str, list[float]]:
        """Seconds of each phase of single requests, one list per phase."""
        found: dict[str, list[float]] = {phase: [] for phase in PHASES}
        engine = self.explain if options else self.labels
        for serial in range(first_serial, first_serial + repeats):
            marks = [time.perf_counter()]
            row = {"body": inputs.data(serial), **options}
            pending = begin_request(
                row, card=self.explain.card, decoder=self._decoder, seconds_left=lambda options: math.inf
            )
            request = pending.finish(clip_length=self.explain.card.num_frames)
            marks.append(time.perf_counter())
            targets = np.full(len(request.clips_NTHWC), TOP_CLASS, np.int64)
            read = outputs_read(request.options) if options else None
            outputs = engine.run(request.clips_NTHWC, target_B=targets, outputs=read)
            marks.append(time.perf_counter())
            one_class = {name: values[:, None] for name, values in outputs.items()}
            envelope, tensors = build_answer(request, one_class, engine=engine)
            encode_reply(
                envelope,
                tensors=tensors,
                format=request.options.format,
                max_reply_bytes=self.settings.max_reply_bytes,
            )
            marks.append(time.perf_counter())
            for phase, (begin, end) in zip(PHASES, pairwise(marks), strict=True):
                found[phase].append(end - begin)
        return found


@contextmanager
def unpacked(archive: Path) -> Iterator[InProcess]:
    """The archive's engines, from a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sum3dcam-load-") as folder:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        yield InProcess(Path(folder), archive=read_archive(archive))
