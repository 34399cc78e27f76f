"""A prediction as a table for the terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from sum3dcam.client.prediction import Box, Clip, Explanation, Label, Prediction, Tube

MAX_CLIPS = 20
MAX_TUBES = 5


def prediction_table(prediction: Prediction) -> Table:
    """One row for the whole video, one per tube, one per clip and class explained: time, labels with scores, boxes in
    source pixels."""
    video = prediction.video
    table = Table()
    for heading in ("seconds", "frames", "labels", "explained", "boxes x1,y1,x2,y2"):
        table.add_column(heading)
    size = f"{video.width_px}x{video.height_px} px"
    table.add_row(
        _seconds(video.duration_seconds),
        f"all {video.num_frames}",
        _labels(video.labels),
        "",
        size,
        end_section=True,
        style="bold",
    )
    _add_tubes(table, video.tubes)
    for clip in prediction.clips[:MAX_CLIPS]:
        _add_clip(table, clip)
    if len(prediction.clips) > MAX_CLIPS:
        table.add_row("...", "...", f"{len(prediction.clips) - MAX_CLIPS} more clips: see --json", "", "")
    return table


def _add_tubes(table: Table, tubes: Sequence[Tube]) -> None:
    for number, tube in enumerate(tubes[:MAX_TUBES], start=1):
        boxes = f"score {tube.score:.2f}, boxes: {len(tube.boxes)}"
        table.add_row(*_span(tube), Text(f"tube {number}"), Text(tube.explained.label), Text(boxes))
    if len(tubes) > MAX_TUBES:
        table.add_row("...", "...", f"{len(tubes) - MAX_TUBES} more tubes: see --json", "", "")
    table.add_section()


def _add_clip(table: Table, clip: Clip) -> None:
    """A row for each class explained, the first beside the clip's labels; one row where nothing was."""
    table.add_row(*_span(clip), _labels(clip.labels), *_explanation(next(iter(clip.explanations), None)))
    for explanation in clip.explanations[1:]:
        table.add_row("", "", "", *_explanation(explanation))


def _explanation(explanation: Explanation | None) -> tuple[Text, Text]:
    if explanation is None:
        return Text(), Text()
    return Text(explanation.label), Text(_boxes(explanation.boxes))


def _span(of: Clip | Tube) -> tuple[Text, Text]:
    seconds = f"{_seconds(of.start_seconds)} - {_seconds(of.end_seconds)}"
    return Text(seconds), Text(f"{of.start_frame} - {of.end_frame - 1}")


def _seconds(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.2f}"


def _labels(labels: Sequence[Label]) -> Text:
    return Text("\n".join(f"{label.score:6.1%} {label.label}" for label in labels))


def _boxes(boxes: Sequence[Box]) -> str:
    """How many, and the one that scored best."""
    if not boxes:
        return ""
    best = max(boxes, key=lambda box: box.score)
    corners = ",".join(f"{value:.0f}" for value in best.box_xyxy_px)
    return f"{corners}\nframe {best.frame}, score {best.score:.2f}\nbest of {len(boxes)}"
