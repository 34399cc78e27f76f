"""The rendered videos: the same each time, reversible in time, with exact boxes."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from sum3dcam.synthetic import ACTIONS, DIFFICULTIES, REVERSED, RenderedVideo, contact_sheet, render
from sum3dcam.synthetic.body import paint
from sum3dcam.synthetic.composition import Person, Shot, compose
from sum3dcam.synthetic.figure import PLAYED_BACKWARD
from sum3dcam.synthetic.render import mask_box
from sum3dcam.synthetic.scene import expose, scene_frame

WIDTH, HEIGHT = 192, 144
EVERY_CASE = list(itertools.product(ACTIONS, DIFFICULTIES))
ONE_ACTOR = [case for case in EVERY_CASE if case[1] != "hard"]
# As "hard", with everything that it may have.
CROWD = replace(DIFFICULTIES["hard"], bystanders=(2, 3), second_action_share=1.0, cut_share=1.0)


def test_there_are_ten_actions_in_sorted_order_with_three_reversed_pairs() -> None:
    assert list(ACTIONS) == sorted(ACTIONS)
    assert len(ACTIONS) == 10
    assert len(REVERSED) == 3
    assert set(REVERSED) | set(REVERSED.values()) <= set(ACTIONS)


@pytest.mark.parametrize(("action", "difficulty"), EVERY_CASE)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(action: str, difficulty: str) -> None:
    first, again, other = (
        render(seed=seed, action=action, num_frames=5, difficulty=DIFFICULTIES[difficulty]) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.frames_THWC, again.frames_THWC)
    np.testing.assert_array_equal(first.boxes_xyxy_px, again.boxes_xyxy_px)
    assert not np.array_equal(first.frames_THWC, other.frames_THWC)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize(("backward", "forward"), REVERSED.items())
def test_a_pair_of_actions_is_frame_for_frame_the_reverse_of_each_other(
    backward: str, forward: str, difficulty: str
) -> None:
    for seed in range(3):
        one = render(seed=seed, action=forward, num_frames=17, difficulty=DIFFICULTIES[difficulty])
        other = render(seed=seed, action=backward, num_frames=17, difficulty=DIFFICULTIES[difficulty])
        np.testing.assert_array_equal(other.frames_THWC, one.frames_THWC[::-1])
        np.testing.assert_array_equal(other.boxes_xyxy_px, one.boxes_xyxy_px[::-1])
        # Not a palindrome: the order does carry the label.
        assert not np.array_equal(one.frames_THWC, one.frames_THWC[::-1])


def bounds(pixels_HW: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(pixels_HW)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@pytest.mark.parametrize(("action", "difficulty"), ONE_ACTOR)
def test_boxes_are_tight_around_what_the_actor_changes_in_the_picture(action: str, difficulty: str) -> None:
    """Oracle: the same scene exposed without the actor. The two differ where the actor is, and nowhere else.

    Tolerance: the box bounds pixels covered by half or more, and a changed pixel may be covered by less, so it may
    lie 1 pixel outside; OpenCV's anti-aliasing tints a second one by at most a tenth, 25 levels.
    """
    request = {"seed": 11, "action": action, "num_frames": 6, "width": WIDTH, "height": HEIGHT}
    video = render(**request, difficulty=DIFFICULTIES[difficulty])
    (shot,) = compose(**request, difficulty=DIFFICULTIES[difficulty])
    scene = shot.scene
    empty = np.stack([expose(scene, frame_HWC=scene_frame(scene, index=i), index=i) for i in range(6)])
    if action in REVERSED:
        empty = empty[::-1]
    for frame, without, box in zip(video.frames_THWC, empty, video.boxes_xyxy_px, strict=True):
        change = np.abs(frame.astype(np.int16) - without).max(axis=-1)
        touched, changed = bounds(change > 0), bounds(change > 25)
        outward = np.array([-1, -1, 1, 1])
        assert ((changed - box) * outward <= 1).all(), (changed, box)
        assert ((touched - box) * outward >= 0).all(), (touched, box)
        assert ((touched - box) * outward <= 2).all(), (touched, box)


@pytest.mark.parametrize("size", [(192, 144), (144, 192), (112, 112), (256, 192)])
def test_the_actor_stays_inside_the_centre_square_of_any_frame(size: tuple[int, int]) -> None:
    width, height = size
    side = min(size)
    corner = np.array([(width - side) / 2, (height - side) / 2])
    for seed, (action, difficulty) in enumerate(EVERY_CASE):
        request = {"seed": seed, "action": action, "num_frames": 16, "width": width, "height": height}
        boxes = render(**request, difficulty=DIFFICULTIES[difficulty]).boxes_xyxy_px
        assert boxes.dtype == np.float32
        assert (boxes[:, :2] < boxes[:, 2:]).all()
        assert (boxes[:, :2] >= corner).all()
        assert (boxes[:, 2:] <= corner + side).all()


def crowd(seed: int, action: str, *, num_frames: int = 12) -> RenderedVideo:
    return render(seed=seed, action=action, num_frames=num_frames, difficulty=CROWD)


def shots(seed: int, action: str) -> tuple[Shot, ...]:
    return compose(seed=seed, action=action, num_frames=12, width=WIDTH, height=HEIGHT, difficulty=CROWD)


def test_each_of_several_people_has_the_box_of_what_it_changes_in_the_picture() -> None:
    """Oracle: the same shot exposed without that person; tolerances as for one actor, one pixel more for limbs as
    thin as a pixel. Frames of both shots of each video."""

    def picture(shot: Shot, people: list[Person], index: int) -> np.ndarray:
        frame = scene_frame(shot.scene, index=index)
        for person in reversed(people):
            paint(person.actor, index=index, frame_HWC=frame, mask_HW=np.zeros((HEIGHT, WIDTH), np.uint8))
        return expose(shot.scene, frame_HWC=frame, index=index).astype(np.int16)

    num_tubes = 0
    for seed, action in enumerate(("bow", "kick", "walk_forward", "wave")):
        video = crowd(seed, action)
        for shot in shots(seed, action):
            acting = [person for person in shot.people if person.action is not None]
            for person in acting:
                (tube,) = (
                    tube for tube in video.tubes if (tube.action, tube.first_frame) == (person.action, shot.first_frame)
                )
                index = shot.first_frame
                others = [other for other in shot.people if other is not person]
                change = np.abs(video.frames_THWC[index] - picture(shot, others, index)).max(axis=-1)
                assert np.abs(bounds(change > 25) - tube.boxes_xyxy_px[0]).max() <= 3
                num_tubes += 1
    assert num_tubes > 8


def test_a_cut_changes_the_scene_in_the_middle_half_and_the_action_goes_on() -> None:
    for seed, action in enumerate(ACTIONS):
        video = crowd(seed, action)
        own = [tube for tube in video.tubes if tube.action == action]
        assert [tube.first_frame for tube in own] == [0, len(own[0].boxes_xyxy_px)]
        cut = own[1].first_frame
        assert 3 <= cut <= 9
        change = np.abs(np.diff(video.frames_THWC.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
        assert int(np.argmax(change)) == cut - 1
        assert video.boxes_xyxy_px.shape == (12, 4)


def test_a_second_action_is_another_one_and_labelled_on_its_own_tube() -> None:
    seconds = set()
    for seed, action in enumerate(ACTIONS * 3):
        tubes = crowd(seed, action, num_frames=4).tubes
        others = [tube for tube in tubes if tube.action != action]
        seconds |= {tube.action for tube in others}
        assert all(len(tube.boxes_xyxy_px) for tube in others)
    # Every action but the kick, whose reverse is no action.
    assert seconds == set(PLAYED_BACKWARD)


def test_tubes_of_a_reversed_action_are_those_of_its_pair_run_backward() -> None:
    for seed, (backward, forward) in enumerate(REVERSED.items()):
        one, other = crowd(seed, forward), crowd(seed, backward)
        assert len(one.tubes) == len(other.tubes)
        expected = {
            (PLAYED_BACKWARD[tube.action], 12 - tube.first_frame - len(tube.boxes_xyxy_px)): tube for tube in one.tubes
        }
        for tube in other.tubes:
            twin = expected[tube.action, tube.first_frame]
            np.testing.assert_array_equal(tube.boxes_xyxy_px, twin.boxes_xyxy_px[::-1])


def test_bystanders_hold_a_pose_while_the_actor_moves() -> None:
    """Movement is the largest way of a vertex within the shot, the camera's shake taken off, over the height."""
    for seed, action in enumerate(ACTIONS):
        for shot in shots(seed, action):
            acting, holding = [], []
            for person in shot.people:
                points = person.actor.vertices_TPV2 / 16 - shot.scene.shake_T2[:, None, None]
                movement = np.ptp(points, axis=0).max() / np.ptp(points[..., 1])
                (holding if person.action is None else acting).append(movement)
            assert not holding or max(holding) < min(acting)


