"""Which rows each of the paper's tables has, over which data set, and what the paper printed.

A figure that is not known is left out, never guessed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from sum3dcam.evaluation.kinds import GRAD_CAM, THREE_D_CAM, MapKind
from sum3dcam.evaluation.protocol import THETAS

Figures: TypeAlias = Mapping[str, float]  # by column

HIT_POINT, ACC2 = "hit point", "hit point Acc2"
MEAN = "mean"
CLIP_ACCURACY, VIDEO_ACCURACY = "clip accuracy", "video accuracy"


@dataclass(frozen=True)
class Column:
    """A column over frames: `count` is a key of `protocol.MapTally.counts` or of `fixed_box_counts`, `theta` the place
    in the table's thetas, None for a count without."""

    name: str
    count: str
    theta: int | None = None


@dataclass(frozen=True)
class ModelRow:
    """A network that a table compares with others, told by its streams and its gated taps."""

    name: str
    streams: tuple[str, ...]
    gates: tuple[str, ...]


@dataclass(frozen=True)
class Reference:
    """A row of the paper that is printed for comparison but not measured."""

    name: str
    paper: Figures


@dataclass(frozen=True)
class LocalisationTable:
    """Maps of one network against boxes. `thetas` may be empty: then only hit points are counted.

    `preprocessing` is a key of `video.geometry.PREPROCESSING`, for the trivial boxes where no network sets one.
    `labels_by_place`: class k of the data set is logit k, whatever either calls it.
    """

    title: str
    dataset: str
    network: str
    rows: tuple[MapKind, ...]
    thetas: tuple[float, ...]
    columns: tuple[Column, ...]
    preprocessing: str = "shorter-side-centre-crop"
    labels_by_place: bool = False
    references: tuple[Reference, ...] = ()
    notes: tuple[str, ...] = ()
    paper: Mapping[str, Figures] = field(default_factory=dict)

    @property
    def datasets(self) -> tuple[str, ...]:
        return (self.dataset,)

    @property
    def counted(self) -> frozenset[str]:
        """The counts that its columns are made of, keys of `protocol.MapTally.counts`."""
        right = [column.count.endswith("_right") for column in self.columns]
        names = ("box", "oracle", "sweep") if self.thetas else ("hit",)
        return frozenset(names) | frozenset(f"{name}_right" for name in names if any(right))


@dataclass(frozen=True)
class AccuracyTable:
    """Networks against each other; the first of `datasets` is taken where none is named."""

    title: str
    datasets: tuple[str, ...]
    network: str
    rows: tuple[ModelRow, ...]
    notes: tuple[str, ...] = ()
    paper: Mapping[str, Figures] = field(default_factory=dict)
    columns: tuple[Column, ...] = (Column(CLIP_ACCURACY, "clips_right"), Column(VIDEO_ACCURACY, "video_right"))


def theta_name(theta: float) -> str:
    """As the paper writes it.

    >>> theta_name(0.05), theta_name(0.3)
    ('.05', '.3')
    """
    return f"{theta:g}".removeprefix("0")


def _three_d_cam(*taps: str, name: str | None = None) -> MapKind:
    return MapKind(
        name or (f"3DCAM {taps[0]}" if len(taps) == 1 else f"Sum3DCAM {_sum(taps)}"), THREE_D_CAM, "sum3dcam", taps
    )


def _sum(taps: tuple[str, ...]) -> str:
    """
    >>> _sum(("conv", "layer1", "layer2"))
    'conv+layer1+2'
    """
    first_layer = next((tap for tap in taps if tap.startswith("layer")), None)
    return "+".join(tap if tap in ("conv", first_layer) else tap.removeprefix("layer") for tap in taps)


def _per_theta(thetas: tuple[float, ...], *, acc2: bool) -> tuple[Column, ...]:
    suffixes = {"": "box"} | ({" Acc2": "box_right"} if acc2 else {})
    return tuple(
        Column(f"{theta_name(theta)}{suffix}", count, index)
        for index, theta in enumerate(thetas)
        for suffix, count in suffixes.items()
    )


TAPS = ("conv", "layer1", "layer2", "layer3", "layer4")
PER_TAP = tuple(_three_d_cam(tap) for tap in TAPS)
ALL_TAPS = _three_d_cam(*TAPS, name="Sum3DCAM all taps")
DEEP = ("layer2", "layer3", "layer4")

UNKNOWN = "The paper's own figures are not recorded here: look them up beside this table."

