import pytest

from sum3dcam.evaluation.datasets.frames import read_frames
from sum3dcam.evaluation.datasets.labelled import Segment
from sum3dcam.evaluation.datasets.thumos import read_multithumos, read_thumos14
from sum3dcam.video.footage import FrameSpec


@pytest.fixture
def thumos14(tmp_path, write):
    folder = tmp_path / "TH14_Temporal_annotations_validation" / "annotation"
    # As published: two blanks behind the name, one or two digits, the same span twice, one that ends before it begins.
    write["text"](
        folder / "CliffDiving_val.txt",
        "video_validation_0000266  72.8 76.4 \r\nvideo_validation_0000266  72.8 76.4\r\n",
    )
    write["text"](
        folder / "Diving_val.txt",
        "video_validation_0000266 72.8 76.4\nvideo_validation_0000266 80 80.5\nvideo_validation_0000361 5.0 4.0\n",
    )
    write["text"](folder / "Ambiguous_val.txt", "video_validation_0000999  1.0 2.0\n")
    write["video"](tmp_path / "validation" / "video_validation_0000266.mp4", num_frames=4)
    return tmp_path


def test_segments_of_all_classes_come_in_time_and_the_longest_class_is_the_label(thumos14):
    data = read_thumos14(thumos14, split="val")
    assert data.labels == ("CliffDiving", "Diving")
    (video,) = data.videos  # neither the ambiguous one nor the one without duration
    assert (video.key, video.label) == ("video_validation_0000266", "Diving")
    assert video.segments == (
        Segment("CliffDiving", 72.8, 76.4),
        Segment("Diving", 72.8, 76.4),
        Segment("Diving", 80.0, 80.5),
    )
    assert video.read_tubes() == ()
    assert data.provenance["spans_without_duration"] == 1
    assert read_frames(video, spec=FrameSpec(24, "squash", None, ("rgb",), None)).num_source_frames == 4


def test_a_class_of_the_class_list_without_a_file_is_named(thumos14, write):
    (folder,) = thumos14.glob("*/annotation")
    write["text"](folder / "detclasslist.txt", "7 BaseballPitch\n21 CliffDiving\n26 Diving\n")
    with pytest.raises(FileNotFoundError, match=r"BaseballPitch_val\.txt: no such file; unpack THUMOS14's temporal"):
        read_thumos14(thumos14, split="val")


def test_missing_annotations_name_the_file(thumos14):
    with pytest.raises(FileNotFoundError, match=r"no \*_test\.txt in it or up to three folders below; unpack THUMOS14"):
        read_thumos14(thumos14, split="test")


@pytest.mark.parametrize(
    "line", ["video_validation_0000266 72.8", "72.8 76.4", "video_validation_1 1.2.3 4.0", "a b c"]
)
def test_a_line_that_is_no_span_is_named(thumos14, write, line):
    (folder,) = thumos14.glob("*/annotation")
    write["text"](folder / "Diving_val.txt", f"\n{line}\n")
    with pytest.raises(ValueError, match=r"Diving_val\.txt, line 2: got .*, in seconds"):
        read_thumos14(thumos14, split="val")


@pytest.fixture
def multithumos(tmp_path, write):
    root = tmp_path / "multithumos"
    write["text"](root / "class_list.txt", "1 CricketShot\n2 Stand\n3 BodyTurn\n")
    write["text"](
        root / "annotations" / "CricketShot.txt", "video_test_0000004 1.0 1.5\nvideo_validation_0000681 0.2 5\n"
    )
    write["text"](
        root / "annotations" / "Stand.txt", "  video_test_0000004 0.03 1.10  \n\n video_test_0000006 3.00 4.00\n"
    )
    write["text"](root / "annotations" / "BodyTurn.txt", "")
    return tmp_path


def test_parts_are_told_by_the_videos_names_and_labels_come_in_the_lists_order(multithumos):
    test = read_multithumos(multithumos, split="test")
    assert test.labels == ("CricketShot", "Stand", "BodyTurn")
    assert [(video.key, video.label) for video in test.videos] == [
        ("video_test_0000004", "Stand"),
        ("video_test_0000006", "Stand"),
    ]
    assert test.videos[0].segments == (Segment("Stand", 0.03, 1.1), Segment("CricketShot", 1.0, 1.5))
    assert [video.key for video in read_multithumos(multithumos, split="val").videos] == ["video_validation_0000681"]
    assert [video.key for video in read_multithumos(multithumos, limit=1).videos] == ["video_test_0000004"]


def test_a_class_without_its_file_is_named(multithumos):
    (multithumos / "multithumos" / "annotations" / "BodyTurn.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"BodyTurn\.txt: no such file; unpack MultiTHUMOS"):
        read_multithumos(multithumos)
