"""Two real instances behind nginx and HAProxy at once: who is let in, who answers, and what is lost by a death."""

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
import trustme
from load.endurance import Examiner, Ledger, Question, make_questions
from load.faults import Fault, Subject, decoders, end_instance, kill_instance, kill_worker, send_oversize
from load.inprocess import unpacked
from load.senders import GrpcSender, HttpSender, Sender
from load.traffic import OK, closed_loop
from playwright.sync_api import Browser, expect

from sum3dcam.client.http import HttpClient
from sum3dcam.client.inference_pb2 import PredictionsRequest
from sum3dcam.client.inference_pb2_grpc import InferenceAPIsServiceStub
from sum3dcam.serving import canary, cluster, keeper, proxy, readiness, torchserve
from sum3dcam.serving.archive import read_archive
from sum3dcam.serving.occupancy import is_busy
from sum3dcam.serving.proxy import Edge, Tls
from sum3dcam.serving.settings import read_properties
from sum3dcam.serving.torchserve import Server

ROOT = Path(__file__).resolve().parents[2]
MODEL = "mini"
KINDS = tuple(proxy.TEMPLATES)
WINDOW_SECONDS = 1.5
CLIENTS = 8
WHOLE_WITHIN_SECONDS = 90.0


@pytest.fixture(autouse=True)
def worker_is_never_restarted() -> None:
    """Here they are."""


@dataclass(frozen=True)
class Running:
    """A cluster behind nginx, with HAProxy beside it."""

    run_dir: Path
    config_dir: Path
    api_key: str
    edges: dict[str, Edge]
    subject: Subject

    @property
    def servers(self) -> list[Server]:
        return self.subject.servers()

    def wait_whole(self) -> None:
        until = time.monotonic() + WHOLE_WITHIN_SECONDS
        while not self.subject.is_whole():
            assert time.monotonic() < until, "the cluster did not become whole again"
            time.sleep(0.25)

    @asynccontextmanager
    async def senders(self, *kinds: str, api_key: str | None = None) -> AsyncIterator[list[Sender]]:
        """Both transports of each proxy named, of all by default."""
        key = self.api_key if api_key is None else api_key
        async with AsyncExitStack() as stack:
            found: list[Sender] = []
            for edge in (self.edges[kind] for kind in kinds or KINDS):
                url, address = f"http://{edge.host}:{edge.http_port}", f"{edge.host}:{edge.grpc_port}"
                found += [
                    await stack.enter_async_context(HttpSender(url, model=MODEL, api_key=key)),
                    await stack.enter_async_context(GrpcSender(address, model=MODEL, api_key=key)),
                ]
            yield found


