"""What is learnt in which order: large actors and plain scenes first, at half the resolution."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stretch of training on one set of rendered clips.

    `size_px` is what the clips are scaled to, `peak_lr` the top of a cosine with warm-up over `steps` batches.
    """

    difficulty: str
    num_videos: int
    size_px: int
    steps: int
    batch_clips: int
    peak_lr: float


PRESETS: Mapping[str, tuple[Stage, ...]] = {
    "full": (
        Stage("easy", num_videos=1000, size_px=56, steps=400, batch_clips=32, peak_lr=3e-3),
        Stage("medium", num_videos=1500, size_px=56, steps=800, batch_clips=32, peak_lr=3e-3),
        Stage("full", num_videos=5000, size_px=56, steps=2500, batch_clips=32, peak_lr=2e-3),
        Stage("full", num_videos=5000, size_px=112, steps=600, batch_clips=32, peak_lr=1e-3),
    ),
    # Two to five minutes on two cores: shows that the command learns, not how well it can.
    "quick": (
        Stage("easy", num_videos=250, size_px=48, steps=160, batch_clips=32, peak_lr=3e-3),
        Stage("medium", num_videos=250, size_px=48, steps=90, batch_clips=32, peak_lr=2e-3),
    ),
}

HELD_OUT_DIFFICULTY: Mapping[str, str] = {"full": "full", "quick": "medium"}
