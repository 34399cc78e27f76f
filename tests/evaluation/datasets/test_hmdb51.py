import pytest

from sum3dcam.evaluation.datasets.frames import read_frames
from sum3dcam.evaluation.datasets.hmdb51 import read_hmdb51
from sum3dcam.video.footage import FrameSpec

SPLITS = "testTrainMulti_7030_splits"
# Names as HMDB51 has them: brackets, exclamation marks, ampersands, semicolons, and one with a blank.
ODD = "Oceans_13_Trailer_(2007)_HD!_#1_[best]&more;_walk_f_nm_np1_fr_med 0"


@pytest.fixture
def directory(tmp_path, write):
    write["text"](
        tmp_path / SPLITS / "walk_test_split1.txt", f"{ODD}.avi 2 \r\nunused.avi 0 \r\n\r\ntrained_1.avi 1 \r\n"
    )
    write["text"](tmp_path / SPLITS / "brush_hair_test_split1.txt", "a.avi 2 \nb.avi 2 \nc.avi 1 \nb.avi 2 \n")
    write["text"](tmp_path / SPLITS / "brush_hair_test_split2.txt", "c.avi 2 \n")
    write["text"](tmp_path / SPLITS / "._walk_test_split1.txt", "\0")
    for name in (f"walk/{ODD}", "brush_hair/a", "brush_hair/b"):
        write["video"](tmp_path / "hmdb51_org" / f"{name}.avi", num_frames=3)
    return tmp_path


def test_the_test_part_is_listed_by_class_and_every_name_leads_to_its_file(directory):
    data = read_hmdb51(directory, split="test1")
    assert data.labels == ("brush_hair", "walk")
    assert [video.key for video in data.videos] == ["brush_hair/a", "brush_hair/b", f"walk/{ODD}"]
    assert [video.label for video in data.videos] == ["brush_hair", "brush_hair", "walk"]
    spec = FrameSpec(24, "squash", None, ("rgb",), None)
    assert all(read_frames(video, spec=spec).num_frames == 3 for video in data.videos)
    assert all(video.read_tubes() == () for video in data.videos)
    assert data.provenance == {"kind": "HMDB51", "split": "test1", "videos_in_set": 3}


def test_the_training_part_and_a_limit(directory):
    assert [video.key for video in read_hmdb51(directory, split="train1").videos] == ["brush_hair/c", "walk/trained_1"]
    assert [video.key for video in read_hmdb51(directory, limit=2).videos] == ["brush_hair/a", "brush_hair/b"]


def test_classes_may_lie_in_the_directory_itself(directory):
    for path in (directory / "hmdb51_org").iterdir():
        path.rename(directory / path.name)
    assert read_hmdb51(directory).videos[0].path == directory / "brush_hair" / "a.avi"


def test_a_class_without_this_split_is_named(directory):
    with pytest.raises(FileNotFoundError, match=r"walk_test_split2\.txt: no such file; unpack the data set's splits"):
        read_hmdb51(directory, split="test2")


def test_a_directory_without_splits_says_where_they_should_be(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"_test_split.*: .*{SPLITS}.*unpack the data set's splits"):
        read_hmdb51(tmp_path)


@pytest.mark.parametrize("line", ["name.avi", "name.avi 3", "2", "name.avi 22"])
def test_a_line_without_a_flag_is_named(directory, line, write):
    write["text"](directory / SPLITS / "walk_test_split1.txt", f"a.avi 1\n{line}\n")
    with pytest.raises(ValueError, match=r"walk_test_split1\.txt, line 2: got .* wanted `name\.avi 0`"):
        read_hmdb51(directory)


def test_an_unknown_split_names_those_there_are(directory):
    with pytest.raises(ValueError, match="got split '1', wanted one of test1, test2, test3, train1"):
        read_hmdb51(directory, split="1")