@pytest.fixture(scope="module")
def running(quick_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    run_dir = tmp_path_factory.mktemp("cluster")
    config_dir = tmp_path_factory.mktemp("config") / "serve_config"
    shutil.copytree(ROOT / "serve_config", config_dir)
    (config_dir / "page" / "hello.html").write_text("hello")
    config = config_dir / "config.properties"
    command("start", "--run-dir", run_dir, "--ports", "free", "--config", config, quick_archive)
    try:
        started = cluster.load(run_dir)
        assert started is not None
        (api_key,) = keys = proxy.read_api_keys(run_dir / cluster.KEYS_FILE)
        host, http_port, grpc_port = (
            "127.0.0.1",
            *(int(one.rpartition(":")[2]) for one in (started.url, started.grpc_address)),
        )
        nginx = Edge(host, http_port, grpc_port, api_keys=keys)
        haproxy = replace(nginx, **dict(zip(("http_port", "grpc_port"), torchserve.free_numbers(2), strict=True)))
        limits = proxy.read_limits([read_archive(quick_archive).config], properties=read_properties(config))
        subject = Subject(
            run_dir=run_dir,
            host=nginx.host,
            http_port=http_port,
            api_key=api_key,
            limits=limits,
            senders=(),
            good=b"",
            chance=random.Random(0),
        )
        found = Running(run_dir, config_dir, api_key, {"nginx": nginx, "haproxy": haproxy}, subject)
        with proxy_beside("haproxy", found, haproxy, tmp_path_factory.mktemp("haproxy")):
            yield found
        family = [psutil.Process(pid) for pid in (started.pid, *(server.pid for server in found.servers))]
        family += [child for process in family for child in process.children(recursive=True)]
    finally:
        command("stop", "--run-dir", run_dir)
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def command(*arguments: object) -> None:
    """In an environment that would offer Open Inference, were it heeded."""
    environment = os.environ | {"TS_OPEN_INFERENCE_PROTOCOL": "oip"}
    words = [sys.executable, "-P", "-m", "sum3dcam.serving.cluster", *(str(argument) for argument in arguments)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def proxy_beside(kind: str, running: Running, edge: Edge, folder: Path) -> Iterator[None]:
    """Another proxy before the cluster's instances."""
    upstreams = {server.run_dir.name: keeper.upstream(server.ports) for server in running.servers}
    facts = {"limits": running.subject.limits, "templates": running.config_dir, "run_dir": folder, "temp_dir": folder}
    proxy.configure(kind, edge=edge, upstreams=upstreams, **facts)
    with (
        (folder / "proxy.log").open("w") as log,
        subprocess.Popen(proxy.command(kind, run_dir=folder), stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_listening(edge)
            yield
        finally:
            process.terminate()


def wait_listening(edge: Edge) -> None:
    until = time.monotonic() + 20
    for port in (edge.http_port, edge.grpc_port):
        while True:
            try:
                socket.create_connection((edge.host, port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < until, "the proxy does not listen"
                time.sleep(0.05)


def answered(server: Server) -> int:
    """Requests that the instance's workers have logged, canaries apart."""
    lines = [json.loads(line) for line in (server.log_dir / "worker.log").read_text().splitlines()]
    return sum(line["event"] == "answered" and line["request_id"] != canary.REQUEST_ID for line in lines)


@pytest.fixture(scope="module")
def questions(quick_archive: Path) -> list[Question]:
    """Requests with the answers that the predictor gives in this process."""
    with unpacked(quick_archive) as here:
        return make_questions(here)


@pytest.mark.parametrize("kind", KINDS)
def test_each_transport_is_spread_evenly_over_one_connection(
    kind: str, running: Running, questions: list[Question]
) -> None:
    async def ask(place: int) -> None:
        async with running.senders(kind) as senders:
            for question in questions:
                answer = await senders[place].send(question.data, question.options)
                assert answer.body == question.answer

    for place in range(2):
        before = [answered(server) for server in running.servers]
        asyncio.run(ask(place))
        shares = [answered(server) - already for server, already in zip(running.servers, before, strict=True)]
        # The last answer's line may still be on its way; a canary comes in between now and then.
        assert min(shares) >= len(questions) // 2 - 2, shares


@pytest.mark.parametrize("fault", [end_instance, kill_worker, kill_instance])
def test_nothing_is_lost_or_wrong_under_mixed_load(fault: Fault, running: Running, questions: list[Question]) -> None:
    running.wait_whole()

    async def ask() -> tuple[Counter[str], Ledger]:
        async with running.senders() as senders:
            examiner = Examiner(questions, senders=senders)
            codes: Counter[str] = Counter()

            async def load() -> None:
                run = await closed_loop(examiner.ask, clients=CLIENTS, seconds=WINDOW_SECONDS)
                codes.update(sample.code for sample in run.samples)

            await load()
            breaking = asyncio.create_task(fault(running.subject))
            while not breaking.done():
                await load()
            await load()
            return codes, examiner.ledger

    codes, ledger = asyncio.run(ask())
    assert set(codes) == {OK}, (codes, ledger.wrong)
    if fault is end_instance:
        # Who is told to end answers what it has, and gets no more: nobody has to ask again.
        assert ledger.failures == []
        # Nor has it been asked for so long that it had to be ended in the middle of its work.
        running.wait_whole()
        said = "".join((running.run_dir / f"{name}.log").read_text() for name in cluster.INSTANCES)
        assert "stopped pid" in said
        assert "unanswered" not in said


@pytest.mark.parametrize("kind", KINDS)
def test_request_whose_instance_dies_is_not_played_again(
    kind: str, running: Running, questions: list[Question]
) -> None:
    running.wait_whole()
    workers = {worker.pid: server for server in running.servers for worker in readiness.workers(server)}

    async def ask() -> tuple[int, str]:
        async with running.senders(kind) as (http, _):
            suspended = decoders(running.servers)
            for process in suspended:
                process.suspend()
            asked = asyncio.create_task(http.send(questions[0].data, {}))
            await asyncio.sleep(0.5)
            busy = [server for pid, server in workers.items() if is_busy(server.temp_dir, pid=pid)]
            if len(busy) == 1:
                os.kill(busy[0].pid, signal.SIGKILL)
            for process in suspended:
                process.resume()
            return len(busy), (await asked).code

    for _ in range(3):
        busy, code = asyncio.run(ask())
        if busy == 1:  # or the other is, with a canary
            break
    # The other instance would have answered it.
    assert (busy, code) == (1, "unreachable")


@pytest.mark.parametrize("kind", KINDS)
def test_strangers_are_refused_at_the_edge(kind: str, running: Running, questions: list[Question]) -> None:
    async def ask(api_key: str) -> list[str]:
        async with running.senders(kind, api_key=api_key) as senders:
            return [(await sender.send(questions[0].data, {})).code for sender in senders]

    running.wait_whole()
    before = [answered(server) for server in running.servers]
    for api_key in ("no-key-of-anybody", running.api_key.swapcase()):
        over_http, over_grpc = asyncio.run(ask(api_key))
        assert over_http == "unauthorized"
        # HAProxy's answer to a call of which bytes are still on their way ends as a cancelled call.
        assert (
            over_grpc
            in {"nginx": ["gRPC UNAUTHENTICATED"], "haproxy": ["gRPC UNAUTHENTICATED", "gRPC CANCELLED"]}[kind]
        )
    assert [answered(server) for server in running.servers] == before
    assert httpx.post(url(running, kind, "/models/mini/invoke"), content=b"x").json()["error"]["code"] == "unauthorized"
    headers = {"x-api-key": running.api_key}
    for path in ("/models/mini", "/ping", "/metrics", "/models?url=http://127.0.0.1/x.mar"):
        assert httpx.post(url(running, kind, path), headers=headers).status_code in (403, 404), path


@pytest.mark.parametrize("kind", KINDS)
def test_open_inference_protocol_is_offered_neither_by_instances_nor_at_the_edge(kind: str, running: Running) -> None:
    """TorchServe's turns tensors to JSON; Triton offers it."""
    running.wait_whole()
    edge, instance = running.edges[kind], running.servers[0]
    for address in (instance.grpc_address, f"{edge.host}:{edge.grpc_port}"):
        with grpc.insecure_channel(address) as channel:
            live = channel.unary_unary("/org.pytorch.serve.grpc.openinference.GRPCInferenceService/ServerLive")
            with pytest.raises(grpc.RpcError) as refused:
                live(b"", timeout=20, metadata=[("x-api-key", running.api_key)])
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    for url_of in (instance.url, url(running, kind, "")):
        assert httpx.get(f"{url_of}/v2/health/live", headers={"x-api-key": running.api_key}).status_code == 404


@pytest.mark.parametrize("kind", KINDS)
def test_oversize_is_refused_and_keeps_nobody_from_being_answered(
    kind: str, running: Running, questions: list[Question]
) -> None:
    async def ask() -> list[str]:
        async with running.senders(kind) as senders:
            await send_oversize(replace(running.subject, senders=senders))
            return [(await sender.send(questions[0].data, {})).code for sender in senders for _ in range(2)]

    assert asyncio.run(ask()) == [OK] * 4

    def uncounted() -> Iterator[bytes]:
        for _ in range(65):
            yield bytes(2**20)

    headers = {"x-api-key": running.api_key, "content-type": "application/octet-stream"}
    reply = httpx.post(
        url(running, kind, "/invocations?model_name=mini"), content=uncounted(), headers=headers, timeout=60
    )
    assert reply.status_code == {"nginx": 413, "haproxy": 411}[kind]


def test_page_needs_no_key(running: Running) -> None:
    assert httpx.get(url(running, "nginx", "/hello.html")).text == "hello"
    page = httpx.get(url(running, "nginx", "/"))
    assert page.text == (ROOT / "serve_config" / "page" / "index.html").read_text()
    assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert (page.headers["x-content-type-options"], page.headers["cache-control"]) == ("nosniff", "no-cache")
    assert httpx.put(url(running, "nginx", "/hello.html"), content=b"x").status_code == 403


def test_page_behind_nginx_asks_with_its_key_and_shows_the_answer(
    running: Running, browser: Browser, videos: list[bytes]
) -> None:
    page = browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Security Policy" in said.text else None)
    page.goto(url(running, "nginx", f"/?model={MODEL}"))
    clip = {"name": "clip.mp4", "mimeType": "video/mp4", "buffer": videos[0]}
    page.set_input_files("#file", clip)
    expect(page.locator("#error")).to_contain_text("no API key that is known here")
    expect(page.locator("#key")).to_be_focused()
    page.keyboard.type(running.api_key)
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_be_visible(timeout=30_000)
    with HttpClient(url(running, "nginx", ""), model=MODEL, api_key=running.api_key) as client:
        best = client.predict(videos[0]).video.labels[0]
    expect(page.locator("#top-label")).to_have_text(best.label)
    assert faults == []


def url(running: Running, kind: str, path: str) -> str:
    edge = running.edges[kind]
    return f"http://{edge.host}:{edge.http_port}{path}"


@pytest.mark.parametrize("kind", KINDS)
def test_tls_with_and_without_client_certificates(
    kind: str, running: Running, questions: list[Question], tmp_path: Path
) -> None:
    authority = trustme.CA()
    root = authority.cert_pem.bytes()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@example.org")
    files = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "client_ca", "client")}
    files["certificate"].write_bytes(server.cert_chain_pems[0].bytes())
    files["key"].write_bytes(server.private_key_pem.bytes())
    files["client_ca"].write_bytes(root)
    files["client"].write_bytes(client.private_key_and_cert_chain_pem.bytes())
    trusting, identified = (ssl.create_default_context(cadata=root.decode()) for _ in range(2))
    identified.load_cert_chain(files["client"])
    grpc_trusting = grpc.ssl_channel_credentials(root)
    grpc_identified = grpc.ssl_channel_credentials(
        root, client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()
    )
    plain = Edge("127.0.0.1", *torchserve.free_numbers(2), api_keys={running.api_key: "local"})
    question = questions[0]

    tls = Tls(files["certificate"], files["key"])
    with proxy_beside(kind, running, replace(plain, tls=tls), tmp_path / "tls"):
        assert ask_http(plain, trusting, running.api_key, question) == (200, question.answer)
        assert ask_http(plain, trusting, "x" * 20, question)[0] == 401
        assert ask_grpc(plain, grpc_trusting, running.api_key, question) == question.answer
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            ask_http(plain, ssl.create_default_context(), running.api_key, question)
    with proxy_beside(kind, running, replace(plain, tls=replace(tls, client_ca=files["client_ca"])), tmp_path / "mtls"):
        assert ask_http(plain, identified, running.api_key, question) == (200, question.answer)
        assert ask_grpc(plain, grpc_identified, running.api_key, question) == question.answer
        assert ask_http(plain, identified, "x" * 20, question)[0] == 401
        assert refused(lambda: ask_http(plain, trusting, running.api_key, question))
        assert refused(lambda: ask_grpc(plain, grpc_trusting, running.api_key, question))


def ask_http(edge: Edge, context: ssl.SSLContext, api_key: str, question: Question) -> tuple[int, bytes]:
    headers = {"x-api-key": api_key, "content-type": "application/octet-stream"}
    params = {"model_name": MODEL, **question.options}
    url = f"https://{edge.host}:{edge.http_port}/invocations"
    reply = httpx.post(url, params=params, content=question.data, headers=headers, verify=context, timeout=60)
    return reply.status_code, reply.content


def ask_grpc(edge: Edge, credentials: grpc.ChannelCredentials, api_key: str, question: Question) -> bytes:
    entries = {**{key: value.encode() for key, value in question.options.items()}, "data": question.data}
    with grpc.secure_channel(f"{edge.host}:{edge.grpc_port}", credentials) as channel:
        request = PredictionsRequest(model_name=MODEL, input=entries)
        reply = InferenceAPIsServiceStub(channel).Predictions(request, timeout=60, metadata=(("x-api-key", api_key),))
        prediction: bytes = reply.prediction
        return prediction


def refused(ask: Callable[[], object]) -> bool:
    """HAProxy ends the handshake; nginx lets it come about, and answers 400."""
    try:
        answer = ask()
    except (httpx.TransportError, grpc.RpcError):
        return True
    return isinstance(answer, tuple) and answer[0] == 400
