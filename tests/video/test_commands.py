"""`sum3dcam flow` from the outside: what it writes, leaves alone, reports and exits with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sum3dcam.__main__ import main
from sum3dcam.video.decode import DecodeLimits, decode

Make = Callable[..., bytes]
I3D = "shorter-side-256-crop-224"


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["flow", "--size", "32", *(str(argument) for argument in arguments)])


@pytest.fixture
def videos(video: Make, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "one.mp4", tmp_path / "two.mkv"]
    paths[0].write_bytes(video(num_frames=4))
    paths[1].write_bytes(video("matroska", num_frames=8, rate=50))
    return paths


@pytest.mark.parametrize(("flags", "streams"), [((), ("flow",)), (("--rgb",), ("rgb", "flow"))])
def test_what_is_written_is_what_the_server_would_make_and_is_taken_as_it_is(
    flags: tuple[str, ...], streams: tuple[str, ...], videos: list[Path], tmp_path: Path
) -> None:
    result = _run(*videos, "--output", tmp_path / "out", *flags)
    assert result.exit_code == 0, result.output
    for source in videos:
        written = tmp_path / "out" / f"{source.stem}.npy"
        made, sent = (
            decode(
                file.read_bytes(),
                size_px=32,
                limits=DecodeLimits(),
                preprocessing=I3D,
                streams=streams,
                frames_per_second=25.0,
            ).frames_THWC
            for file in (source, written)
        )
        assert len(made) == 4  # two.mkv has 50 frames a second, of which every other one is taken
        np.testing.assert_array_equal(np.load(written), made)
        np.testing.assert_array_equal(sent, made)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.npy", "two.npy"]


def test_size_rate_and_preprocessing_are_the_models(videos: list[Path], tmp_path: Path) -> None:
    options = ("--rgb", "--size", 16, "--preprocessing", "squash", "--frames-per-second", 0)
    result = _run(videos[1], "--output", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    written = np.load(tmp_path / "out" / "two.npy")
    assert (written.shape, written.dtype) == ((8, 16, 16, 5), np.uint8)
    squashed = decode(videos[1].read_bytes(), size_px=16, limits=DecodeLimits(), preprocessing="squash").frames_THWC
    np.testing.assert_array_equal(written[..., :3], squashed)


def test_what_exists_is_left_alone_and_the_rest_goes_on(videos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert _run(videos[0], "--output", out).exit_code == 0
    before = (out / "one.npy").stat().st_mtime_ns
    assert _run(*videos, "--output", out).exit_code == 0
    assert (out / "one.npy").stat().st_mtime_ns == before
    assert (out / "two.npy").exists()


def test_a_file_of_another_recipe_is_not_taken_for_this_ones(videos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert _run(videos[0], "--output", out).exit_code == 0
    (out / "two.npy").write_bytes(b"half a file")
    result = _run(*videos, "--output", out, "--rgb")
    assert result.exit_code == 1
    assert "one.npy exists and is not what would be written" in result.stderr
    assert "allowed: (T, 32, 32, 5)" in result.stderr
    assert "two.npy exists" in result.stderr
    assert (out / "two.npy").read_bytes() == b"half a file"


def test_a_bad_file_is_reported_and_the_rest_goes_on(videos: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video at all " * 20)
    result = _run(bad, tmp_path / "gone.mp4", videos[0], "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "bad.mp4: the bytes are no video" in result.stderr
    assert "gone.mp4" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one.npy"]


def test_a_write_that_breaks_off_leaves_nothing_behind(
    videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(file: object, array: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sum3dcam.video.commands.np.save", broken)
    result = _run(videos[0], "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "No space left" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_names_that_would_meet_are_refused_before_anything_is_computed(videos: list[Path], tmp_path: Path) -> None:
    same = tmp_path / "one.avi"
    same.write_bytes(b"")
    result = _run(videos[0], same, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "several videos of the same name" in " ".join(result.stderr.split())
    array = tmp_path / "three.npy"
    np.save(array, np.zeros((2, 32, 32, 3), np.uint8))
    result = _run(array, "--output", tmp_path)
    assert result.exit_code == 2
    assert np.load(array).shape == (2, 32, 32, 3)
