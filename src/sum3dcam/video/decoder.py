"""Who decodes: this process, or others (`isolation.pool`)."""

import math
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from sum3dcam.errors import RequestError
from sum3dcam.video.decode import decode
from sum3dcam.video.footage import DecodeLimits, FrameSpec, Video


class Decoder(Protocol):
    """Turns files into what one network sees of them."""

    def submit(self, data: bytes, *, seconds_left: float = math.inf) -> Future[Video]:
        """The video, now or later; the future's errors are `decode`'s."""
        ...


@dataclass(frozen=True)
class InProcessDecoder:
    """Decodes while it is asked; a file that crashes a codec takes the caller along."""

    spec: FrameSpec
    limits: DecodeLimits

    def submit(self, data: bytes, *, seconds_left: float = math.inf) -> Future[Video]:
        future: Future[Video] = Future()
        try:
            future.set_result(decode(data, limits=self.limits, seconds_left=seconds_left, **vars(self.spec)))
        except RequestError as error:
            future.set_exception(error)
        return future
