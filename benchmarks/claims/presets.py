"""How large the study is: what is trained on what, from what, with which seeds, and what it is measured on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sum3dcam.training.stages import PRESETS as TRAININGS
from sum3dcam.training.stages import Cosine, Recipe, Stage

MINI_WEIGHTS = Path("export/weights/resnext-mini.safetensors")


@dataclass(frozen=True)
class Preset:
    """One size of the study.

    For each seed the plain network learns by the recipe `base`, from `initial` weights (whose gates are left out) or
    from nothing; then it learns by `last` once as it is and once with fresh gates on all taps: same steps, same clips,
    same order. Labels are measured on `test_videos` videos of `test_frames` frames, never trained on and the same for
    all, and maps, which take far longer, on the first `map_videos` of them.
    """

    model: str
    initial: Path | None
    base: Recipe
    last: Recipe
    seeds: tuple[int, ...]
    test_videos: int
    map_videos: int
    test_frames: int
    takes: str
    """What it takes, as measured or, where it has not been run, as estimated."""


def hard(*, num_videos: int, size_px: int, steps: int, batch_clips: int, peak: float) -> Stage:
    return Stage("hard", num_videos, size_px, steps, batch_clips, Cosine(peak))


PRESETS: Mapping[str, Preset] = {
    "short": Preset(
        model="resnext-mini",
        initial=MINI_WEIGHTS,
        base=Recipe((hard(num_videos=320, size_px=112, steps=80, batch_clips=16, peak=1e-3),)),
        last=Recipe((hard(num_videos=320, size_px=112, steps=80, batch_clips=16, peak=1e-3),)),
        seeds=(0, 1, 2),
        test_videos=240,
        map_videos=60,
        test_frames=32,
        takes="under an hour of one core",
    ),
    "full": Preset(
        model="resnext-mini",
        initial=None,
        base=Recipe(
            (
                *TRAININGS["full"].stages[:3],
                hard(num_videos=4000, size_px=112, steps=400, batch_clips=32, peak=1e-3),
            )
        ),
        last=Recipe((hard(num_videos=4000, size_px=112, steps=600, batch_clips=32, peak=1e-3),)),
        seeds=(0, 1, 2),
        test_videos=1000,
        map_videos=300,
        test_frames=48,
        takes="about nine hours of one core (estimated, not run)",
    ),
    "gpu": Preset(
        model="resnext101",
        initial=None,
        base=Recipe(
            (
                Stage("easy", num_videos=2000, size_px=112, steps=1500, batch_clips=64, rate=Cosine(1e-3)),
                Stage("full", num_videos=10000, size_px=112, steps=6000, batch_clips=64, rate=Cosine(1e-3)),
                hard(num_videos=20000, size_px=112, steps=6000, batch_clips=64, peak=1e-3),
            )
        ),
        last=Recipe((hard(num_videos=20000, size_px=112, steps=6000, batch_clips=64, peak=5e-4),)),
        seeds=(0, 1, 2, 3, 4),
        test_videos=2000,
        map_videos=1000,
        test_frames=48,
        takes="about a day of one GPU and 16 cores (estimated, not run)",
    ),
}
