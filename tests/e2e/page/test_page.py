"""The page shows what the Python client says of the same video, and everybody can use it."""

import base64
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from playwright.sync_api import Page, expect
from tests.e2e.page.conftest import Open, Site

from sum3dcam.attribution.maps import METHODS
from sum3dcam.client.colormaps import COLORMAPS
from sum3dcam.client.http import HttpClient
from sum3dcam.client.prediction import Clip, Prediction
from sum3dcam.client.shading import palette
from sum3dcam.contract import BOX_MODES, COORDINATES, NORMALISATIONS
from sum3dcam.serving.settings import read_properties
from sum3dcam.serving.torchserve import Server

NUM_FRAMES = 20  # of the video: a whole clip of 16 and one that is filled


@pytest.fixture(scope="module")
def video(videos: list[bytes]) -> bytes:
    return videos[1]


@pytest.fixture(scope="module")
def prediction(server: Server, video: bytes) -> Prediction:
    with HttpClient(server.url, model="mini") as client:
        return client.predict(video, explain="maps", method="sum3dcam-elementwise", target="top-3", box_mode="largest")


@pytest.fixture(scope="module")
def page(open_page: Open, video: bytes) -> Page:
    """With the answer to the video, which was dropped on it."""
    page = open_page()
    drop(page, video)
    expect(page.locator("#answer")).to_be_visible()
    return page


def drop(page: Page, data: bytes, *, name: str = "clip.mp4") -> None:
    transfer = page.evaluate_handle(
        """([base64, name]) => {
            const bytes = Uint8Array.from(atob(base64), (byte) => byte.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name));
            return transfer;
        }""",
        [base64.b64encode(data).decode(), name],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def seek(page: Page, frame: int) -> None:
    page.fill("#frame", str(frame))
    expect(page.locator("#time")).to_contain_text(f"frame {frame} of")


def heat_HWC(page: Page) -> NDArray[np.uint8]:
    """RGBA of the map's canvas."""
    return pixels_HWC(page, "() => pixels(document.getElementById('heat'))")


def picture_HWC(page: Page) -> NDArray[np.uint8]:
    """RGB of the video's frame on screen."""
    drawn = """() => {
        const video = document.getElementById("video");
        const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
        canvas.getContext("2d").drawImage(video, 0, 0);
        return pixels(canvas);
    }"""
    return pixels_HWC(page, drawn)[..., :3]


def pixels_HWC(page: Page, function: str) -> NDArray[np.uint8]:
    """What the JavaScript function, which may call `pixels`, gives of a canvas: uint8 RGBA."""
    pixels = """
    function pixels(canvas) {
        const { data, height, width } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [height, width, btoa(data.reduce((text, byte) => text + String.fromCharCode(byte), ""))];
    }"""
    height, width, values = page.evaluate(f"() => {{ {pixels} return ({function})(); }}")
    return np.frombuffer(base64.b64decode(values), np.uint8).reshape(height, width, 4)


def shown_frame(page: Page, video: bytes) -> int:
    """Which of the video's frames the browser has on screen, by its pixels: the square moves with every frame."""
    shown = picture_HWC(page).astype(int)
    with av.open(BytesIO(video)) as file:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in file.decode(video=0)]
    return int(np.argmin([np.abs(frame - shown).mean() for frame in frames]))


def clip_and_place(prediction: Prediction, frame: int) -> tuple[Clip, int]:
    clip = next(clip for clip in prediction.clips if frame < clip.end_frame)
    return clip, clip.frames.index(frame)


def map_u8(prediction: Prediction, frame: int, *, explanation: int = 0) -> NDArray[np.uint8]:
    clip, place = clip_and_place(prediction, frame)
    assert prediction.maps_NETHW is not None
    return np.rint(prediction.maps_NETHW[clip.index, explanation, place] * 255).astype(np.uint8)


