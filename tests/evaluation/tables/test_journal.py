"""A run that was killed anywhere, and what a journal refuses."""

import json

import numpy as np
import pytest

from sum3dcam.evaluation.tables.journal import Journal, journal_path, read_counts

HEAD = {"table": 6, "artifact": {"sha256": "0" * 64}}
KEYS = ("a/1", "b/2", "c/3")


def counts_of(key):
    return {"frames": np.asarray(len(key)), "row/sweep": np.arange(6).reshape(2, 3)}


def run(path, *, keys=KEYS, head=HEAD):
    """Appends what is not there yet; gives how many were."""
    with Journal(path, head=head, keys=keys) as journal:
        done = journal.num_done
        for key in keys[done:]:
            journal.append(key, counts_of(key))
    return done


def test_a_run_killed_after_any_byte_ends_as_one_that_was_not(tmp_path):
    run(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    resumed = tmp_path / "resumed"
    for length in range(len(whole) + 1):
        resumed.write_bytes(whole[:length])
        assert run(resumed) == max(0, whole[:length].count(b"\n") - 1)
        assert resumed.read_bytes() == whole


def test_counts_come_back_with_their_shapes(tmp_path):
    run(tmp_path / "journal")
    found = list(read_counts(tmp_path / "journal"))
    assert len(found) == 3
    assert found[2]["frames"].shape == ()
    np.testing.assert_array_equal(found[2]["row/sweep"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("head", "keys", "said"),
    [
        ({"table": 6, "artifact": {"sha256": "1" * 64}}, KEYS, "another run .artifact differ"),
        (HEAD, ("a/1", "x/9", "c/3"), "line 3 .* another video"),
        (HEAD, ("a/1", "b/2"), "line 4 .* another video"),
    ],
)
def test_counts_of_another_run_are_refused_and_kept(tmp_path, head, keys, said):
    path = tmp_path / "journal"
    run(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=said):
        run(path, head=head, keys=keys)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"row,value\n", b'["a"]\n', json.dumps({"box": 1}).encode() + b"\n"])
def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "mine.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"was not written by|another run"):
        run(path)
    assert path.read_bytes() == content


def test_two_runs_do_not_write_one_journal(tmp_path):
    with (
        Journal(tmp_path / "journal", head=HEAD, keys=KEYS),
        pytest.raises(ValueError, match="written by another run"),
    ):
        run(tmp_path / "journal")


def test_another_artefact_has_another_journal(tmp_path):
    one = journal_path(tmp_path, head=HEAD)
    assert one.name.startswith("table6-")
    assert one != journal_path(tmp_path, head={**HEAD, "artifact": {"sha256": "1" * 64}})
