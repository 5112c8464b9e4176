"""An OCI registry in memory, over TLS: honest unless a test hands it a `fault`. It checks nothing that our side must check itself."""

from __future__ import annotations

import base64
import json
import re
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.uris import OCI_INDEX
from gatekeeper.ports.registry import RegistryAddress
from tests.fakes.peers import peer

TOKEN = "token-of-the-registry"
DEADLINE_S = 20


@dataclass(frozen=True)
class Asked:
    """A request, as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


@dataclass
class FakeRegistry:
    """Its contents, what it was asked, and how it misbehaves."""

    url: str = ""
    referrers_api: bool = True
    scheme: str = ""
    """"", "Basic" or "Bearer"; the latter two ask for `user` and `secret`"""
    realm: str = ""
    fault: Callable[[RegistryRequest], bool] | None = None
    """answers in the registry's place, and returns whether it did"""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def alter(self, digest: str, data: bytes) -> None:
        """Have other bytes under that digest."""
        self.blobs[digest] = data
        if digest in self.manifests:
            self.manifests[digest] = (self.manifests[digest][0], data)

    def of(self, method: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method]


class RegistryRequest(BaseHTTPRequestHandler):
    """One request to a `FakeRegistry`."""

    protocol_version = "HTTP/1.1"
    registry: FakeRegistry

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked = Asked(self.command, parts.path, parse_qs(parts.query), dict(self.headers.items()))
        self.registry.asked.append(self.asked)
        if self.registry.fault is not None and self.registry.fault(self):
            return
        if parts.path == "/token":
            self.answer(200, json.dumps({"token": TOKEN, "expires_in": 300}).encode(), {"Content-Type": "application/json"})
        elif not self.authorised():
            realm = f' realm="{self.registry.realm or self.registry.url + "/token"}",service="registry",scope="repository:*:*"'
            self.answer(401, b"{}", {"WWW-Authenticate": self.registry.scheme + (realm if self.registry.scheme == "Bearer" else ' realm="r"')})
        else:
            self.route(parts.path)

    do_HEAD = do_PUT = do_POST = do_PATCH = do_GET

    def authorised(self) -> bool:
        expected = {"": None, "Basic": "Basic " + base64.b64encode(b"user:secret").decode(), "Bearer": f"Bearer {TOKEN}"}[self.registry.scheme]
        return expected is None or self.headers.get("Authorization") == expected

    def route(self, path: str) -> None:
        if found := re.fullmatch(r"/v2/team/app/blobs/uploads/([^/]*)", path):
            self.upload(found[1])
        elif found := re.fullmatch(r"/v2/team/app/(blobs|manifests|referrers)/([^/]+)", path):
            getattr(self, found[1])(found[2])
        else:
            self.answer(404, b"{}")

    def blobs(self, digest: str) -> None:
        data = self.registry.blobs.get(digest)
        self.answer(404, b"{}") if data is None else self.answer(200, data, {"Docker-Content-Digest": digest})

    def upload(self, name: str) -> None:
        uploads = self.registry.uploads
        if self.command == "POST":
            name = f"u{len(uploads)}-{time.monotonic_ns()}"
            uploads[name] = b""
            self.answer(202, b"", {"Location": f"/v2/team/app/blobs/uploads/{name}"})
        elif self.command == "PATCH":
            start = int(self.headers["Content-Range"].partition("-")[0])
            assert start == len(uploads[name])
            uploads[name] += self.body
            self.answer(202, b"", {"Location": f"/v2/team/app/blobs/uploads/{name}", "Range": f"0-{len(uploads[name]) - 1}"})
        else:
            digest = self.asked.query["digest"][0]
            self.registry.blobs[digest] = uploads.pop(name)
            self.answer(201, b"", {"Docker-Content-Digest": digest})

    def manifests(self, name: str) -> None:
        kept = self.registry.manifests
        if self.command == "PUT":
            digest = digest_of(self.body)
            kept[name] = kept[digest] = (self.headers["Content-Type"], self.body)
            subject = json.loads(self.body).get("subject")
            told = {"OCI-Subject": subject["digest"]} if subject and self.registry.referrers_api else {}
            self.answer(201, b"", {"Docker-Content-Digest": digest, **told})
        elif name in kept:
            media_type, data = kept[name]
            self.answer(200, data, {"Content-Type": media_type, "Docker-Content-Digest": name if ":" in name else digest_of(data)})
        else:
            self.answer(404, b"{}")

    def referrers(self, subject: str) -> None:
        if not self.registry.referrers_api:
            self.answer(404, b"{}")
            return
        listed = [
            {"mediaType": media_type, "digest": name, "size": len(data)}
            for name, (media_type, data) in self.registry.manifests.items()
            if ":" in name and (json.loads(data).get("subject") or {}).get("digest") == subject
        ]
        self.answer(200, index_of(listed), {"Content-Type": OCI_INDEX})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def index_of(descriptors: list[dict[str, object]]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors}).encode()


