"""A server's batch to its replies: the border at which every fault becomes the answer of its own item."""

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np

from sum3dcam.contract import EXPLAIN_GRAPH, LOGITS, TOP_CLASS, UNIX_TIME_FROM_MS
from sum3dcam.errors import DeadlineExceededError, RequestError, Sum3DCamError
from sum3dcam.serving.answer import build_answer
from sum3dcam.serving.batch import Batch, Outputs
from sum3dcam.serving.codec import Reply, check_tensor_bytes, encode_reply
from sum3dcam.serving.engines import Engine
from sum3dcam.serving.explanation import outputs_read, tensor_bytes
from sum3dcam.serving.options import RequestOptions, Row, read_request_id, read_trace
from sum3dcam.serving.report import COMPUTE, ENCODE, Report
from sum3dcam.serving.request import PendingRequest, Request, begin_request, frame_spec
from sum3dcam.serving.settings import Settings
from sum3dcam.video.decoder import Decoder, InProcessDecoder

# On the CPU a batch gains little and changes an answer's last bits; clip by clip an item's answer is the same to the
# byte whatever its neighbours are. A GPU is mostly idle without batches.
CPU_BATCH_CLIPS = 1
GPU_BATCH_CLIPS = 8


@dataclass(frozen=True)
class _Job:
    """One run of a graph on one clip: the row's place, the clip's and the target's place in their request."""

    item: int
    clip: int
    place: int
    target: int


