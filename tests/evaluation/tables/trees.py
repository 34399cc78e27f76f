"""The paper's data sets in their own formats, two or three videos each: a bright square that moves to the right."""

import pickle
from pathlib import Path

import av
import numpy as np
from PIL import Image
from scipy.io import savemat

WIDTH, HEIGHT = 320, 240
SIDE, TOP, STEP = 80, 60, 8


def frames_of(num_frames: int, *, left: int) -> np.ndarray:
    """uint8 (T,H,W,3), the square at x = left + STEP * frame."""
    frames = np.full((num_frames, HEIGHT, WIDTH, 3), 30, np.uint8)
    for number, frame in enumerate(frames):
        frame[TOP : TOP + SIDE, left + STEP * number : left + STEP * number + SIDE] = 220
    return frames


def write_avi(path: Path, *, num_frames: int, left: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in frames_of(num_frames, left=left):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_splits(folder: Path, flags: dict[str, dict[str, int]]) -> None:
    """{class: {video: 0|1|2}} as the first split; the others hold the same."""
    folder.mkdir(parents=True)
    for label, videos in flags.items():
        for split in (1, 2, 3):
            lines = [f"{name}.avi {flag} \n" for name, flag in videos.items()]
            (folder / f"{label}_test_split{split}.txt").write_text("".join(lines))


def jhmdb(root: Path) -> Path:
    """Two test videos of 20 frames, of which 18 have a mask; one training video, not there."""
    write_splits(root / "splits", {"brush_hair": {"one": 2, "train": 1}, "catch": {"two": 2}})
    for key, left in (("brush_hair/one", 40), ("catch/two", 60)):
        images, masks = root / "Rename_Images" / key, root / "puppet_mask" / key
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        mask = np.zeros((HEIGHT, WIDTH, 18), np.uint8)
        for number, frame in enumerate(frames_of(20, left=left), start=1):
            Image.fromarray(frame).save(images / f"{number:05d}.png", compress_level=1)
        for frame in range(18):
            mask[TOP : TOP + SIDE, left + STEP * frame : left + STEP * frame + SIDE, frame] = 1
        savemat(masks / "puppet_mask.mat", {"part_mask": mask})
    return root


def ucf24(root: Path) -> Path:
    """Two videos, boxes in uint8 whose sums overflow, a second actor in the first; a list without a last line end."""
    annotations = {}
    for key, left, actors in (("Basketball/v_Basketball_g01_c01", 40, 2), ("Diving/v_Diving_g02_c01", 80, 1)):
        write_avi(root / "UCF-101" / f"{key}.avi", num_frames=20, left=left)
        xs = left + STEP * np.arange(20)
        square = np.stack([xs, np.full(20, TOP), np.full(20, SIDE), np.full(20, SIDE)], axis=1)
        tubes = [{"label": 0, "sf": 2, "ef": 18, "boxes": square[2:18].astype(np.uint8)}]
        # Half the frame from the left; of [10, 20) alone, two of them beyond the first actor's.
        half = np.tile(np.array([0, 0, 160, 240]), (10, 1)).astype(np.uint8)
        tubes += [{"label": 0, "sf": 10, "ef": 20, "boxes": half}] * (actors - 1)
        annotations[key] = {"annotations": tubes, "numf": 20, "label": 0}
    (root / "pyannot.pkl").write_bytes(pickle.dumps(annotations, protocol=3))
    (root / "testlist01.txt").write_text("\n".join(annotations))
    return root


def ilsvrc(root: Path) -> Path:
    """Two images of different sizes, the second with two objects."""
    root.mkdir()
    names = "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"
    (root / "LOC_synset_mapping.txt").write_text(names)
    images = (
        ("n01440764", (200, 100), [(50, 0, 150, 100)]),
        ("n01443537", (100, 100), [(0, 0, 100, 100), (10, 10, 30, 30)]),
    )
    for number, (wnid, (width, height), boxes) in enumerate(images, start=1):
        name = f"ILSVRC2012_val_{number:08d}"
        xml, jpeg = root / "Annotations/CLS-LOC/val" / f"{name}.xml", root / "Data/CLS-LOC/val" / f"{name}.JPEG"
        xml.parent.mkdir(parents=True, exist_ok=True)
        jpeg.parent.mkdir(parents=True, exist_ok=True)
        objects = "".join(
            f"<object><name>{wnid}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            "</bndbox></object>"
            for x1, y1, x2, y2 in boxes
        )
        size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        xml.write_text(f"<annotation><filename>{name}</filename>{size}{objects}</annotation>")
        pixels = np.full((height, width, 3), 30, np.uint8)
        pixels[boxes[0][1] : boxes[0][3], boxes[0][0] : boxes[0][2]] = 220
        Image.fromarray(pixels).save(jpeg, format="JPEG")
    return root


def hmdb51(root: Path) -> Path:
    """Three test videos, two of them of one class, and an unused one that is not there."""
    flags = {"brush_hair": {"one": 2, "unused": 0}, "catch": {"two": 2, "three": 2}}
    write_splits(root / "testTrainMulti_7030_splits", flags)
    for key, num_frames, left in (("brush_hair/one", 20, 40), ("catch/two", 10, 60), ("catch/three", 16, 0)):
        write_avi(root / "hmdb51_org" / f"{key}.avi", num_frames=num_frames, left=left)
    return root