def test_small_actors_keep_a_box() -> None:
    """At a tenth of the height of the frame, 14 pixels."""
    tiny = replace(DIFFICULTIES["hard"], actor_height_share=(0.1, 0.1))
    for seed, action in enumerate(ACTIONS):
        boxes = render(seed=seed, action=action, num_frames=3, difficulty=tiny).boxes_xyxy_px
        sides = boxes[:, 2:] - boxes[:, :2]
        assert (sides >= 2).all()
        assert (sides[:, 1] <= 20).all()


def test_the_actor_stands_in_many_places_and_sizes() -> None:
    """At full difficulty the spread of the box's centre is several times what camera shake alone would give."""
    boxes = np.stack(
        [
            render(seed=seed, action="wave", num_frames=1, difficulty=DIFFICULTIES["full"]).boxes_xyxy_px[0]
            for seed in range(60)
        ]
    )
    centres, heights = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 3] - boxes[:, 1]
    assert (centres.std(axis=0) > 8).all()
    assert heights.max() / heights.min() > 1.5


@pytest.mark.parametrize("action", ACTIONS)
def test_every_window_of_sixteen_frames_shows_the_action_moving(action: str) -> None:
    """Without background motion or noise, half of the frame-to-frame changes in any window are clearly visible."""
    frames = render(seed=5, action=action, num_frames=48, difficulty=DIFFICULTIES["easy"]).frames_THWC
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).max(axis=-1) > 30
    moving_pixels = change.sum(axis=(1, 2))
    windows = np.lib.stride_tricks.sliding_window_view(moving_pixels, 15)
    # 40 of 27 648 pixels: less than what a forearm covers.
    assert (np.median(windows, axis=1) > 40).all()


