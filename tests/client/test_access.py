"""API keys, server certificates and client certificates, the same over HTTP and gRPC."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner
from tests.client.conftest import Identity

from sum3dcam.__main__ import main
from sum3dcam.client.grpc import GrpcClient
from sum3dcam.client.http import HttpClient
from sum3dcam.client.settings import Tls, read_api_key
from sum3dcam.errors import BadOptionError, RefusedError, UnauthorizedError, UnreachableError

KEY = "s3cret-key_0"


@dataclass(frozen=True)
class Certificates:
    """A server's identity that asks nobody for a certificate, one that does, and what a client needs for both."""

    server: Identity
    strict_server: Identity
    ca_file: Path
    client_file: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@example.com")
    ca = authority.cert_pem.bytes()
    key, chain = server.private_key_pem.bytes(), b"".join(blob.bytes() for blob in server.cert_chain_pems)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    client.private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    return Certificates(Identity(key, chain, None), Identity(key, chain, ca), folder / "ca.pem", folder / "client.pem")


@pytest.fixture(params=["waiting", "awaited"])
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def serve_as(serve: Any, make: Any, style: str) -> Any:
    def start(identity: Identity | None) -> Any:
        server = serve(identity)
        server.script.reply = make.reply(make.envelope())
        return replace(server, style=style)

    return start


def test_the_key_goes_with_every_request(serve_as: Any) -> None:
    server = serve_as(None)
    server.script.api_key = KEY
    with server.client(api_key=KEY) as client:
        client.predict(b"video")
        client.predict(b"video")
    for wrong in (None, "another"):
        with server.client(api_key=wrong) as client, pytest.raises(UnauthorizedError) as caught:
            client.predict(b"video")
        assert KEY not in str(caught.value)
    server.script.api_key = None  # and none goes unasked
    with server.client() as client:
        client.predict(b"video")


def test_a_server_is_trusted_by_its_authority_alone(serve_as: Any, certificates: Certificates) -> None:
    server = serve_as(certificates.server)
    with server.client(tls=Tls(ca_file=certificates.ca_file)) as client:
        client.predict(b"video")
    with server.client() as client, pytest.raises(RefusedError, match=r"(?i)certificate"):
        client.predict(b"video")


def test_a_server_that_asks_for_a_certificate_gets_it(serve_as: Any, certificates: Certificates) -> None:
    server = serve_as(certificates.strict_server)
    with server.client(tls=Tls(certificates.ca_file, certificates.client_file)) as client:
        client.predict(b"video")
    with server.client(tls=Tls(certificates.ca_file)) as client:
        for _ in range(5):  # the refusal may come before, while or after the request is written
            with pytest.raises(UnreachableError):
                client.predict(b"video")
    assert len(server.script.requests) == 1


ADDRESSES = {HttpClient: "{}://127.0.0.1:1", GrpcClient: "{}127.0.0.1:1"}


@pytest.mark.parametrize("kind", ADDRESSES)
def test_certificates_that_cannot_be_used_are_refused_at_once(kind: Any, tmp_path: Path) -> None:
    clear, encrypted = (ADDRESSES[kind].format(scheme) for scheme in _schemes(kind))
    with pytest.raises(BadOptionError, match="cannot be"):
        kind(encrypted, tls=Tls(ca_file=tmp_path / "none.pem"))
    with pytest.raises(BadOptionError, match="without encryption"):
        kind(clear, tls=Tls(ca_file=tmp_path / "none.pem"))


def _schemes(kind: Any) -> tuple[str, str]:
    return ("http", "https") if kind is HttpClient else ("", "grpcs://")


@pytest.mark.parametrize("kind", ADDRESSES)
@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(kind: Any, key: str) -> None:
    with pytest.raises(BadOptionError) as caught:
        kind(ADDRESSES[kind].format(_schemes(kind)[0]), api_key=key)
    assert not key or key not in str(caught.value)


def test_a_key_comes_from_the_file_named_else_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_api_key(file, environment={"SUM3DCAM_API_KEY": "other"}) == KEY
    assert read_api_key(None, environment={"SUM3DCAM_API_KEY": "other"}) == "other"
    assert read_api_key(None, environment={}) is None
    with pytest.raises(BadOptionError, match="none cannot be read"):
        read_api_key(tmp_path / "none")


def test_the_command_takes_both(serve: Any, make: Any, certificates: Certificates, tmp_path: Path) -> None:
    server = serve(certificates.strict_server)
    server.script.reply, server.script.api_key = make.reply(make.envelope()), KEY
    video = make.video(tmp_path / "one.mp4", make.grey_frames(6))
    given = [
        "predict", str(video), server.flag, server.address,
        "--ca-file", str(certificates.ca_file), "--cert-file", str(certificates.client_file),
    ]  # fmt: skip
    done = CliRunner().invoke(main, given, env={"SUM3DCAM_API_KEY": KEY})
    assert done.exit_code == 0, done.output
    refused = CliRunner().invoke(main, given, env={"SUM3DCAM_API_KEY": None})
    assert (refused.exit_code, "API key" in refused.stderr) == (1, True)
    half = CliRunner().invoke(main, ["predict", str(video), "--key-file", str(certificates.client_file)])
    assert (half.exit_code, "give both" in half.stderr) == (2, True)
