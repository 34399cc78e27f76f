"""What `sum3dcam figure` asks of a server, and the panels and files it makes of the answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from sum3dcam.__main__ import main
from sum3dcam.client.comparison import Comparison, ask_comparison
from sum3dcam.client.figure import moving_panels
from sum3dcam.client.prediction import Prediction
from sum3dcam.client.reply import read_reply
from sum3dcam.client.request import option_texts
from sum3dcam.contract import EXPLAIN_GRAPH, EXPLAINED, LABELS_GRAPH, LOGITS, STREAM_CHANNELS, Card, Tap, grid_name
from sum3dcam.errors import BadOptionError
from sum3dcam.serving.predictor import Predictor
from sum3dcam.video.geometry import PREPROCESSING

SIZE_PX, CLIP_LENGTH, CELLS = 32, 4, 4
LABELS = ("jump", "wave", "bow", "kick")
# Best first: wave, kick, bow, jump.
LOGITS_K = (0.0, 3.0, 1.0, 2.0)
GRID_THW = (CLIP_LENGTH, CELLS, CELLS)
TAPS = (Tap("layer1", 8, GRID_THW), Tap("layer2", 8, GRID_THW))
STREAM_TAPS = (*TAPS, Tap("flow_layer1", 8, GRID_THW, "flow"))


class LitEngine:
    """Of class k the grids are lit in one cell (t,h,w) of column k:

    gradient (0,0,k), below zero at (1,1,k), and below zero everywhere in layer2; layercam (2,2,k), of a bright clip
    (1,2,k); gradcam (3,1,k) in layer1, and (3,3,k) in every other tap.
    """

    name, provider, sha256 = "lit", "cpu", "0" * 64

    def __init__(self, graph: str, **changes: Any) -> None:
        facts: dict[str, Any] = {
            "graph": graph,
            "model": "lit",
            "labels": LABELS,
            "num_frames": CLIP_LENGTH,
            "size_px": SIZE_PX,
            "streams": ("rgb",),
            "frames_per_second": None,
            "preprocessing": next(iter(PREPROCESSING)),
            "taps": TAPS,
            "gates": (),
            "weights_sha256": "0" * 64,
            "package_version": "0",
        }
        self.card = Card(**facts | changes)

    def run(self, clip_BTHWC: Any, *, target_B: Any, outputs: Any = None) -> dict[str, Any]:
        logits_K = np.asarray(LOGITS_K[: len(self.card.labels)], np.float32)
        explained_B = np.where(target_B < 0, logits_K.argmax(), target_B)
        outputs = {LOGITS: np.tile(logits_K, (len(clip_BTHWC), 1)), EXPLAINED: explained_B}
        for tap in self.card.taps:
            for grid in ("activation", "gradient", "gradcam", "layercam", "hirescam"):
                outputs[grid_name(grid, tap.name)] = np.stack(
                    [
                        self._grid(grid, tap.name, k, bright=clip.mean() > 128)
                        for clip, k in zip(clip_BTHWC, explained_B, strict=True)
                    ]
                )
        return outputs

    def _grid(self, grid: str, tap: str, k: int, *, bright: bool) -> Any:
        grid_thw = np.full(GRID_THW, 1.0 if grid == "activation" else 0.0, np.float32)
        if grid == "gradient":
            grid_thw[0, 0, k], grid_thw[1, 1, k] = 1, -1
            if tap == "layer2":
                grid_thw[:] = -1
        elif grid == "layercam":
            grid_thw[1 if bright else 2, 2, k] = 1
        elif grid == "gradcam":
            grid_thw[3, 1 if tap == "layer1" else 3, k] = 1
        return grid_thw[: self.card.num_frames]


@pytest.fixture
def predictor_of() -> Callable[..., Predictor]:
    return lambda **facts: Predictor(LitEngine(EXPLAIN_GRAPH, **facts), LitEngine(LABELS_GRAPH, **facts))


class Direct:
    """A client that asks the predictor in this process, and remembers what."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.asked: list[dict[str, str]] = []

    def predict(self, data: bytes, **options: Any) -> Prediction:
        self.asked.append(option_texts(options))
        return read_reply(self.predictor.predict([{"data": data, **self.asked[-1]}])[0].body)


