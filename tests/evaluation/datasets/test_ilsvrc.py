import pytest

from sum3dcam.evaluation.datasets.frames import read_frames
from sum3dcam.evaluation.datasets.ilsvrc import read_ilsvrc
from sum3dcam.video.footage import FrameSpec

STEM = "ILSVRC2012_val_0000000"
NAMES = "n01440764 tench, Tinca tinca\nn01751748 sea snake\n"


def voc(wordnet_id, *boxes, head=""):
    objects = "".join(
        f"<object><name>{wordnet_id}</name><pose>Unspecified</pose><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for x1, y1, x2, y2 in boxes
    )
    size = "<size><width>500</width><height>375</height><depth>3</depth></size>"
    return f"{head}<annotation><folder>val</folder>{size}{objects}</annotation>\n"


@pytest.fixture
def directory(tmp_path, write):
    xml = tmp_path / "Annotations" / "CLS-LOC" / "val"
    write["text"](xml / f"{STEM}2.xml", voc("n01440764", (0, 0, 500, 375), (10, 20, 30, 40)))
    write["text"](xml / f"{STEM}1.xml", voc("n01751748", (111, 108, 441, 193)))
    write["text"](xml / f"._{STEM}1.xml", "\0")
    for number in (1, 2):
        write["image"](tmp_path / "Data" / "CLS-LOC" / "val" / f"{STEM}{number}.JPEG", width=500, height=375)
    return tmp_path


def test_every_object_is_a_tube_of_one_frame(directory, write):
    write["text"](directory / "LOC_synset_mapping.txt", NAMES)
    data = read_ilsvrc(directory)
    assert data.labels == ("tench", "sea snake")
    first, second = data.videos
    assert (first.key, first.label, first.frame_size_px, first.num_frames) == (f"{STEM}1", "sea snake", (500, 375), 1)
    assert [tube.boxes_xyxy_px.tolist() for tube in second.read_tubes()] == [[[0, 0, 500, 375]], [[10, 20, 30, 40]]]
    assert {(tube.label, tube.first_frame) for tube in second.read_tubes()} == {("tench", 0)}
    assert read_frames(first, spec=FrameSpec(24, "squash", None, ("rgb",), None)).num_source_frames == 1


def test_without_a_list_of_names_labels_are_wordnet_ids(directory):
    assert read_ilsvrc(directory).labels == ("n01440764", "n01751748")


def test_the_archives_own_folders_will_do_and_images_may_be_missing(tmp_path, write):
    write["text"](tmp_path / "bbox_val" / "val" / f"{STEM}1.xml", voc("n01751748", (1, 2, 3, 4)))
    (video,) = read_ilsvrc(tmp_path).videos
    assert len(video.read_tubes()) == 1
    with pytest.raises(FileNotFoundError, match=rf"{STEM}1\.JPEG: no such video"):
        read_frames(video, spec=FrameSpec(24, "squash", None, ("rgb",), None))


# Ten levels of ten: 10^10 characters.
LEVELS = "".join(f"<!ENTITY a{level} '{f'&a{level - 1};' * 10}'>" for level in range(1, 11))
LEVELS = "".join(f"<!ENTITY a{level} '{f'&a{level - 1};' * 10}'>" for level in range(1, 11))
BOMB = f"<!DOCTYPE x [<!ENTITY a0 'lol'>{LEVELS}]>"
OUTSIDE = "<!DOCTYPE x [<!ENTITY a10 SYSTEM 'file:///etc/hostname'>]>"
# What XML parsers take without complaint.
SMALL = "<!DOCTYPE x [<!ENTITY a10 'n01751748'>]>"
ELSEWHERE = "<!DOCTYPE x SYSTEM 'http://127.0.0.1:9/x.dtd'>"


@pytest.mark.parametrize(
    ("name", "head"), [("&a10;", BOMB), ("&a10;", OUTSIDE), ("&a10;", SMALL), ("n01751748", ELSEWHERE)]
)
def test_entities_and_document_types_are_refused(directory, write, name, head):
    path = directory / "Annotations" / "CLS-LOC" / "val" / f"{STEM}1.xml"
    write["text"](path, voc(name, (1, 2, 3, 4), head=head))
    with pytest.raises(ValueError, match=rf"{STEM}1\.xml: not read as XML without entities"):
        read_ilsvrc(directory)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "not read as XML"),
        (voc("n01751748"), "no object"),
        (voc("n01751748", (5, 2, 5, 4)), r"got the box \(5, 2, 5, 4\)"),
        (voc("n01751748", (1, 2, "three", 4)), "got 'three' as bndbox/xmax, wanted a whole number"),
        (voc("n01751748", (1, 2, 3, 4)).replace("<width>500</width>", ""), "no size/width in <annotation>"),
        (voc("n00000000", (1, 2, 3, 4)), "n00000000 is not in the list of names"),
    ],
)
def test_damaged_annotations_are_named(directory, write, text, message):
    write["text"](directory / "LOC_synset_mapping.txt", NAMES)
    write["text"](directory / "Annotations" / "CLS-LOC" / "val" / f"{STEM}1.xml", text)
    with pytest.raises(ValueError, match=rf"{STEM}1\.xml: {message}"):
        read_ilsvrc(directory)


def test_missing_annotations_say_what_to_unpack(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none of these holds \*\.xml: .*ILSVRC2012_bbox_val_v3"):
        read_ilsvrc(tmp_path)
    with pytest.raises(ValueError, match="got split 'test', wanted one of val"):
        read_ilsvrc(tmp_path, split="test")
