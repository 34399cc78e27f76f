"""What the load balancers are told; that they do it is shown in tests/e2e/test_cluster.py."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import grpc
import httpx
import pytest
import trustme

from sum3dcam.errors import ArtifactError, ServerError
from sum3dcam.serving import proxy, torchserve
from sum3dcam.serving.proxy import Edge, Limits, Tls, Upstream
from sum3dcam.serving.settings import read_settings

TEMPLATES = Path(__file__).resolve().parents[2] / "serve_config"
KINDS = tuple(proxy.TEMPLATES)
KEY = "a-key-of-20-letters_"
SERVICE = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
SECRET = "Nobody-May-Read-This.mp4"
EDGE = Edge(host="127.0.0.1", http_port=18000, grpc_port=17000, api_keys={KEY: "someone"})
UPSTREAMS = {
    "a": Upstream(http="127.0.0.1:18080", grpc="127.0.0.1:17070", health="127.0.0.1:18083"),
    "b": Upstream(http="127.0.0.1:18180", grpc="127.0.0.1:17170", health="127.0.0.1:18183"),
}
LIMITS = Limits(request_bytes=123_456, answer_seconds=77, under_way=21)


def configured(kind: str, folder: Path, **changes: Any) -> str:
    facts = {"edge": EDGE, "upstreams": UPSTREAMS, "limits": LIMITS, "templates": TEMPLATES} | changes
    proxy.configure(kind, **facts, run_dir=folder, temp_dir=folder)
    return (folder / proxy.TEMPLATES[kind]).read_text()


def checks(kind: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The program's own opinion of its configuration."""
    check = {"nginx": "-t", "haproxy": "-c"}[kind]
    return subprocess.run([*proxy.command(kind, run_dir=folder), check], capture_output=True, text=True, check=False)


def test_limits_follow_from_what_the_instances_are_told() -> None:
    configs = [{"responseTimeout": 30, "jobQueueSize": 50, "batchSize": 4, "maxWorkers": 2}, {"responseTimeout": 45}]
    limits = proxy.read_limits(configs, properties={"max_request_size": "1000"})
    # A batch ahead and the request itself; what waits and what is in batches. The second has TorchServe's defaults.
    assert limits == Limits(request_bytes=1000, answer_seconds=90, under_way=50 + 2 * 4 + 100 + 1)


