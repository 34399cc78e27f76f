"""Counts one video for a table of maps: what its labels, maps and the trivial boxes got right, by the paper's protocol.

As the paper does, a frame whose truth lies outside the network's square counts, as a miss. Frames that the data set
does not annotate, and those repeated to fill the last clip, do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sum3dcam.attribution.maps import METHODS, build_maps
from sum3dcam.contract import EXPLAIN_GRAPH, EXPLAINED, LOGITS, Card, grid_name
from sum3dcam.errors import ArtifactError
from sum3dcam.evaluation.datasets.labelled import LabelledVideo
from sum3dcam.evaluation.kinds import MapKind
from sum3dcam.evaluation.metrics import centred_boxes
from sum3dcam.evaluation.prepare import true_boxes, truth_in_map
from sum3dcam.evaluation.protocol import Float64s, MapTally, fixed_box_counts
from sum3dcam.evaluation.study import TARGETS
from sum3dcam.evaluation.tables.accuracy import label_counts
from sum3dcam.evaluation.tables.journal import Counts
from sum3dcam.evaluation.tables.specs import LocalisationTable
from sum3dcam.serving.engines import Engine
from sum3dcam.video.footage import Video
from sum3dcam.video.geometry import PREPROCESSING, Geometry
from sum3dcam.video.sample import cut_clips

Truth = Sequence[Float64s | None]  # each frame's true boxes (N,4), None where it is not annotated

UNCROPPED = "Full frame, uncropped"
# Sides of a centred box, as shares of the square that the network sees.
TRIVIAL_SIDES: Mapping[str, float] = {"Full frame": 1.0, "Centre box 0.7": 0.7}


@dataclass(frozen=True)
class Protocol:
    """What of the paper's protocol may be chosen: the class explained (a key of `study.TARGETS`), how grids are
    interpolated (one of `contract.COORDINATES`), the thresholds t of the sweep, clips per run."""

    target: str = "true"
    coordinates: str = "half-pixel"
    thresholds: tuple[float, ...] = tuple(step / 50 for step in range(50))
    batch_clips: int = 4


# Explained is the class that the network takes it for; eq. 3-5 interpolate between corner points.
AUTHORS = Protocol(target="top", coordinates="corners")


def possible_rows(table: LocalisationTable, *, card: Card) -> tuple[MapKind, ...]:
    """The rows whose taps the artefact has.

    Raises:
        ArtifactError: no explain graph, or none of the rows.
    """
    if card.graph != EXPLAIN_GRAPH:
        raise ArtifactError("this table needs the explain graph", got=card.graph, allowed=EXPLAIN_GRAPH)
    rows = tuple(row for row in table.rows if set(row.taps) <= set(card.tap_names))
    if not rows:
        raise ArtifactError(
            "the artefact has the taps of none of the table's rows; export it with all taps",
            got=list(card.tap_names),
            allowed=sorted({tap for row in table.rows for tap in row.taps}),
        )
    return rows


def count_localisation(
    engine: Engine,
    video: LabelledVideo,
    *,
    decoded: Video,
    label_index: int,
    table: LocalisationTable,
    protocol: Protocol,
) -> Counts:
    """The counts of one video; {row}/{count} for those of a map or a trivial box.

    Raises:
        ArtifactError: as `possible_rows`.
    """
    card = engine.card
    rows = possible_rows(table, card=card)
    clips_NTHWC, _ = cut_clips(decoded.frames_THWC, clip_length=card.num_frames)
    by_frame = _by_frame(video, num_frames=decoded.num_source_frames)
    in_source = [by_frame[frame] for frame in decoded.source_frames]
    in_map = [None if boxes is None else truth_in_map(boxes, geometry=decoded.geometry) for boxes in in_source]
    thresholds = protocol.thresholds if table.thetas else ()
    tallies = {row.name: MapTally(thetas=table.thetas, thresholds=thresholds) for row in rows}
    target = TARGETS[protocol.target](label_index)
    logits = []
    for start in range(0, len(clips_NTHWC), protocol.batch_clips):
        batch = clips_NTHWC[start : start + protocol.batch_clips]
        outputs = engine.run(batch, target_B=np.full(len(batch), target, np.int64), outputs=_outputs(rows))
        logits.append(np.asarray(outputs[LOGITS], np.float64))
        right_B = logits[-1].argmax(axis=1) == label_index
        grids = {name: np.asarray(values, np.float32) for name, values in outputs.items()}
        for row in rows:
            maps_BTHW = build_maps(
                grids,
                taps=row.taps,
                method=row.method,
                num_frames=card.num_frames,
                size_px=card.size_px,
                coordinates=protocol.coordinates,
            ).maps_BTHW
            for item, map_THW in enumerate(maps_BTHW):
                first = (start + item) * card.num_frames
                # The truth ends with the video: frames that only fill the last clip have none.
                for map_HW, truth_N4 in zip(map_THW, in_map[first : first + card.num_frames], strict=False):
                    if truth_N4 is not None:
                        tallies[row.name].add(map_HW, truth_N4=truth_N4, class_right=bool(right_B[item]))
    logits_NK = np.concatenate(logits)
    right_F = np.repeat(logits_NK.argmax(axis=1) == label_index, card.num_frames)[: len(in_map)]
    named = {f"{row}/{name}": count for row, tally in tallies.items() for name, count in tally.counts.items()}
    named |= _trivial(in_map, in_source=in_source, geometry=decoded.geometry, table=table, right=right_F.tolist())
    return {
        **label_counts(logits_NK, label_index=label_index),
        "frames": np.asarray(sum(truth is not None for truth in in_map)),
        **{name: count for name, count in named.items() if name.rpartition("/")[2] in table.counted},
    }


def count_trivial(video: LabelledVideo, *, table: LocalisationTable) -> Counts:
    """The counts of the trivial boxes alone, from annotations: no network, no decoding. The square is cut from the
    source at its own size.

    Raises:
        ValueError: the annotations do not tell the frames' size.
    """
    if video.frame_size_px is None:
        raise ValueError(f"{video.key}: the annotations do not tell the size of its frames; give an artefact")
    width_px, height_px = video.frame_size_px
    geometry = PREPROCESSING[table.preprocessing](width_px, height_px, size_px=min(width_px, height_px))
    ends = (tube.first_frame + len(tube.boxes_xyxy_px) for tube in video.read_tubes())
    in_source = _by_frame(video, num_frames=video.num_frames or max(ends, default=0))
    in_map = [None if boxes is None else truth_in_map(boxes, geometry=geometry) for boxes in in_source]
    named = _trivial(in_map, in_source=in_source, geometry=geometry, table=table, right=None)
    frames = np.asarray(sum(truth is not None for truth in in_map))
    return {
        "videos": np.asarray(1),
        "frames": frames,
        **{name: count for name, count in named.items() if name.rpartition("/")[2] in table.counted},
    }


def _by_frame(video: LabelledVideo, *, num_frames: int) -> Truth:
    """In source pixels."""
    every = true_boxes(video, num_frames=num_frames)
    return [boxes.astype(np.float64) if len(boxes) else None for boxes in every]


def _outputs(rows: Sequence[MapKind]) -> tuple[str, ...]:
    grids = {grid_name(grid, tap) for row in rows for tap in row.taps for grid in METHODS[row.method].grids}
    return (LOGITS, EXPLAINED, *sorted(grids))


def trivial_rows(preprocessing: str) -> tuple[str, ...]:
    """The names of the trivial boxes; where nothing is cut off there is no uncropped one."""
    return (*TRIVIAL_SIDES, *((UNCROPPED,) if preprocessing != "squash" else ()))


def _trivial(
    in_map: Truth, *, in_source: Truth, geometry: Geometry, table: LocalisationTable, right: Sequence[bool] | None
) -> dict[str, npt.NDArray[np.int64]]:
    size = geometry.size_px
    counted = {}
    for name, side in TRIVIAL_SIDES.items():
        (box,) = centred_boxes([side], width_px=size, height_px=size)
        counted[name] = fixed_box_counts(box, truth=in_map, thetas=table.thetas, right=right)
    whole = (0, 0, geometry.source_width_px, geometry.source_height_px)
    counted[UNCROPPED] = fixed_box_counts(whole, truth=in_source, thetas=table.thetas, right=right)
    return {f"{name}/{count}": values for name, counts in counted.items() for count, values in counts.items()}
