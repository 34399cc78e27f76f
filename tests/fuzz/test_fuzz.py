"""A slice of the fuzz campaign; benchmarks/results/fuzz.json has the whole."""

from tests.fuzz.campaign import OK, run


def test_mutated_files_are_answered_each_with_a_code_of_its_own() -> None:
    report = run(num_inputs=440, seed=1, processes=2)
    assert report["wrong"] == []
    assert sum(report["codes"].values()) == 440
    # Not everything is refused at the door: some decode, some break behind the header.
    assert report["codes"][OK] > 40
    assert report["codes"]["unreadable_media"] > 100
