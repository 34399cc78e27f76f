import pytest

from sum3dcam.evaluation.datasets.listing import find_folder, find_video_folder, read_lines, spread


def test_lines_lose_blanks_carriage_returns_and_byte_order_mark(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfone 1 \r\n\r\n \t\ntwo\x0b2")
    # A vertical tab is no end of a line.
    assert list(read_lines(path, advice="")) == [(1, "one 1"), (4, "two\x0b2")]


def test_a_missing_list_says_which_and_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"list\.txt: no such file; unpack it"):
        list(read_lines(tmp_path / "list.txt", advice="unpack it"))


def test_a_list_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"list\.txt: no UTF-8 text"):
        list(read_lines(tmp_path / "list.txt", advice=""))


def test_the_first_folder_that_holds_it_is_found(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "file.txt").touch()
    assert find_folder(tmp_path, ("a", "b"), holding="*.txt", advice="") == tmp_path / "b"
    assert find_video_folder(tmp_path, ("a", "b"), holding="*.avi") == tmp_path / "a"
    with pytest.raises(FileNotFoundError, match=r"none of these holds \*\.avi: .*/a, .*/c; unpack"):
        find_folder(tmp_path, ("a", "c"), holding="*.avi", advice="unpack")


@pytest.mark.parametrize(("limit", "taken"), [(None, "aabbcc"), (9, "aabbcc"), (3, "abc"), (1, "a"), (4, "aabc")])
def test_a_limit_spreads_over_the_whole_list(limit, taken):
    assert "".join(spread("aabbcc", limit=limit)) == taken
