"""What is learnt in which order and how: from nothing, from easy to full, or fine-tuning with the paper's schedule."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

WARM_UP_SHARE = 0.1
FINAL_SHARE = 0.01


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up over a tenth of the steps, then a cosine from `peak` down to a hundredth of it."""

    peak: float

    def at(self, step: int, *, steps: int) -> float:
        warm_up = max(1, int(steps * WARM_UP_SHARE))
        if step < warm_up:
            return self.peak * (step + 1) / warm_up
        progress = (step - warm_up) / max(1, steps - warm_up)
        return self.peak * (FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class Drops:
    """`initial`, times `factor` after every `every_steps` steps: the paper's schedule.

    >>> [Drops(0.001, every_steps=2).at(step, steps=5) for step in range(5)]
    [0.001, 0.001, 0.0001, 0.0001, 1e-05]
    """

    initial: float
    every_steps: int
    factor: float = 0.1

    def at(self, step: int, *, steps: int) -> float:
        # Rounded, because 0.001 * 0.1 is 0.0001 and a bit, which a log and a card would show.
        return float(f"{self.initial * self.factor ** (step // self.every_steps):.12g}")


@dataclass(frozen=True)
class Stage:
    """One stretch of training on one set of clips: `difficulty` of the rendered actions, or a data set's name.

    `size_px` is what the clips are scaled to; `rate` the learning rate over `steps` batches of `batch_clips`, those of
    all processes together.
    """

    difficulty: str
    num_videos: int
    size_px: int
    steps: int
    batch_clips: int
    rate: Cosine | Drops


@dataclass(frozen=True)
class Recipe:
    """Stages and how each step learns.

    `optimizer` is a key of `loop.OPTIMIZERS`; gradients longer than `max_gradient_norm` are shortened to it.
    """

    stages: tuple[Stage, ...]
    optimizer: str = "adamw"
    label_smoothing: float = 0.05
    max_gradient_norm: float | None = 2.0

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


PRESETS: Mapping[str, Recipe] = {
    "full": Recipe(
        (
            Stage("easy", num_videos=1000, size_px=56, steps=400, batch_clips=32, rate=Cosine(3e-3)),
            Stage("medium", num_videos=1500, size_px=56, steps=800, batch_clips=32, rate=Cosine(3e-3)),
            Stage("full", num_videos=5000, size_px=56, steps=2500, batch_clips=32, rate=Cosine(2e-3)),
            Stage("full", num_videos=5000, size_px=112, steps=600, batch_clips=32, rate=Cosine(1e-3)),
        )
    ),
    # Two to five minutes on two cores: shows that the command learns, not how well it can.
    "quick": Recipe(
        (
            Stage("easy", num_videos=250, size_px=48, steps=160, batch_clips=32, rate=Cosine(3e-3)),
            Stage("medium", num_videos=250, size_px=48, steps=90, batch_clips=32, rate=Cosine(2e-3)),
        )
    ),
}

HELD_OUT_DIFFICULTY: Mapping[str, str] = {"full": "full", "quick": "medium"}


@dataclass(frozen=True)
class FineTuning:
    """The paper's schedule: SGD at 0.001, a tenth of it after every 50 epochs. Epochs and batch are our choice."""

    epochs: int = 100
    batch_clips: int = 32
    learning_rate: float = 0.001
    drop_every_epochs: int = 50

    def recipe(self, *, name: str, num_videos: int, num_clips: int, size_px: int) -> Recipe:
        """One stage over `num_clips` clips; an epoch leaves out the clips that fill no batch.

        Raises:
            ValueError: fewer clips than a batch has.
        """
        if num_clips < self.batch_clips:
            raise ValueError(
                f"{name}: got {num_clips} clips to learn from, wanted at least a batch of {self.batch_clips}; "
                "lower --batch"
            )
        epoch_steps = num_clips // self.batch_clips
        stage = Stage(
            name,
            num_videos=num_videos,
            size_px=size_px,
            steps=self.epochs * epoch_steps,
            batch_clips=self.batch_clips,
            rate=Drops(self.learning_rate, every_steps=self.drop_every_epochs * epoch_steps),
        )
        return Recipe((stage,), optimizer="sgd", label_smoothing=0.0, max_gradient_norm=None)
