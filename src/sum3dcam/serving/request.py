"""A row of a server's batch to what the engines need: options, and the video's clips."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sum3dcam.contract import Card
from sum3dcam.errors import BadOptionError, UnreadableMediaError
from sum3dcam.serving.options import BODY_KEYS, RequestOptions, Row, parse_options
from sum3dcam.video.decoder import Decoder
from sum3dcam.video.footage import FrameSpec, Video
from sum3dcam.video.sample import cut_clips


@dataclass(frozen=True)
class Request:
    """A request that can be computed: clips uint8 (N,T,H,W,C), the last one filled with padded_frames repeats."""

    options: RequestOptions
    video: Video
    clips_NTHWC: NDArray[np.uint8]
    padded_frames: int


@dataclass(frozen=True)
class PendingRequest:
    """A request whose options have been read and whose video a decoder has been given."""

    options: RequestOptions
    video: Future[Video]

    def finish(self, *, clip_length: int) -> Request:
        """The request, once its video is there.

        Raises:
            RequestError: what is wrong with the video.
        """
        video = self.video.result()
        clips_NTHWC, padded_frames = cut_clips(video.frames_THWC, clip_length=clip_length)
        return Request(options=self.options, video=video, clips_NTHWC=clips_NTHWC, padded_frames=padded_frames)


def begin_request(
    row: Row, *, card: Card, decoder: Decoder, seconds_left: Callable[[RequestOptions], float]
) -> PendingRequest:
    """Parses a row and has its video decoded; options first, since they cost nothing.

    Raises:
        RequestError: the leaf that says what is wrong with the row.
    """
    options = parse_options(row, card=card)
    video = decoder.submit(request_bytes(row), seconds_left=seconds_left(options))
    return PendingRequest(options=options, video=video)


def frame_spec(card: Card) -> FrameSpec:
    """What the card's network sees of a video."""
    return FrameSpec(
        size_px=card.size_px,
        preprocessing=card.preprocessing,
        clip_length=card.num_frames,
        streams=card.streams,
        frames_per_second=card.frames_per_second,
    )


def request_bytes(row: Mapping[str, Any]) -> bytes:
    """The media in a row: `data` (gRPC, multipart forms) or `body` (raw HTTP); empty where there is neither.

    Raises:
        BadOptionError: both.
        UnreadableMediaError: something that TorchServe has parsed already (JSON).
    """
    sent = {key: row[key] for key in BODY_KEYS if key in row}
    if len(sent) > 1:
        raise BadOptionError("the media came twice; send it as 'data' or as the body", got=list(sent), allowed="one")
    value = next(iter(sent.values()), b"")
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, bytes | bytearray):
        raise UnreadableMediaError(
            "the body came as JSON; send the bytes of a video, image or .npy file", got=type(value).__name__
        )
    return bytes(value)