@pytest.mark.parametrize("frame", [0, 7, 15, 16, 19])
def test_a_frame_has_the_clients_map_and_boxes(frame: int, page: Page, prediction: Prediction, video: bytes) -> None:
    seek(page, frame)
    assert shown_frame(page, video) == frame
    expected, drawn = map_u8(prediction, frame), heat_HWC(page)
    assert expected.any()
    # A canvas keeps opacity exactly, but colours multiplied with it and rounded: to a step of 255 / opacity.
    np.testing.assert_array_equal(drawn[..., 3], expected)
    lit = expected > 20
    error = np.abs(drawn[lit][:, :3].astype(int) - palette("turbo")[expected[lit]])
    assert (error <= 255 / expected[lit][:, None]).all()
    clip, _ = clip_and_place(prediction, frame)
    boxes = page.locator("#boxes .over").evaluate_all(
        "(rects) => rects.map((rect) => ['x', 'y', 'width', 'height'].map((side) => Number(rect.getAttribute(side))))"
    )
    assert [(x, y, x + width, y + height) for x, y, width, height in boxes] == [
        pytest.approx(box.box_xyxy_px) for box in clip.explanations[0].boxes if box.frame == frame
    ]


def test_map_lies_over_the_region_that_it_stands_for(page: Page, prediction: Prediction) -> None:
    stage, heat = page.locator("#stage").bounding_box(), page.locator("#heat").bounding_box()
    assert stage
    assert heat
    assert prediction.map_region_xyxy_px
    scale = stage["width"] / prediction.video.width_px
    x1, y1, x2, y2 = prediction.map_region_xyxy_px
    assert stage["height"] / prediction.video.height_px == pytest.approx(scale, rel=1e-3)
    placed = (heat["x"] - stage["x"], heat["y"] - stage["y"], heat["width"], heat["height"])
    # Layout rounds to 1/64 of a pixel.
    assert placed == pytest.approx((scale * x1, scale * y1, scale * (x2 - x1), scale * (y2 - y1)), abs=0.05)


def test_labels_and_clips_are_the_clients(page: Page, prediction: Prediction) -> None:
    rows = page.locator("#labels li").all_inner_texts()
    assert [row.split("\n")[0] for row in rows] == [label.label for label in prediction.video.labels]
    assert f"{100 * prediction.video.labels[0].score:.1f} %" in rows[0]
    chips = page.locator("#clip-list .choice").all_inner_texts()
    assert [chip.split("\n")[:2] for chip in chips] == [
        [f"{clip.start_seconds:.2f} to {clip.end_seconds:.2f} s", clip.labels[0].label] for clip in prediction.clips
    ]
    expect(page.get_by_role("status")).to_contain_text(prediction.video.labels[0].label)


def test_each_class_explained_has_its_own_map(page: Page, prediction: Prediction) -> None:
    seek(page, 17)
    for explanation in (2, 0):
        page.locator("#explanation-list .choice").nth(explanation).click()
        np.testing.assert_array_equal(heat_HWC(page)[..., 3], map_u8(prediction, 17, explanation=explanation))
        label = prediction.clips[1].explanations[explanation].label
        expect(page.locator("#heat")).to_have_attribute("aria-label", f"Map of {label}, clip 2 of 2")
    assert not np.array_equal(map_u8(prediction, 17, explanation=2), map_u8(prediction, 17))


def test_map_stays_with_the_picture_while_it_plays(open_page: Open, prediction: Prediction, video: bytes) -> None:
    page = open_page(reduced_motion="no-preference")
    drop(page, video)
    expect(page.locator("#play")).to_have_text("Pause")  # it starts by itself
    expect(page.locator("#time")).to_contain_text(re.compile(r"frame (?!0 )"))
    page.click("#play")
    page.wait_for_timeout(100)  # for a frame that was on its way to the screen
    frame = shown_frame(page, video)
    expect(page.locator("#time")).to_contain_text(f"frame {frame} of {NUM_FRAMES}")
    np.testing.assert_array_equal(heat_HWC(page)[..., 3], map_u8(prediction, frame))
    page.close()


