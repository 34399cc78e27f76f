"""Label lists: every data set's own file gives the order of the head's outputs, and a damaged one says where."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sum3dcam.errors import CheckpointError
from sum3dcam.models.checkpoints import labels as labels_module
from sum3dcam.models.checkpoints.labels import read_labels

KINETICS_CSV = (
    "label,youtube_id,time_start,time_end,split,is_cc\n"
    "zumba,---QUuC4vJs,84,94,train,0\n"
    '"air drumming",_dbcJuKJQNs,40,50,train,0\n'
    "abseiling,-3B32lodo2M,59,69,train,0\n"
    "zumba,--GkrdYZ9Tc,0,10,train,1\n"
)
SYNSETS = (
    "n03710721 maillot, tank suit\n"
    "n01440764 tench, Tinca tinca\n"
    "n03126707 crane\n"
    "n02012849 crane\n"
    "n03710637 maillot\n"
    "n02963159 cardigan\n"
    "n02113186 Cardigan, Cardigan Welsh corgi\n"
)


def read(tmp_path: Path, content: str | bytes) -> tuple[str, ...]:
    """Through a name that tells nothing."""
    path = tmp_path / "list"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_labels(path)


def refusal(tmp_path: Path, content: str | bytes) -> str:
    """What the refusal says; short, whatever the file holds."""
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, content)
    assert len(str(caught.value)) < 600
    json.dumps(caught.value.to_json()).encode()
    return str(caught.value)


def split_folder(path: Path, classes: Sequence[str]) -> Path:
    path.mkdir()
    for name in classes:
        for split in (1, 2, 3):
            (path / f"{name}_test_split{split}.txt").write_text(f"{name}_april_09_f_nm_np1_ba_goo_0.avi 1 \n")
    return path


def kinetics_json(*labels: str) -> dict[str, Any]:
    return {
        f"video{index:06d}": {
            "annotations": {"label": label, "segment": [84.0, 94.0]},
            "duration": 10.0,
            "subset": "train",
            "url": "https://www.youtube.com/watch?v=x",
        }
        for index, label in enumerate(labels)
    }


def test_plain_lines_are_the_labels_in_their_order(tmp_path: Path) -> None:
    assert read(tmp_path, "walk\nrun\nzwei Wörter\n") == ("walk", "run", "zwei Wörter")


@pytest.mark.parametrize(
    "lines",
    [
        ["3 point shot", "dunk", "pass"],
        ["[something] falling like a rock", "Holding [something]"],
        ["{something} spins"],
        ["c4 explosion", "n95 mask", "car"],
        ["tench, Tinca tinca", "crane, bird, train"],
        ["n01440764", "n01443537"],
    ],
)
def test_labels_with_numbers_brackets_and_commas_stay_as_they_are(tmp_path: Path, lines: list[str]) -> None:
    assert read(tmp_path, "\n".join(lines)) == tuple(lines)


FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain": ("walk\nrun\n", ("walk", "run")),
    "UCF101": (
        "2 ApplyLipstick\n1 ApplyEyeMakeup\n10 Biking\n" + "".join(f"{n} Class{n}\n" for n in range(3, 10)),
        ("ApplyEyeMakeup", "ApplyLipstick", *(f"Class{n}" for n in range(3, 10)), "Biking"),
    ),
    "Charades": (
        "c001 Putting clothes somewhere\nc000 Holding some clothes\nc002 Taking clothes from somewhere\n",
        ("Holding some clothes", "Putting clothes somewhere", "Taking clothes from somewhere"),
    ),
    "Kinetics CSV": (KINETICS_CSV, ("abseiling", "air drumming", "zumba")),
    "Kinetics CSV without is_cc": (
        re.sub(",is_cc|,[01]$", "", KINETICS_CSV, flags=re.MULTILINE),
        ("abseiling", "air drumming", "zumba"),
    ),
    "Kinetics JSON": (json.dumps(kinetics_json("zumba", "abseiling", "zumba")), ("abseiling", "zumba")),
    "release JSON": (
        json.dumps({"labels": ["zumba", "abseiling"], "database": {"x_000084_000094": {"subset": "training"}}}),
        ("zumba", "abseiling"),
    ),
    "synsets": (
        SYNSETS,
        ("tench", "crane (n02012849)", "Cardigan", "cardigan", "crane (n03126707)", "maillot", "maillot, tank suit"),
    ),
    "devkit": (
        "n02119789 1 kit_fox\nn02012849 429 crane\nn03126707 517 crane\nn01440764 449 tench\n",
        ("tench", "crane (n02012849)", "kit_fox", "crane (n03126707)"),
    ),
    "class index": (
        json.dumps(
            {"1": ["n02012849", "crane"], "0": ["n01443537", "great_white"], "2": ["n03126707", "crane"]}, indent=1
        ),
        ("great_white", "crane (n02012849)", "crane (n03126707)"),
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_list_reads_in_the_order_of_the_heads_outputs(tmp_path: Path, name: str) -> None:
    content, labels = FORMATS[name]
    assert read(tmp_path, content) == labels


@pytest.mark.parametrize("name", FORMATS)
def test_byte_order_mark_line_ends_and_trailing_blanks_change_nothing(tmp_path: Path, name: str) -> None:
    content, labels = FORMATS[name]
    for line_end in ("\r\n", "\r"):
        assert read(tmp_path, "\ufeff" + content.replace("\n", f" {line_end}") + f"{line_end}  {line_end}") == labels


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "plain"])
def test_leading_blank_lines_hide_no_format(tmp_path: Path, name: str) -> None:
    content, labels = FORMATS[name]
    assert read(tmp_path, f"\n\n{content}") == labels


def test_a_folder_of_hmdb51_splits_gives_its_sorted_classes(tmp_path: Path) -> None:
    folder = split_folder(tmp_path / "testTrainMulti_7030_splits", ["wave", "brush_hair", "catch"])
    (folder / "._wave_test_split1.txt").write_bytes(b"\0\0")  # as macOS leaves behind
    (folder / "README").write_text("")
    assert read_labels(folder) == ("brush_hair", "catch", "wave")


def test_a_missing_hmdb51_split_is_named(tmp_path: Path) -> None:
    folder = split_folder(tmp_path / "splits", ["catch", "brush_hair"])
    (folder / "catch_test_split2.txt").unlink()
    with pytest.raises(CheckpointError, match=r"catch_test_split2\.txt"):
        read_labels(folder)


def test_a_folder_without_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="HMDB51"):
        read_labels(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("1 A\n2 B\nC\n4 D\n", ["line 3", "'C'", "1 ApplyEyeMakeup"]),
        ("A\n2 B\n3 C\n", ["line 1", "1 ApplyEyeMakeup"]),
        ("1 A\n2 B\n\n2 C\n", ["line 4", "repeats"]),
        ("1 A\n02 B\n2 C\n", ["line 3", "repeats"]),
        ("1 A\n2 B\n4 D\n", ["number 3", "'4'"]),
        ("0 A\n1 B\n", ["number 2", "'0'"]),
        ("1 A\n2 A\n", ["different labels", "'A'"]),
        ("c000 A\nc001 B\nc03 C\nd\n", ["line 4", "c000 Holding some clothes"]),
        ("c001 A\nc002 B\n", ["number 0", "'2'"]),
        ("n01440764 tench\nn0144353 goldfish\nn01484850 shark, jaws\n", ["line 2", "Tinca tinca"]),
        ("n01440764 tench\nn01440764 goldfish\n", ["line 2", "repeats"]),
        ("n02119789 1 kit_fox\nn02100735 2 English_setter\nn02110185 husky\n", ["line 3", "n02119789 1 kit_fox"]),
        (KINETICS_CSV.split("\n", 1)[1], ["line 1", "header", "label,youtube_id"]),
        ("youtube_id,time_start,time_end,split\n---QUuC4vJs,84,94,test\n", ["line 1", "`label`", "training"]),
        (KINETICS_CSV + "\nzumba,--GkrdYZ9Tc,0,10\n", ["line 7", "columns"]),
        (KINETICS_CSV + ",--GkrdYZ9Tc,0,10,train,1\n", ["line 6", "label"]),
        (KINETICS_CSV + '"zumba"x,--GkrdYZ9Tc,0,10,train,1\n', ["line 6", "damaged"]),
        (KINETICS_CSV + '"zumba,--GkrdYZ9Tc,0,10,train,1\n', ["line 6", "damaged"]),
    ],
)
def test_a_damaged_list_says_which_line(tmp_path: Path, content: str, words: list[str]) -> None:
    message = refusal(tmp_path, content)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({}, ["no list of labels"]),
        (["walk", "run"], ["no list of labels", "one label per line"]),
        ({"walk": 0, "run": 1}, ["no list of labels"]),
        ({"labels": []}, ["empty"]),
        ({"labels": ["a", 1]}, ["`labels`", "1"]),
        ({"labels": {"a": 0}, "database": {}}, ["`labels`"]),
        ({"version": "1.3", "taxonomy": [], "database": {}}, ["`labels`", "None"]),
        ({"labels": ["a", "b", "a"], "database": {}}, ["different labels", "'a'"]),
        ({"0": ["n01440764", "tench"], "2": ["n01443537", "goldfish"]}, ["number 1", "'2'"]),
        ({"0": ["n01440764", "tench"], "1": ["n01443537"]}, ["class 1", "tench"]),
        ({"0": ["n01440764", "tench"], "1": "goldfish"}, ["class 1", "tench"]),
        ({"0": ["n02012849", "crane"], "1": ["n02012849", "crane"]}, ["different labels", "crane (n02012849)"]),
        (kinetics_json("zumba") | {"--GkrdYZ9Tc": {"subset": "test"}}, ["--GkrdYZ9Tc", "training"]),
        (kinetics_json("zumba") | {"--GkrdYZ9Tc": {"annotations": [{"label": "x"}]}}, ["--GkrdYZ9Tc"]),
        (kinetics_json("zumba") | {"--GkrdYZ9Tc": None}, ["--GkrdYZ9Tc"]),
    ],
)
def test_json_that_lacks_its_labels_says_what_is_missing(tmp_path: Path, tree: Any, words: list[str]) -> None:
    for indent in (None, 2):
        message = refusal(tmp_path, json.dumps(tree, indent=indent))
        assert all(word in message for word in words), message


def test_cut_off_json_says_where(tmp_path: Path) -> None:
    assert "line 2 column" in refusal(tmp_path, '{"labels":\n["walk", "ru')


@pytest.mark.parametrize("opening", ['{"a":', "[", '{"a":['])
def test_deeply_nested_json_is_refused(tmp_path: Path, opening: str) -> None:
    assert "too deep" in refusal(tmp_path, opening * 200_000)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b" \r\n\t\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"walk\n\nrun\n", "line 2"),
        (b"\nwalk\n", "line 1"),
        (b"walk\nrun\nwalk \n", "'walk'"),
        (b"\x80\x02}q\x00", "UTF-8"),
        ("walk\nrun\n".encode("utf-16"), "UTF-8"),
        ("Stra\u00dfe\n".encode("latin-1"), "UTF-8"),
        ("walk\nrun\n".encode("utf-16-le"), "control characters"),
        (b"PK\x03\x04\x00\x00", "control characters"),
        (b"\x1b[31mwalk", "control characters"),
        (b'{"labels": ["\\ud800"]}', "control characters"),
        (b'{"labels": ["walk", " "]}', "empty"),
        (b'{"labels": ' + b"9" * 5000 + b"}", "JSON"),
    ],
)
def test_what_is_no_list_of_different_texts_is_refused(tmp_path: Path, content: bytes, word: str) -> None:
    assert word in refusal(tmp_path, content)


@pytest.mark.parametrize(
    "line", ["0" * 10**6, "1 " + "x" * 10**6, "," * 10**6, " 1" * 10**6, "n00000000 " + "1" * 10**6]
)
def test_a_line_of_a_million_characters_costs_no_more_than_reading_it(tmp_path: Path, line: str) -> None:
    """Twice the line, so that it is refused as repeated; a quadratic search would run into the test's time limit."""
    refusal(tmp_path, f"{line}\n{line}\n")


def test_too_large_a_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_module, "MAX_BYTES", 8)
    assert read(tmp_path, "walk\nru\n") == ("walk", "ru")
    assert "at most 8 bytes" in refusal(tmp_path, "walk\nrun\n")
    with pytest.raises(CheckpointError, match="too large"):
        read_labels(Path("/dev/zero"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be read.*absent"):
        read_labels(tmp_path / "absent")
