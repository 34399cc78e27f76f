"""Rendered actions (`sum3dcam.synthetic`): one file of annotations with a tube for everybody who acts."""

from functools import partial
from pathlib import Path

from sum3dcam.evaluation.datasets.labelled import LabelledVideo, LabelledVideos, Tube
from sum3dcam.evaluation.datasets.listing import check_split
from sum3dcam.synthetic.dataset import VideoAnnotation, read_annotations

SPLITS = ("all",)


def read_rendered(directory: Path, *, split: str = SPLITS[0], limit: int | None = None) -> LabelledVideos:
    """The data set in that directory, or its first `limit` videos (the actions come in turn, so these are balanced).

    Raises:
        FileNotFoundError: no annotations.json there.
        ValueError: annotations of another format or version, or another split than "all".
    """
    check_split(split, allowed=SPLITS)
    annotations = read_annotations(directory)
    videos = tuple(
        LabelledVideo(
            path=Path(directory) / video.file,
            label=video.action,
            read_tubes=partial(_tubes, video),
            key=video.file,
            frame_size_px=(video.width, video.height),
            num_frames=video.num_frames,
        )
        for video in annotations.videos[:limit]
    )
    provenance = {
        "kind": "rendered",
        "seed": annotations.seed,
        "difficulty": annotations.difficulty,
        "videos_in_set": len(annotations.videos),
    }
    return LabelledVideos(videos=videos, labels=annotations.labels, provenance=provenance)


def _tubes(video: VideoAnnotation) -> tuple[Tube, ...]:
    return tuple(Tube(tube.action, tube.first_frame, tube.boxes_xyxy_px) for tube in video.tubes)