@pytest.fixture
def compare(make: Any, tmp_path: Path, predictor_of: Any) -> Any:
    """compare(facts of the card, **arguments) of a video of 7 frames: a dark clip and a bright one, filled with one."""
    levels = (40, 40, 40, 40, 220, 220, 220)
    video = make.video(tmp_path / "seven.mp4", [np.full((120, 160, 3), level, np.uint8) for level in levels])

    def ask(facts: dict[str, Any] | None = None, **arguments: Any) -> Comparison:
        return ask_comparison(Direct(predictor_of(**facts or {})), video.read_bytes(), **arguments)

    return ask


def _peaks(comparison: Comparison) -> list[tuple[str, Any]]:
    """Each panel's title with the cell (t,h,w) of its highest value; None without a map, "empty" where it is."""
    peaks: list[tuple[str, Any]] = []
    for panel in comparison.panels:
        if panel.map_THW is None or panel.is_empty:
            peaks.append((panel.title, "empty" if panel.is_empty else None))
            continue
        assert panel.map_THW.max() == pytest.approx(1)
        t, y, x = np.unravel_index(panel.map_THW.argmax(), panel.map_THW.shape)
        cell_px = SIZE_PX // CELLS
        peaks.append((panel.title, (int(t), int(y) // cell_px, int(x) // cell_px)))
    return peaks


def test_every_panel_shows_the_map_that_its_title_says(compare: Any) -> None:
    comparison = compare()
    # Oracle: the cells that LitEngine lights, by the methods' definitions: wave is column 1, kick 3, bow 2.
    assert _peaks(comparison) == [
        ("Input", None),
        ("3DCAM layer1", (0, 0, 1)),
        ("3DCAM layer2", "empty"),
        ("Sum3DCAM", (0, 0, 1)),
        ("Element-wise 3DCAM", (2, 2, 1)),
        ("Grad-CAM layer2", (3, 3, 1)),
        ("Sum Grad-CAM", (3, 1, 1)),
        ("wave", (2, 2, 1)),
        ("kick", (2, 2, 3)),
        ("bow", (2, 2, 2)),
        ("Counterfactual", (1, 1, 1)),
    ]
    # Softmax of LOGITS_K by hand.
    assert [panel.note.splitlines()[0] for panel in comparison.panels[7:10]] == [
        "best class, 64.4%",
        "2nd best class, 23.7%",
        "3rd best class, 8.7%",
    ]
    assert (comparison.explained.label, comparison.frames, comparison.num_clips) == ("wave", (0, 1, 2, 3), 2)
    assert all(panel.boxes == () for panel in comparison.panels)


def test_the_class_asked_for_is_explained_in_every_way(compare: Any) -> None:
    comparison = compare(target="jump,wave", method="counterfactual", taps="layer1")
    assert _peaks(comparison)[1:] == [
        ("3DCAM layer1", (0, 0, 0)),
        ("Sum3DCAM", (0, 0, 0)),
        ("Element-wise 3DCAM", (2, 2, 0)),
        ("Grad-CAM layer1", (3, 1, 0)),
        ("Sum Grad-CAM", (3, 1, 0)),
        ("jump", (1, 1, 0)),
        ("wave", (1, 1, 1)),
        ("Counterfactual", (1, 1, 0)),
    ]
    assert comparison.panels[6].note == "4th best class, 3.2%\ncounterfactual"


@pytest.mark.parametrize(("taps", "cell"), [(None, (3, 3, 1)), ("layer2,layer1", (3, 1, 1))])
def test_a_method_of_one_layer_explains_classes_from_the_last(compare: Any, taps: str | None, cell: Any) -> None:
    peaks = _peaks(compare(method="gradcam", taps=taps))
    assert (peaks[-4], len(peaks)) == (("wave", cell), 11)


@pytest.mark.parametrize(("num_classes", "shown"), [(1, ["jump"]), (2, ["wave", "jump"])])
def test_a_model_of_fewer_classes_shows_them_all(compare: Any, num_classes: int, shown: list[str]) -> None:
    panels = compare({"labels": LABELS[:num_classes]}).panels
    assert [panel.title for panel in panels[7:]] == [*shown, "Counterfactual"]
    assert panels[-1].note.splitlines()[0] == f"against {shown[0]}"


def test_two_streams_are_summed_alone_too_and_each_has_its_last_layer(compare: Any) -> None:
    panels = compare({"streams": ("rgb", "flow"), "taps": STREAM_TAPS}).panels
    assert [(panel.title, panel.note) for panel in panels[1:10]] == [
        ("3DCAM layer1", ""),
        ("3DCAM layer2", ""),
        ("3DCAM flow_layer1", ""),
        ("Sum3DCAM", "sum3dcam"),
        ("Sum3DCAM", "sum3dcam, rgb alone"),
        ("Sum3DCAM", "sum3dcam, flow alone"),
        ("Element-wise 3DCAM", "sum3dcam-elementwise"),
        ("Grad-CAM layer2", "gradcam"),
        ("Grad-CAM flow_layer1", "gradcam"),
    ]


def test_a_clip_that_was_filled_shows_its_own_frames(compare: Any) -> None:
    comparison = compare(clip_index=1)
    assert comparison.clip.frames == (4, 5, 6, 4)
    assert comparison.frames == (4, 5, 6)
    # The map is the bright clip's, too.
    assert dict(_peaks(comparison))["wave"] == (1, 2, 1)


def test_boxes_are_those_of_the_panels_own_map(compare: Any) -> None:
    panels = {panel.title: panel for panel in compare(box_mode="largest", threshold=0.5).panels}
    region_left_px, cell_px = 20, 120 / CELLS
    for title, (frame, row, column) in {"Element-wise 3DCAM": (2, 2, 1), "kick": (2, 2, 3)}.items():
        (box,) = panels[title].boxes
        centre = ((box.box_xyxy_px[0] + box.box_xyxy_px[2]) / 2, (box.box_xyxy_px[1] + box.box_xyxy_px[3]) / 2)
        assert box.frame == frame
        assert centre == pytest.approx((region_left_px + cell_px * (column + 0.5), cell_px * (row + 0.5)), abs=6)
    assert panels["3DCAM layer1"].boxes == ()


def test_it_asks_for_labels_once_and_for_the_grids_of_each_method_once(
    make: Any, tmp_path: Path, predictor_of: Any
) -> None:
    client = Direct(predictor_of())
    ask_comparison(client, make.video(tmp_path / "v.mp4", make.grey_frames(4)).read_bytes())
    assert client.asked == [
        {},
        {"explain": "grids", "method": "sum3dcam-elementwise", "target": "top-3"},
        {"explain": "grids", "method": "sum3dcam", "target": "1"},
        {"explain": "grids", "method": "sum-gradcam", "target": "1"},
    ]


@pytest.mark.parametrize(("arguments", "reason"), [({"clip_index": 2}, "0 to 1"), ({"method": "magic"}, "method")])
def test_what_there_is_not_is_refused(compare: Any, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadOptionError, match=reason):
        compare(**arguments)


# The command, from the outside.


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["figure", *(str(argument) for argument in arguments)])


@pytest.fixture
def served(fake: Any, predictor_of: Any) -> Any:
    """served(**facts): the fake server of each transport, which now answers as the predictor does."""

    def serve(**facts: Any) -> Any:
        predictor, seen = predictor_of(**facts), fake.script.seen

        def answer(model: str, entries: dict[str, bytes], *, peer: str) -> None:
            seen(model, entries, peer=peer)
            fake.script.reply = predictor.predict([entries])[0].body

        fake.script.seen = answer
        return fake

    return serve


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".mp4"])
def test_one_command_writes_the_figure(make: Any, served: Any, tmp_path: Path, suffix: str) -> None:
    server, output = served(), tmp_path / "new" / f"figure{suffix}"
    video = make.video(tmp_path / "seven.mp4", make.grey_frames(7))
    result = _run(
        video, server.flag, server.address, "--model", "other", "--clip", 1, "--output", output, "--box-mode", "all"
    )
    assert (result.exit_code, result.stdout) == (0, f"wrote {output}\n"), result.output
    assert (len(server.script.requests), server.script.model) == (4, "other")
    if suffix == ".mp4":
        with av.open(str(output)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 3
    else:
        with Image.open(output) as image:
            assert getattr(image, "n_frames", 1) == (3 if suffix == ".webp" else 1)
            assert min(image.size) > 500


def _array(path: Path, channels: int) -> Path:
    frames_THWC = np.random.default_rng(channels).integers(0, 256, (CLIP_LENGTH, 64, 96, channels), np.uint8)
    with path.open("wb") as file:
        np.save(file, frames_THWC)
    return path


def _rotated(make: Any, path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.set_display_rotation(90)
        for frame_HWC in make.grey_frames(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _image(make: Any, path: Path) -> Path:
    Image.fromarray(make.grey_frames(1)[0]).save(path)
    return path


TWO_STREAMS = {"streams": ("rgb", "flow"), "taps": STREAM_TAPS}
FLOW_ALONE = {"streams": ("flow",), "taps": (Tap("layer1", 8, GRID_THW, "flow"),)}
SINGLE_FRAMES = {"num_frames": 1, "taps": (Tap("layer1", 8, (1, CELLS, CELLS)),)}
SOURCES: dict[str, tuple[dict[str, Any], Callable[[Any, Path], Path]]] = {
    "rgb array": ({}, lambda make, folder: _array(folder / "a.npy", 3)),
    "flow array": (FLOW_ALONE, lambda make, folder: _array(folder / "a.npy", STREAM_CHANNELS["flow"])),
    "both streams": (TWO_STREAMS, lambda make, folder: _array(folder / "a.npy", 5)),
    "rotated": ({}, lambda make, folder: _rotated(make, folder / "a.mp4")),
    "odd": ({}, lambda make, folder: make.video(folder / "a.mp4", make.grey_frames(4, width_px=97, height_px=63))),
    "short": ({}, lambda make, folder: make.video(folder / "a.mp4", make.grey_frames(1))),
    "single frames": (SINGLE_FRAMES, lambda make, folder: make.video(folder / "a.mp4", make.grey_frames(2))),
    "image": (SINGLE_FRAMES, lambda make, folder: _image(make, folder / "a.png")),
    "resampled": ({"frames_per_second": 50.0}, lambda make, folder: make.video(folder / "a.mp4", make.grey_frames(4))),
}


@pytest.mark.parametrize("source", SOURCES)
def test_whatever_the_server_takes_is_drawn(make: Any, predictor_of: Any, tmp_path: Path, source: str) -> None:
    facts, write = SOURCES[source]
    video = write(make, tmp_path)
    comparison = ask_comparison(Direct(predictor_of(**facts)), video.read_bytes())
    page, _ = next(moving_panels(comparison, source=video))
    assert (np.ptp(page.astype(int), axis=2) > 40).sum() > 500, "some colour: a map is lit"


REFUSALS = {
    "no suffix": (["--output", "{folder}/figure"], "the output's suffix names no form", 1, 0),
    "the video itself": (["--output", "{folder}/../{name}/seven.mp4"], "would overwrite the video", 2, 0),
    "no such clip": (["--output", "{folder}/f.png", "--clip", "9"], "got: 9; allowed: 0 to 1", 1, 1),
    "a negative clip": (["--output", "{folder}/f.png", "--clip", "-1"], "-1 is not in the range", 2, 0),
    "no such class": (["--output", "{folder}/f.png", "--target", "fly"], "bad value for option 'target'", 1, 2),
    "no class at all": (["--output", "{folder}/f.png", "--target", ""], "bad value for option 'target'", 1, 2),
    "no such layer": (["--output", "{folder}/f.png", "--taps", "layer9"], "'taps' names", 1, 2),
    "too large": (["--output", "{folder}/f.png", "--max-message-bytes", "10"], "was not sent", 1, 0),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_says_why_and_writes_nothing(make: Any, served: Any, tmp_path: Path, refusal: str) -> None:
    arguments, reason, exit_code, num_requests = REFUSALS[refusal]
    server, video = served(), make.video(tmp_path / "seven.mp4", make.grey_frames(7))
    given = [text.format(folder=tmp_path, name=tmp_path.name) for text in arguments]
    result = _run(video, server.flag, server.address, *given)
    assert (result.exit_code, len(server.script.requests)) == (exit_code, num_requests), result.output
    assert reason in " ".join(result.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["seven.mp4"]


def test_no_video_and_no_server_are_said(make: Any, tmp_path: Path, free_port: int) -> None:
    gone = _run(tmp_path / "gone.mp4", "--output", tmp_path / "f.png")
    assert (gone.exit_code, "gone.mp4' does not exist" in " ".join(gone.stderr.split())) == (2, True)
    video, url = make.video(tmp_path / "v.mp4", make.grey_frames(4)), f"http://127.0.0.1:{free_port}"
    down = _run(video, "--url", url, "--output", tmp_path / "f.png")
    assert (down.exit_code, "is the server up?" in down.stderr) == (1, True)
    both = _run(video, "--url", url, "--grpc", "127.0.0.1:1", "--output", tmp_path / "f.png")
    assert (both.exit_code, "give one of them" in both.stderr) == (2, True)
