"""JHMDB: 21 of HMDB51's classes, cut to the action, with a puppet of the actor in each frame.

    DIR/splits/brush_hair_test_split1.txt                    lines `name.avi 1|2`: training, test
    DIR/Rename_Images/brush_hair/name/00001.png              320x240
    DIR/puppet_mask/brush_hair/name/puppet_mask.mat          part_mask (H,W,T), not 0 on the actor
    DIR/joint_positions/brush_hair/name/joint_positions.mat  pos_img (2,15,T), x and y counted from 1

The true box of a frame is the extent of its mask. Where the mask is empty, it is the extent of the joints within the
frame, which is somewhat smaller: joints lie inside the body. The joints' file is read only then. Frames that the
annotations do not reach (T may be less than the number of images) have no box.
"""

import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from sum3dcam.evaluation.datasets.hmdb51 import read_class_splits
from sum3dcam.evaluation.datasets.labelled import Float32s, LabelledVideo, LabelledVideos, Tube
from sum3dcam.evaluation.datasets.listing import THREE_SPLITS, spread

SPLITS = THREE_SPLITS
FRAME_SIZE_PX = (320, 240)

# What SciPy raises for a damaged file, or for one of MATLAB's version 7.3.
_DAMAGE = (
    MatReadError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, MemoryError, OSError,
    NotImplementedError, zlib.error,
)  # fmt: skip


def read_jhmdb(directory: Path, *, split: str = SPLITS[0], limit: int | None = None) -> LabelledVideos:
    """JHMDB's videos of a split, sorted by class, one actor in each; masks are read when tubes are asked for.

    Raises:
        FileNotFoundError: the splits are not there.
        ValueError: an unknown split, or a line that is none of a split's.
    """
    directory = Path(directory)
    names = read_class_splits(directory, split=split)
    keys = [(label, f"{label}/{name}") for label in names for name in names[label]]
    videos = tuple(
        LabelledVideo(
            path=directory / "Rename_Images" / key,
            label=label,
            read_tubes=partial(
                _read_tubes,
                label,
                mask_file=directory / "puppet_mask" / key / "puppet_mask.mat",
                joints_file=directory / "joint_positions" / key / "joint_positions.mat",
            ),
            key=key,
            frame_size_px=FRAME_SIZE_PX,
        )
        for label, key in spread(keys, limit=limit)
    )
    return LabelledVideos(videos, tuple(names), {"kind": "JHMDB", "split": split, "videos_in_set": len(keys)})


def mask_boxes(mask_HWT: npt.NDArray[Any]) -> Float32s:
    """Half-open boxes (T,4) round what is not 0 in each frame's mask, NaN where nothing is."""
    height_px, width_px, num_frames = mask_HWT.shape
    columns_WT, rows_HT = np.asarray(mask_HWT.any(axis=0)), np.asarray(mask_HWT.any(axis=1))
    boxes_T4 = np.full((num_frames, 4), np.nan, np.float32)
    seen_T = columns_WT.any(axis=0)
    ends = (width_px - columns_WT[::-1].argmax(axis=0), height_px - rows_HT[::-1].argmax(axis=0))
    found_T4 = np.stack([columns_WT.argmax(axis=0), rows_HT.argmax(axis=0), *ends], axis=1)
    boxes_T4[seen_T] = found_T4[seen_T]
    return boxes_T4


def joint_boxes(joints_2JT: npt.NDArray[Any], *, frame_size_px: tuple[int, int]) -> Float32s:
    """Half-open boxes (T,4) round each frame's joints, whose pixels are counted from 1, cut at the frame's edges; NaN
    where a joint is NaN or nothing is inside."""
    joints = np.asarray(joints_2JT, np.float64)
    edge_px = np.array([*frame_size_px, *frame_size_px], np.float64)
    boxes_T4 = np.concatenate([joints.min(axis=1) - 1, joints.max(axis=1)]).T.clip(0, edge_px)
    boxes_T4[~(boxes_T4[:, 2:] > boxes_T4[:, :2]).all(axis=1)] = np.nan
    return boxes_T4.astype(np.float32)


def _read_tubes(label: str, *, mask_file: Path, joints_file: Path) -> tuple[Tube, ...]:
    mask = _read_variable(mask_file, "part_mask", archive="puppet_mask.zip")
    if mask.ndim not in (2, 3):
        raise ValueError(f"{mask_file}: got a mask {mask.shape}, wanted (height, width, frames)")
    # MATLAB drops a last axis of one frame, here and below.
    boxes_T4 = mask_boxes(mask.reshape(*mask.shape[:2], -1))
    empty_T = np.isnan(boxes_T4[:, 0])
    if empty_T.any():
        joints = _read_variable(joints_file, "pos_img", archive="joint_positions.zip")
        if joints.ndim not in (2, 3) or len(joints) != 2:
            raise ValueError(f"{joints_file}: got joints {joints.shape}, wanted (2, joints, frames)")
        of_joints = joint_boxes(joints.reshape(*joints.shape[:2], -1), frame_size_px=(mask.shape[1], mask.shape[0]))
        frames = np.flatnonzero(empty_T[: len(of_joints)])
        boxes_T4[frames] = of_joints[frames]
    return (Tube(label=label, first_frame=0, boxes_xyxy_px=boxes_T4),)


def _read_variable(path: Path, name: str, *, archive: str) -> npt.NDArray[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; unpack JHMDB's {archive} there")
    with path.open("rb") as file:
        try:
            content = loadmat(file, variable_names=[name])
        except _DAMAGE as error:
            raise ValueError(f"{path}: damaged or no MATLAB file up to version 7: {error}") from error
    values = content.get(name)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "buif":
        raise ValueError(f"{path}: holds no array of numbers named {name}")
    return values
