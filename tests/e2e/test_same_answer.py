"""A clip's answer depends neither on its neighbours nor on the transport. Oracle: its answer when it came alone."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sum3dcam.wire import decode_reply

MAPS = {"explain": "maps", "map_dtype": "f32"}
BOXES = {"explain": "boxes", "request_id": "same"}


def _assert_same(one: bytes, other: bytes) -> None:
    """Same labels and boxes; maps to 1e-5 of their max, which is 1."""
    envelope, tensors = decode_reply(one)
    other_envelope, other_tensors = decode_reply(other)
    assert envelope == other_envelope
    assert tensors.keys() == other_tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_allclose(tensor, other_tensors[name], rtol=0, atol=1e-5)


def test_alone_in_a_batch_over_http_and_over_grpc(
    videos: list[bytes], http: Any, grpc_send: Any, in_one_batch: Any, batches: Callable[[], list[tuple[int, int]]]
) -> None:
    alone = [http(video, MAPS).body for video in videos]
    assert all(items == 1 for items, _ in batches())
    envelope, tensors = decode_reply(alone[0])
    assert tensors["maps"].shape == (1, 1, 16, 112, 112)
    assert tensors["maps"].max() == 1.0
    assert envelope["clips"][0]["explanations"][0]["boxes"]

    _assert_same(alone[0], grpc_send(videos[0], MAPS).body)
    for send in (http, grpc_send):
        replies, failed = in_one_batch(send, [(video, MAPS) for video in videos])
        assert failed == 0
        for one, other in zip(alone, replies, strict=True):
            _assert_same(one, other.body)
            # Clip by clip on the CPU: not only close.
            assert one == other.body


def test_items_of_a_batch_keep_their_own_options(videos: list[bytes], http: Any, in_one_batch: Any) -> None:
    label = decode_reply(http(videos[0], {"top_k": "3"}).body)[0]["video"]["labels"][2]
    wishes = [
        {"explain": "none"},
        BOXES,
        {"explain": "maps", "target": "top-3", "method": "sum3dcam-elementwise", "taps": "layer1,layer2"},
        {"explain": "grids", "method": "avgpool-3dcam", "target": f"{label['label']},top"},
        {"explain": "boxes", "target": str(label["index"])},
        {"explain": "boxes", "target": label["label"], "tubes": "smoothed"},
        {"explain": "boxes", "method": "gradcam", "top_k": "1", "box_mode": "all", "threshold": "0.9"},
        {"explain": "maps", "method": "counterfactual", "coordinates": "corners", "normalisation": "frame"},
    ]
    alone = [http(videos[0], wish).body for wish in wishes]
    answers, failed = in_one_batch(http, [(videos[0], wish) for wish in wishes])
    assert failed == 0
    replies = [reply.body for reply in answers]
    assert replies == alone
    best, two, by_index, by_name, one, counterfactual = (decode_reply(reply) for reply in replies[2:])
    ranked = [ranked["index"] for ranked in best[0]["video"]["labels"][:3]]
    assert [explained["index"] for explained in best[0]["clips"][0]["explanations"]] == ranked
    assert best[1]["maps"].shape == (1, 3, 16, 112, 112)
    assert [explained["index"] for explained in two[0]["clips"][0]["explanations"]] == [label["index"], ranked[0]]
    assert set(two[1]) == {"activation_layer4", "gradient_layer4"}
    assert by_index[0]["clips"] == by_name[0]["clips"]
    assert len(one[0]["video"]["labels"]) == 1
    assert counterfactual[1]["maps"].max((3, 4)).tolist() == [[[255] * 16]]  # each frame by its own max


def test_npy_clips_and_their_video_give_the_same_maps(videos: list[bytes], http: Any, npy_of: Any) -> None:
    _, tensors = decode_reply(http(videos[0], MAPS).body)
    envelope, from_array = decode_reply(http(npy_of(videos[0]), MAPS).body)
    assert (envelope["video"]["fps"], envelope["clips"][0]["start_seconds"]) == (None, None)
    np.testing.assert_array_equal(tensors["maps"], from_array["maps"])