def test_asks_what_is_chosen_and_draws_locally_what_needs_no_question(page: Page, site: Site, video: bytes) -> None:
    before = len(site.asked)
    page.fill("#opacity", "30")
    page.uncheck("#show-boxes")
    page.select_option("#palette", "cividis")
    expect(page.locator("#heat")).to_have_css("opacity", "0.3")
    expect(page.locator("#boxes")).to_have_css("visibility", "hidden")
    assert len(site.asked) == before
    page.check("#show-boxes")
    page.select_option("#method", "gradcam")
    page.fill("#best", "1")
    for tap in ("conv", "layer1", "layer2", "layer4"):
        page.get_by_label(tap, exact=True).uncheck()
    page.fill("#threshold", "0.34")
    page.select_option("#box_mode", "union")
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator("#status")).to_contain_text("1 map each")
    page.locator("#answer").scroll_into_view_if_needed()
    assert site.asked[before:] == [
        {
            "explain": "maps",
            "map_dtype": "u8",
            "method": "gradcam",
            "target": "top",
            "box_mode": "union",
            "normalisation": "clip",
            "coordinates": "half-pixel",
            "taps": "layer3",
            "threshold": "0.34",
        }
    ]


def test_errors_are_said_in_words(open_page: Open, site: Site, video: bytes, tmp_path: Path) -> None:
    page = open_page()
    alert = page.get_by_role("alert")
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no video at all\n" * 50})
    expect(alert).to_contain_text("no video or image")
    expect(alert).to_contain_text("unreadable_media")
    page.fill("#named", "somersault")
    drop(page, video)
    expect(alert).to_contain_text("bad value for option 'target'")
    expect(alert).to_contain_text(re.compile("Got.*somersault.*Allowed.*'top'", re.DOTALL))
    page.fill("#named", "")
    site.key = "open sesame"
    try:
        page.click("#ask")
        expect(alert).to_contain_text("asks for an API key")
        expect(page.locator("#key")).to_be_focused()
        page.keyboard.type("open sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#answer")).to_be_visible()
        expect(page.locator("#error")).to_be_empty()
    finally:
        site.key = None
    page.close()


def test_file_beyond_the_servers_limit_is_not_sent(open_page: Open, site: Site, server: Server, tmp_path: Path) -> None:
    page, before = open_page(), len(site.asked)
    limit = int(read_properties(server.run_dir / "config.properties")["max_request_size"])
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.truncate(limit + 1)
    page.set_input_files("#file", large)
    expect(page.get_by_role("alert")).to_contain_text(f"{limit + 1} bytes")
    expect(page.get_by_role("alert")).to_contain_text("was not sent")
    assert len(site.asked) == before
    page.close()


def test_what_the_browser_cannot_play_still_has_labels_and_maps(
    open_page: Open, prediction: Prediction, video: bytes
) -> None:
    page = open_page()
    drop(page, as_mpeg4(video), name="clip.avi")
    expect(page.get_by_text("This browser cannot show this file")).to_be_visible()
    expect(page.locator("#labels li")).to_have_count(5)
    expect(page.locator("#play")).to_have_text("Play")  # where motion is unwanted nothing starts by itself
    seek(page, 9)
    assert heat_HWC(page)[..., 3].any()
    page.click("#play")
    expect(page.locator("#time")).to_contain_text(re.compile("frame 1[0-9] of"))
    page.close()


def as_mpeg4(video: bytes) -> bytes:
    """The video in a codec that Chromium has not."""
    buffer = BytesIO()
    with av.open(BytesIO(video)) as source, av.open(buffer, "w", format="avi") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for frame in source.decode(video=0):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), "rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()


