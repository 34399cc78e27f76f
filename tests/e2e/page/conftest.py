"""The page and the API on one origin, as behind a load balancer, and a headless Chromium that reaches only that."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Page

from sum3dcam.serving.torchserve import Server

PAGE_FOLDER = Path(__file__).resolve().parents[3] / "serve_config" / "page"
Open = Callable[..., Page]


@dataclass
class Site:
    """The edge in front of the server. `key` is what it demands as x-api-key; `asked` the options that went through."""

    url: str = ""
    key: str | None = None
    asked: list[dict[str, str]] = field(default_factory=list)


class _Edge(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: object, site: Site, server: Server) -> None:
        self.site, self.inference = site, server
        super().__init__(*arguments, directory=str(PAGE_FOLDER))

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        if self.site.key not in (None, self.headers["x-api-key"]):
            self._answer(401, b"", "text/plain")
            return
        self.site.asked.append(dict(parse_qsl(urlsplit(self.path).query)))
        headers = {"content-type": self.headers["content-type"]}
        reply = httpx.post(f"{self.inference.url}{self.path}", content=data, headers=headers, timeout=120)
        self._answer(reply.status_code, reply.content, reply.headers.get("content-type", ""))

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def site(server: Server) -> Iterator[Site]:
    site = Site()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Edge, site=site, server=server)) as edge:
        site.url = f"http://127.0.0.1:{edge.server_port}"
        thread = Thread(target=edge.serve_forever)
        thread.start()
        yield site
        edge.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def open_page(browser: Browser, site: Site) -> Iterator[Open]:
    """Opens the page anew; afterwards it must have raised nothing, broken no policy and asked nobody else."""
    faults: list[str] = []
    elsewhere: list[str] = []

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Security Policy" in said.text else None)
        page.on("request", lambda request: elsewhere.append(request.url))

    def opened(*, reduced_motion: str = "reduce", width_px: int = 1280) -> Page:
        viewport = {"width": width_px, "height": 900}
        page = browser.new_page(reduced_motion=reduced_motion, viewport=viewport)
        page.set_default_timeout(30_000)
        watch(page)
        page.goto(f"{site.url}/?model=mini")
        return page

    yield opened
    assert faults == []
    assert [url for url in elsewhere if not url.startswith((site.url, f"blob:{site.url}"))] == []