@contextmanager
def running_registry(certificates: Path, **settings: object) -> Iterator[FakeRegistry]:
    """A `FakeRegistry` that listens on the loopback."""
    registry = FakeRegistry(**settings)  # type: ignore[arg-type]

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that hangs up in the middle is what several tests are about."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "tls.pem", certificates / "tls.key")
    server = Quiet(("127.0.0.1", 0), type("Request", (RegistryRequest,), {"registry": registry}))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    registry.url = f"https://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def address_of(registry: FakeRegistry, certificates: Path, **settings: object) -> RegistryAddress:
    return RegistryAddress(registry.url, "team/app", certificates / "ca.pem", **settings)  # type: ignore[arg-type]


class RealRegistry:
    """A foreign registry's process. `alter` is None where its bytes are out of reach."""

    def __init__(self, url: str, directory: Path | None = None) -> None:
        self.url = url
        self._directory = directory

    def alter(self, digest: str, data: bytes) -> None:
        if self._directory is None:
            pytest.skip("the bytes of this registry lie in its memory")
        name = digest_hex(digest)
        (self._directory / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data").write_bytes(data)


@contextmanager
def running_oci_registry(certificates: Path, *, referrers: bool = True) -> Iterator[RealRegistry]:
    """go-containerregistry's registry."""
    command = [str(peer("oci-registry", "oci-registry")), f"-certificate={certificates}/tls.pem", f"-key={certificates}/tls.key"]
    with _process([*command, f"-referrers={str(referrers).lower()}"], stdout=subprocess.PIPE) as process:
        port = int(process.stdout.readline())
        yield RealRegistry(f"https://127.0.0.1:{port}")


@contextmanager
def running_docker_registry(certificates: Path) -> Iterator[RealRegistry]:
    """Debian's docker-registry, on a directory."""
    with tempfile.TemporaryDirectory(prefix="pingee-docker-registry-") as name:
        directory = Path(name)
        settings = {
            "version": "0.1",
            "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": name}},
            "http": {"addr": "127.0.0.1:0", "tls": {"certificate": f"{certificates}/tls.pem", "key": f"{certificates}/tls.key"}},
        }
        (directory / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
        command = [str(peer("docker-registry", "docker-registry")), "serve", str(directory / "config.yml")]
        with (directory / "log").open("wb") as log, _process(command, stderr=log) as process:
            yield RealRegistry(f"https://127.0.0.1:{_port_named_in(directory / 'log', process)}", directory)


@contextmanager
def _process(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    options = {"stderr": subprocess.DEVNULL} | options
    process = subprocess.Popen(command, env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        if process.stdout is not None:
            process.stdout.close()


def _port_named_in(log: Path, process: subprocess.Popen[bytes]) -> int:
    """The port that it chose itself: one that we chose could be somebody else's by the time it listens."""
    ends = time.monotonic() + DEADLINE_S
    while time.monotonic() < ends:
        if found := re.search(rb"listening on 127\.0\.0\.1:([0-9]+)", log.read_bytes()):
            return int(found[1])
        assert process.poll() is None, "the registry ended"
        time.sleep(0.05)
    pytest.fail("the registry does not listen")
