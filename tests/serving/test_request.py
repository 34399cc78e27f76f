"""A row becomes the clips that the card asks for."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import av
import numpy as np
import pytest

from sum3dcam.contract import Card
from sum3dcam.errors import BadArrayError, TooLargeError
from sum3dcam.serving.request import Request, begin_request, frame_spec
from sum3dcam.video.decode import DecodeLimits, decode
from sum3dcam.video.decoder import InProcessDecoder

LIMITS = DecodeLimits()


def read_request(row: Any, *, card: Card, limits: DecodeLimits) -> Request:
    decoder = InProcessDecoder(frame_spec(card), limits=limits)
    pending = begin_request(row, card=card, decoder=decoder, seconds_left=lambda options: 60.0)
    return pending.finish(clip_length=card.num_frames)


@pytest.fixture
def video() -> bytes:
    """Twelve noisy frames of 32x16, 25 a second."""
    buffer = BytesIO()
    with av.open(buffer, "w", format="matroska") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for seed in range(12):
            pixels = np.random.default_rng(seed).integers(0, 256, (16, 32, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()


def test_the_cards_rate_streams_and_preprocessing_are_what_the_network_gets(card: Card, video: bytes) -> None:
    asked = replace(card, streams=("rgb", "flow"), frames_per_second=12.5, preprocessing="squash")
    request = read_request({"data": video}, card=asked, limits=LIMITS)
    assert request.clips_NTHWC.shape == (2, 4, 16, 16, 5)
    assert request.padded_frames == 2
    assert request.video.source_frames == (0, 2, 4, 6, 8, 10)
    squashed = decode(video, size_px=16, limits=LIMITS, preprocessing="squash").frames_THWC
    np.testing.assert_array_equal(request.clips_NTHWC[0, ..., :3], squashed[[0, 2, 4, 6]])


@pytest.mark.parametrize(("streams", "channels"), [(("rgb",), 3), (("flow",), 2), (("rgb", "flow"), 5)])
def test_clips_may_come_in_the_networks_own_channels(
    streams: tuple[str, ...], channels: int, card: Card, npy: Callable[..., bytes]
) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, channels), np.uint8)
    request = read_request({"data": npy(clips)}, card=replace(card, streams=streams), limits=LIMITS)
    np.testing.assert_array_equal(request.clips_NTHWC, clips)
    assert request.padded_frames == 0


def test_a_single_frame_network_takes_each_frame_as_a_clip(card: Card, npy: Callable[..., bytes]) -> None:
    single = replace(card, num_frames=1)
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    for sent in (frames, frames[:, None]):
        request = read_request({"data": npy(sent)}, card=single, limits=LIMITS)
        np.testing.assert_array_equal(request.clips_NTHWC, frames[:, None])
        assert request.padded_frames == 0


def test_what_the_network_cannot_see_is_refused_by_its_streams(card: Card, npy: Callable[..., bytes]) -> None:
    with pytest.raises(BadArrayError, match="rgb and flow"):
        read_request(
            {"data": npy(np.zeros((4, 16, 16, 2), np.uint8))},
            card=replace(card, streams=("rgb", "flow")),
            limits=LIMITS,
        )


def test_flow_that_takes_too_long_is_refused(card: Card, npy: Callable[..., Any]) -> None:
    body = npy(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8))
    with pytest.raises(TooLargeError, match="sum3dcam flow"):
        read_request({"data": body}, card=replace(card, streams=("flow",)), limits=DecodeLimits(max_decode_seconds=0.0))