_JHMDB_BOXES = LocalisationTable(
    title="box accuracy on JHMDB",
    dataset="jhmdb",
    network="resnext101 of HMDB51's classes",
    rows=(
        *PER_TAP,
        _three_d_cam("conv", "layer1"),
        ALL_TAPS,
        MapKind("Sum Grad-CAM all taps", GRAD_CAM, "sum-gradcam", TAPS),
    ),
    thetas=THETAS["jhmdb"],
    columns=_per_theta(THETAS["jhmdb"], acc2=True),
    notes=(
        "Tables 4 and 5 both give box accuracy on JHMDB; both thetas are printed under either number. Table 8 of the "
        "paper repeats Table 5. An Acc2 can never lie above its Acc, as one in the paper does (.052 over .008).",
        UNKNOWN,
    ),
)

TABLES: Mapping[int, LocalisationTable | AccuracyTable] = MappingProxyType(
    {
        3: LocalisationTable(
            title="hit point on JHMDB",
            dataset="jhmdb",
            network="resnext101 of HMDB51's classes",
            rows=(*PER_TAP, ALL_TAPS),
            thetas=(),
            columns=(Column(HIT_POINT, "hit"), Column(ACC2, "hit_right")),
            notes=(
                "A box that fills the frame hits wherever there is a truth: maps compete with that.",
                UNKNOWN,
            ),
        ),
        4: _JHMDB_BOXES,
        5: _JHMDB_BOXES,
        6: LocalisationTable(
            title="box accuracy on UCF101-24",
            dataset="ucf24",
            network="resnext101 of UCF101's classes",
            rows=(
                *PER_TAP,
                _three_d_cam("conv", "layer1"),
                _three_d_cam("conv", "layer1", "layer2", "layer3"),
                MapKind("Sum Grad-CAM all taps", GRAD_CAM, "sum-gradcam", TAPS),
            ),
            thetas=THETAS["ucf24"],
            columns=_per_theta(THETAS["ucf24"], acc2=False),
            references=(
                Reference(
                    "the paper's best Sum3DCAM row",
                    {".05": 0.835, ".1": 0.676, ".2": 0.426, ".3": 0.238, ".4": 0.132, ".5": 0.063, MEAN: 0.395},
                ),
            ),
            notes=(
                "Of the paper's figures only its best Sum3DCAM row is recorded here, not of which taps it is. In the "
                "paper the Sum Grad-CAM row equals that of 3DCAM layer4 digit for digit, and of which taps it is the "
                "sum is not known: here it is of all.",
                "Ground truth is cut off at the network's square; a frame whose truth lies outside counts as a miss.",
            ),
        ),
        7: LocalisationTable(
            title="box accuracy on ILSVRC validation",
            dataset="ilsvrc",
            network="resnet50",
            rows=(
                MapKind("Grad-CAM layer4", GRAD_CAM, "gradcam", ("layer4",)),
                MapKind("Sum Grad-CAM layer2+3+4", GRAD_CAM, "sum-gradcam", DEEP),
                MapKind("Sum 2DCAM layer2+3+4", THREE_D_CAM, "sum3dcam", DEEP),
            ),
            thetas=THETAS["ilsvrc"],
            columns=_per_theta(THETAS["ilsvrc"], acc2=False),
            preprocessing="squash",
            labels_by_place=True,
            paper={"Sum 2DCAM layer2+3+4": {".3": 0.819, ".5": 0.622, ".7": 0.354}},
            notes=("Of the paper's figures only the Sum 2DCAM row is recorded here.",),
        ),
        9: AccuracyTable(
            title="accuracy of ResNeXt-101, plain and gated",
            datasets=("hmdb51", "ucf101"),
            network="resnext101",
            rows=(
                ModelRow("ResNeXt-101", ("rgb",), ()),
                ModelRow("gated conv+layer1+2+3+4", ("rgb",), TAPS),
            ),
            notes=(UNKNOWN,),
        ),
        10: AccuracyTable(
            title="accuracy of I3D, plain and gated",
            datasets=("hmdb51", "ucf101"),
            network="i3d",
            rows=(
                ModelRow("I3D", ("rgb",), ()),
                ModelRow("gated layer3", ("rgb",), ("layer3",)),
                ModelRow("gated layer2", ("rgb",), ("layer2",)),
                ModelRow("gated layer1+2+3", ("rgb",), ("layer1", "layer2", "layer3")),
                ModelRow("gated layer2+3", ("rgb",), ("layer2", "layer3")),
                ModelRow("rgb+flow gated layer3", ("rgb", "flow"), ("rgb_layer3", "flow_layer3")),
            ),
            notes=("In the paper gating layer1+2+3 falls below its baseline.", UNKNOWN),
        ),
    }
)
