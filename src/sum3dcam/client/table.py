"""A prediction as a table for the terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from sum3dcam.client.prediction import Box, Clip, Label, Prediction

MAX_CLIPS = 20


def prediction_table(name: str, prediction: Prediction) -> Table:
    """One row for the whole video, then one per clip: time, labels with scores, boxes in source pixels."""
    video = prediction.video
    table = Table(title=Text(name), title_justify="left", title_style="bold")
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
    for clip in prediction.clips[:MAX_CLIPS]:
        table.add_row(*_row(clip))
    if len(prediction.clips) > MAX_CLIPS:
        table.add_row("...", "...", f"{len(prediction.clips) - MAX_CLIPS} more clips: see --json", "", "")
    return table


def _row(clip: Clip) -> tuple[Text, ...]:
    explained = "" if clip.explained is None else clip.explained.label
    return (
        Text(_seconds(clip.start_seconds) + " - " + _seconds(clip.end_seconds)),
        Text(f"{clip.start_frame} - {clip.end_frame - 1}"),
        _labels(clip.labels),
        Text(explained),
        Text(_boxes(clip.boxes)),
    )


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