def test_the_edge_has_the_workers_limit_where_no_configuration_names_one() -> None:
    assert proxy.read_limits([{}], properties={}).request_bytes == read_settings(None, properties={}).limits.max_bytes
    with pytest.raises(ArtifactError, match="max_request_size"):
        proxy.read_limits([{}], properties={"max_request_size": "64M"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_tls", ["", "tls", "mtls"])
def test_the_program_accepts_its_configuration(kind: str, with_tls: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    certificate, key, ca = (tmp_path / name for name in ("certificate.pem", "key.pem", "ca.pem"))
    certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    ca.write_bytes(authority.cert_pem.bytes())
    tls = {"": None, "tls": Tls(certificate, key), "mtls": Tls(certificate, key, client_ca=ca)}[with_tls]
    configured(kind, tmp_path, edge=replace(EDGE, tls=tls))
    found = checks(kind, tmp_path)
    assert found.returncode == 0, found.stderr
    assert "warn" not in (found.stdout + found.stderr).lower()


@pytest.mark.parametrize("kind", KINDS)
def test_its_numbers_are_the_instances(kind: str, tmp_path: Path) -> None:
    # nginx counts what a client has under way on all instances, HAProxy what each of them has.
    share = {"nginx": len(UPSTREAMS), "haproxy": 1}[kind]
    others = Limits(request_bytes=654_321, answer_seconds=88, under_way=31)
    for limits, absent in ((LIMITS, others), (others, LIMITS)):
        text = configured(kind, tmp_path, limits=limits)
        found = set(re.findall(r"\d+", text))
        assert found >= {str(n) for n in (limits.request_bytes, limits.answer_seconds, share * limits.under_way)}
        assert not found & {str(n) for n in (absent.request_bytes, absent.answer_seconds, share * absent.under_way)}


@pytest.mark.parametrize("kind", KINDS)
def test_what_holds_keys_is_for_its_owner_alone(kind: str, tmp_path: Path) -> None:
    configured(kind, tmp_path)
    for path in tmp_path.iterdir():
        if KEY in path.read_text():
            assert path.stat().st_mode & 0o077 == 0, path.name


@pytest.mark.parametrize("kind", KINDS)
def test_logs_hold_nothing_that_users_send(kind: str, tmp_path: Path) -> None:
    """Over both transports: refused at the edge, larger than allowed, and meant for instances that are not there."""
    http_port, grpc_port, *nobodys = torchserve.free_numbers(8)
    upstreams = {
        name: Upstream(*(f"127.0.0.1:{port}" for port in nobodys[place::2])) for place, name in enumerate(UPSTREAMS)
    }
    configured(kind, tmp_path, edge=replace(EDGE, http_port=http_port, grpc_port=grpc_port), upstreams=upstreams)
    log = tmp_path / "proxy.log"
    with (
        log.open("w") as out,
        subprocess.Popen(proxy.command(kind, run_dir=tmp_path), stdout=out, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_listening(http_port)
            with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", headers={"x-api-key": KEY}, timeout=20) as http:
                for path in ("/", "/invoke/", "/models/m/invoke/", "/models/m/invoke%2F", "/modelsX"):
                    assert http.put(f"{path}{SECRET}").status_code in (403, 404)
                for body in (b"x", bytes(LIMITS.request_bytes + 1)):
                    refused = http.post(f"/models/m/invoke?target={SECRET}", content=body)
                    assert refused.json()["error"]["code"] in ("overloaded", "unreachable", "too_large")
            with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
                for service in (SERVICE, SECRET):
                    with pytest.raises(grpc.RpcError):
                        channel.unary_unary(f"/{service}/{SECRET}")(b"", timeout=20, metadata=[("x-api-key", KEY)])
            with closing(socket.create_connection(("127.0.0.1", http_port), timeout=20)) as raw:
                raw.sendall(f"GET /{SECRET} {SECRET}\r\n\r\n".encode())
                while raw.recv(4096):
                    pass
        finally:
            process.terminate()
    logs = {path.name: path.read_text() for path in tmp_path.glob("*.log")}
    assert [name for name, text in logs.items() if SECRET in text] == []
    logged = [json.loads(line) for text in logs.values() for line in text.splitlines() if line.startswith("{")]
    assert len(logged) >= 9
    parts = {line["request"].split(" ")[-1] for line in logged}
    assert parts - {"/", "-"} == {"/models", f"/{SERVICE}"}


def wait_listening(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < until, "the proxy does not listen"
            time.sleep(0.05)


def test_nginx_spares_who_is_down_and_breaks_no_connection_for_it(instances: dict[str, Upstream]) -> None:
    """Not with `tmp_path`: nginx's processes are nobody's, who may not look into it."""
    http_port, grpc_port = torchserve.free_numbers(2)
    edge = replace(EDGE, http_port=http_port, grpc_port=grpc_port)
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        configured("nginx", folder, edge=edge, upstreams=instances)
        with (
            subprocess.Popen(proxy.command("nginx", run_dir=folder)) as process,
            socket.socket() as kept,
            grpc.insecure_channel(f"127.0.0.1:{grpc_port}", options=[("grpc.enable_http_proxy", 0)]) as channel,
        ):
            call = channel.unary_unary(f"/{SERVICE}/Predictions")
            try:
                wait_listening(http_port)
                kept.connect(("127.0.0.1", http_port))
                for down, answering in (("", "ab"), ("a", "b"), ("b", "a"), ("ab", "ab"), ("", "ab")):
                    proxy.mark_down(down, temp_dir=folder)
                    assert {ask(kept) for _ in range(6)} == set(answering), down
                    said = {call(b"", timeout=20, metadata=[("x-api-key", KEY)]).decode() for _ in range(6)}
                    assert said == set(answering), down
            finally:
                process.terminate()


def ask(kept: socket.socket) -> str:
    """Who answers a request on this connection."""
    kept.sendall(f"POST /invocations HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: 0\r\n\r\n".encode())
    reply = HTTPResponse(kept, method="POST")
    reply.begin()
    assert (reply.status, reply.will_close) == (200, False)
    return reply.read().decode()


@pytest.fixture
def instances() -> Iterator[dict[str, Upstream]]:
    """Two servers that answer with their names, over both transports."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "1")
            self.end_headers()
            self.wfile.write(names[self.server.server_port].encode())  # type: ignore[attr-defined]

        def log_message(self, *words: object) -> None:
            """Nothing."""

    with ExitStack() as stack:
        names, upstreams = {}, {}
        for name in UPSTREAMS:
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
            stack.callback(server.shutdown)
            Thread(target=server.serve_forever).start()
            names[server.server_port] = name
            methods = {"Predictions": grpc.unary_unary_rpc_method_handler(lambda data, call, name=name: name.encode())}
            calls = grpc.server(ThreadPoolExecutor(1), [grpc.method_handlers_generic_handler(SERVICE, methods)])
            grpc_port = calls.add_insecure_port("127.0.0.1:0")
            calls.start()
            stack.callback(calls.stop, None)
            upstreams[name] = replace(
                UPSTREAMS[name], http=f"127.0.0.1:{server.server_port}", grpc=f"127.0.0.1:{grpc_port}"
            )
        yield upstreams


def test_keys_do_not_cross_a_network_in_clear(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="certificate"):
        configured("nginx", tmp_path, edge=replace(EDGE, host="0.0.0.0"))


def test_keys_are_read_with_their_clients(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# who KEY\n\nsomeone {KEY}\nother {KEY[::-1]}\n")
    assert proxy.read_api_keys(path) == {KEY: "someone", KEY[::-1]: "other"}


@pytest.mark.parametrize("text", ["", "# none\n", f"{KEY}\n", "someone short\n", f'someone {KEY}" 1; }}\n'])
def test_other_lines_are_no_keys(text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ServerError, match="API keys"):
        proxy.read_api_keys(path)


def test_a_key_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "keys"
    proxy.make_api_keys(path)
    assert path.stat().st_mode & 0o777 == 0o600
    (key,) = proxy.read_api_keys(path)
    assert len(key) >= 40


def test_absent_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "_DAEMONS", "/nonexistent")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ServerError, match="apt-get install haproxy"):
        proxy.find_program("haproxy")
