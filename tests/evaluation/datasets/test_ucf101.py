import pytest

from sum3dcam.evaluation.datasets.ucf101 import read_ucf101


@pytest.fixture
def directory(tmp_path, write):
    lists = tmp_path / "ucfTrainTestlist"
    # In the archive's own way: CRLF, a blank at the end, an order of the numbers that is not the names'.
    write["text"](lists / "classInd.txt", "1 YoYo\r\n2 ApplyEyeMakeup \r\n")
    write["text"](
        lists / "testlist01.txt",
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\nYoYo/v_YoYo_g01_c01.avi\r\nYoYo/v_YoYo_g01_c01.avi\r\n",
    )
    write["text"](lists / "trainlist01.txt", "YoYo/v_YoYo_g08_c01.avi 1\n")
    (tmp_path / "UCF-101" / "YoYo").mkdir(parents=True)
    return tmp_path


def test_videos_come_in_the_lists_order_and_labels_in_classinds(directory):
    data = read_ucf101(directory)
    assert data.labels == ("YoYo", "ApplyEyeMakeup")
    assert [video.key for video in data.videos] == ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01", "YoYo/v_YoYo_g01_c01"]
    assert data.videos[1].path == directory / "UCF-101" / "YoYo" / "v_YoYo_g01_c01.avi"
    assert data.provenance["videos_in_set"] == 2


def test_the_training_lists_class_number_is_no_part_of_the_name(directory):
    (video,) = read_ucf101(directory, split="train1").videos
    assert (video.key, video.label) == ("YoYo/v_YoYo_g08_c01", "YoYo")


def test_a_missing_list_is_named(directory):
    with pytest.raises(FileNotFoundError, match=r"none of these holds testlist02\.txt: .*; unpack UCF101's lists"):
        read_ucf101(directory, split="test2")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1 YoYo\n1 Archery\n", "line 2: got '1 Archery'"),
        ("1 YoYo\n3 Archery\n", r"got classes \[1, 3\]"),
        ("YoYo\n", "line 1: got 'YoYo'"),
        ("\n", r"got classes \[\]"),
        ("1 YoYo\n", "no class ApplyEyeMakeup, which the list of test1 names"),
    ],
)
def test_a_damaged_class_list_is_named(directory, write, lines, message):
    write["text"](directory / "ucfTrainTestlist" / "classInd.txt", lines)
    with pytest.raises(ValueError, match=rf"classInd\.txt.*{message}"):
        read_ucf101(directory)


def test_a_line_without_a_class_is_named(directory, write):
    write["text"](directory / "ucfTrainTestlist" / "testlist01.txt", "v_YoYo_g01_c01.avi\n")
    with pytest.raises(ValueError, match=r"testlist01\.txt, line 1: got 'v_YoYo_g01_c01\.avi'"):
        read_ucf101(directory)
