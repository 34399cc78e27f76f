import pytest

from sum3dcam.evaluation.datasets import READERS, SPLITS


def test_every_reader_has_its_splits_and_refuses_others(tmp_path):
    assert READERS.keys() == SPLITS.keys()
    for name, read in READERS.items():
        # Its own splits get past the check and find no files.
        for split in SPLITS[name]:
            with pytest.raises(FileNotFoundError):
                read(tmp_path, split=split)
        with pytest.raises((ValueError, FileNotFoundError)):
            read(tmp_path, split="holiday")