def test_all_of_it_is_reached_with_the_keyboard(page: Page) -> None:
    page.evaluate("document.activeElement.blur()")
    seek(page, 3)
    page.locator("#file").focus()
    reached = []
    for _ in range(40):
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body || document.activeElement.id === 'file'"):
            break
    taps = ["tap"] * 5
    # In the order in which they stand; clips and maps are each one stop, with the arrows inside.
    assert list(filter(None, reached)) == [
        *("file", "play", "frame", "speed", "show-map", "show-boxes", "opacity", "palette", "clip", "explanation"),
        *("method", "best", "named", *taps, "box_mode", "threshold", "ask"),
    ]
    page.locator("#frame").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#frame")).to_have_attribute("aria-valuetext", "frame 4 of 20, 0.16 s")
    page.locator("#clip-list input").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#time")).to_contain_text("frame 16 of")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_complain_of(scheme: Any, page: Page, open_page: Open) -> None:
    page.emulate_media(color_scheme=scheme)
    page.locator("summary").click()
    page.evaluate("document.getElementById('key-field').hidden = false")
    assert problems(page) == []
    empty = open_page()
    empty.emulate_media(color_scheme=scheme)
    empty.set_input_files("#file", {"name": "empty.mp4", "mimeType": "video/mp4", "buffer": b""})
    expect(empty.get_by_role("alert")).to_contain_text("The file is empty")
    assert problems(empty) == []
    empty.reload()
    assert problems(empty) == []
    empty.close()


def problems(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]


def test_nothing_sticks_out_of_a_narrow_screen(page: Page) -> None:
    # 320 pixels: what WCAG 1.4.10 asks for.
    page.set_viewport_size({"width": 320, "height": 600})
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_damaged_safetensors_are_refused_with_a_reason(page: Page) -> None:
    def file_of(header: bytes, data: bytes = b"\x01\x02") -> bytes:
        return len(header).to_bytes(8, "little") + header + data

    def described(dtype: str, shape: list[int], offsets: list[int]) -> bytes:
        return file_of(f'{{"maps":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}'.encode())

    refused = {
        "short": (b"\x01", "header of"),
        "header beyond the end": ((1 << 40).to_bytes(8, "little") + b"{}", "header of"),
        "data beyond the end": (described("U8", [3], [0, 3]), "does not lie"),
        "shape of another size": (described("U8", [3], [0, 2]), "does not lie"),
        "negative": (described("U8", [4], [-2, 2]), "does not lie"),
        "another dtype": (described("F32", [1], [0, 4]), "F32"),
        "inherited name": (described("toString", [1], [0, 1]), "toString"),
    }
    read = """async (bytes) => {
        const { readSafetensors } = await import("/safetensors.js");
        try { return Array.from(readSafetensors(Uint8Array.from(bytes).buffer).tensors.maps.data); }
        catch (error) { return error.message; }
    }"""
    assert page.evaluate(read, list(described("U8", [2], [0, 2]))) == [1, 2]
    for case, (data, says) in refused.items():
        assert says in page.evaluate(read, list(data)), case


def test_page_offers_what_the_package_has(page: Page) -> None:
    offered = page.locator("select").evaluate_all(
        "(all) => Object.fromEntries(all.map(({ id, options }) => [id, [...options].map(({ value }) => value)]))"
    )
    assert offered["method"] == list(METHODS)
    assert sorted(offered["box_mode"]) == sorted(BOX_MODES)
    assert offered["normalisation"] == list(NORMALISATIONS)
    assert offered["coordinates"] == list(COORDINATES)
    assert offered["palette"] == list(COLORMAPS)
    colours = """async (name) => {
        const { heatColours } = await import("/palettes.js");
        return Array.from(new Uint8Array(heatColours(name).buffer));
    }"""
    for name in COLORMAPS:
        table = np.array(page.evaluate(colours, name), np.uint8).reshape(256, 4)
        np.testing.assert_array_equal(table[:, :3], palette(name))
        np.testing.assert_array_equal(table[:, 3], np.arange(256))