def test_both_facing_directions_occur_for_every_action() -> None:
    """The kick's box reaches from the standing leg to the side the figure faces."""
    sides = []
    for seed in range(20):
        boxes = render(seed=seed, action="kick", num_frames=16, difficulty=DIFFICULTIES["easy"]).boxes_xyxy_px
        sides.append(np.ptp(boxes[:, 2]) > np.ptp(boxes[:, 0]))
    assert 4 <= sum(sides) <= 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": "fly"}, "action: got 'fly', wanted one of bow"),
        ({"num_frames": 0}, "num_frames: got 0, wanted 1 or more"),
        ({"width": 191}, "width: got 191, wanted an even number"),
        ({"height": 143}, "height: got 143, wanted an even number"),
        ({"height": 16}, "height: got 16, wanted .* at least 32"),
        ({"seed": -1}, "seed: got -1, wanted 0 or more"),
    ],
)
def test_a_request_that_cannot_be_rendered_says_what_came_and_what_is_wanted(
    change: dict[str, object], message: str
) -> None:
    request: dict[str, object] = {"seed": 0, "action": "bow", "num_frames": 2, "difficulty": DIFFICULTIES["easy"]}
    with pytest.raises(ValueError, match=message):
        render(**{**request, **change})  # type: ignore[arg-type]


def test_a_contact_sheet_has_a_labelled_row_of_eight_frames_per_video() -> None:
    videos = [render(seed=0, action=action, num_frames=3, difficulty=DIFFICULTIES["easy"]) for action in ACTIONS[:2]]
    sheet = contact_sheet(videos)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * (HEIGHT + 14), 8 * WIDTH, 3)


def test_a_mask_s_box_is_half_open_around_the_pixels_covered_by_half() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9, 3:12] = 255
    mask[4, 3:12], mask[9, 3:12] = 127, 128
    assert mask_box(mask) == (3, 5, 12, 10)