class Predictor:
    """Answers batches with an explain and a labels engine. Keeps nothing between calls; never raises for a row.

    Args:
        decoder: for this model's frames; by default the predictor decodes by itself, before it computes.
        version: of the archive that is served, for the replies.
        clock: Unix time in seconds.
        timer: seconds since any moment, never set back.
    """

    def __init__(
        self,
        explain: Engine,
        labels: Engine,
        *,
        settings: Settings | None = None,
        decoder: Decoder | None = None,
        version: str | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._explain = explain
        self._labels = labels
        self._settings = settings or Settings()
        self._decoder = decoder or InProcessDecoder(frame_spec(explain.card), limits=self._settings.limits)
        self._version = version
        self._clock, self._timer = clock, timer
        default_clips = CPU_BATCH_CLIPS if "cpu" in explain.provider.lower() else GPU_BATCH_CLIPS
        self._max_batch_clips = self._settings.max_batch_clips or default_clips

    @property
    def engines(self) -> tuple[Engine, Engine]:
        """The explain engine and the labels engine."""
        return (self._explain, self._labels)

    def predict(self, rows: Sequence[Row]) -> list[Reply]:
        """One reply per row, in order, each what it would be had its row come alone."""
        return [reply for reply, _ in self.answer(rows)]

    def answer(self, rows: Sequence[Row]) -> list[tuple[Reply, Report]]:
        """`predict`'s replies, each with what it took."""
        batch = Batch(len(rows), self._clock, self._timer, arrived_unix=self._clock(), began=self._timer())
        pending = {}
        for item, row in enumerate(rows):
            with self._border(batch, [item]):
                batch.request_ids[item] = read_request_id(row)
                batch.traces[item] = read_trace(row)
                pending[item] = self._begin(batch, item, row)
        for items in _as_decoded(pending):
            self._answer_decoded(batch, {item: pending[item] for item in items})
        ended = self._timer()
        return [(batch.replies[item], batch.report(item, ended=ended)) for item in range(len(rows))]

    def _begin(self, batch: Batch, item: int, row: Row) -> PendingRequest:
        batch.begun[item] = batch.timer()
        request = begin_request(
            row,
            card=self._explain.card,
            decoder=self._decoder,
            seconds_left=lambda options: self._ends_unix(batch, options) - batch.clock(),
        )
        request.video.add_done_callback(lambda video: batch.decoded(item))
        return request

    def _answer_decoded(self, batch: Batch, pending: Mapping[int, PendingRequest]) -> None:
        """Computes and answers what has been decoded, while the rest still is."""
        for item, request in pending.items():
            batch.decoded(item)  # a future calls back after it has woken who waits
            with self._border(batch, [item]):
                batch.requests[item] = self._finish(request)
        items = [item for item in pending if item in batch.requests]
        for engine in (self._labels, self._explain):
            self._compute(batch, items, engine=engine)
        for item in items:
            if item not in batch.replies:
                with self._border(batch, [item]), batch.timed(ENCODE, [item]):
                    batch.replies[item] = self._encode(batch, item)

    def _finish(self, pending: PendingRequest) -> Request:
        request = pending.finish(clip_length=self._explain.card.num_frames)
        check_tensor_bytes(
            tensor_bytes(request.options, num_clips=len(request.clips_NTHWC), card=self._explain.card),
            compression=request.options.compression,
            max_reply_bytes=self._settings.max_reply_bytes,
        )
        return request

    def _engine(self, request: Request) -> Engine:
        return self._labels if request.options.explain == "none" else self._explain

    def _compute(self, batch: Batch, items: Collection[int], *, engine: Engine) -> None:
        """Runs the clips of those items that this engine answers, `max_batch_clips` at a time, items mixed."""
        jobs = [
            _Job(item=item, clip=clip, place=place, target=target)
            for item, request in batch.requests.items()
            if item in items and self._engine(request) is engine
            for clip in range(len(request.clips_NTHWC))
            for place, target in enumerate(_targets(request, engine=engine))
        ]
        # The clip's second best class is known once its best has been explained.
        self._run_all(batch, engine, [job for job in jobs if job.target >= TOP_CLASS])
        self._run_all(batch, engine, [job for job in jobs if job.target < TOP_CLASS])

    def _run_all(self, batch: Batch, engine: Engine, jobs: Sequence[_Job]) -> None:
        for first in range(0, len(jobs), self._max_batch_clips):
            chunk = jobs[first : first + self._max_batch_clips]
            for item in {job.item for job in chunk}:
                with self._border(batch, [item]):
                    self._check_deadline(batch, item)
            chunk = [job for job in chunk if job.item not in batch.replies]
            items = sorted({job.item for job in chunk})
            with self._border(batch, items), batch.timed(COMPUTE, items):
                self._run(batch, engine, chunk)

    def _run(self, batch: Batch, engine: Engine, chunk: Sequence[_Job]) -> None:
        if not chunk:
            return
        clips_BTHWC = np.stack([batch.requests[job.item].clips_NTHWC[job.clip] for job in chunk])
        target_B = np.asarray([_class_or_top(job, batch.outputs.get(job.item, {})) for job in chunk], np.int64)
        read = {job.item: _outputs_read(batch.requests[job.item], engine=engine) for job in chunk}
        outputs = engine.run(clips_BTHWC, target_B=target_B, outputs=frozenset(chain(*read.values())))
        for row, job in enumerate(chunk):
            kept = {name: outputs[name][row] for name in read[job.item]}
            batch.outputs.setdefault(job.item, {})[job.clip, job.place] = kept

    def _check_deadline(self, batch: Batch, item: int) -> None:
        now = batch.clock()
        options = batch.requests[item].options
        if now >= _deadline_unix(batch, options):
            raise DeadlineExceededError("the deadline passed before the item was computed", allowed=options.deadline_ms)
        if now >= self._ends_unix(batch, options):
            raise DeadlineExceededError(
                "the server's time for one batch is used up; send a shorter video, or try when it is less busy",
                allowed=f"{self._settings.batch_seconds} seconds",
            )

    def _ends_unix(self, batch: Batch, options: RequestOptions) -> float:
        """When the item's own time or its batch's is used up."""
        return min(_deadline_unix(batch, options), batch.arrived_unix + self._settings.batch_seconds)

    def _encode(self, batch: Batch, item: int) -> Reply:
        request = batch.requests[item]
        engine = self._engine(request)
        outputs = _stack(batch.outputs[item], num_targets=len(_targets(request, engine=engine)))
        envelope, tensors = build_answer(request, outputs, engine=engine, version=self._version)
        return encode_reply(
            envelope,
            tensors=tensors,
            format=request.options.format,
            compression=request.options.compression,
            max_reply_bytes=self._settings.max_reply_bytes,
        )

    @contextmanager
    def _border(self, batch: Batch, items: Sequence[int]) -> Iterator[None]:
        """Turns what is raised inside into the items' replies; their neighbours never notice."""
        try:
            yield
        except RequestError as error:
            batch.fail(items, error)
        except Exception as failure:  # noqa: BLE001  (whoever gets the report logs it)
            batch.fail(items, Sum3DCamError("the server failed on this item; its log says why"), failure=failure)


def _as_decoded(pending: Mapping[int, PendingRequest]) -> Iterator[list[int]]:
    """The items group by group, a group being all that have been decoded since the last one was asked for."""
    waiting = {request.video: item for item, request in pending.items()}
    while waiting:
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        yield sorted(waiting.pop(video) for video in done)


def _deadline_unix(batch: Batch, options: RequestOptions) -> float:
    if options.deadline_ms is None:
        return math.inf
    start = 0.0 if options.deadline_ms >= UNIX_TIME_FROM_MS else batch.arrived_unix
    return start + options.deadline_ms / 1000


def _targets(request: Request, *, engine: Engine) -> tuple[int, ...]:
    """What to explain of each clip; a labels graph explains nothing and runs once."""
    return request.options.targets if engine.card.graph == EXPLAIN_GRAPH else (TOP_CLASS,)


def _outputs_read(request: Request, *, engine: Engine) -> tuple[str, ...]:
    return outputs_read(request.options) if engine.card.graph == EXPLAIN_GRAPH else engine.card.outputs


def _class_or_top(job: _Job, done: Mapping[tuple[int, int], Outputs]) -> int:
    """The target as the graph takes it: of a lower rank the class, best first, of equal logits the lower index."""
    if job.target >= TOP_CLASS:
        return job.target
    logits_K = next(outputs[LOGITS] for (clip, _), outputs in done.items() if clip == job.clip)
    return int(np.argsort(-logits_K, kind="stable")[-job.target - 1])


def _stack(outputs: Mapping[tuple[int, int], Outputs], *, num_targets: int) -> Outputs:
    """Every output as (N,E,...)."""
    num_clips = len(outputs) // num_targets
    return {
        name: np.stack(
            [np.stack([outputs[clip, place][name] for place in range(num_targets)]) for clip in range(num_clips)]
        )
        for name in outputs[0, 0]
    }
