"""Attack matrix 115: no caller names an address that we open, and no client of ours is led to another one by who answers."""

from __future__ import annotations

import ast
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trio

from builder.fault import BuildFault
from builder.submit import Instance, Submission, submit
from clients.cli.exits import Failure
from clients.cli.server import Access, Server
from clients.demo.certificate import make_certificate
from gatekeeper.adapters.git import GitAccess, Mirror, open_git, parse_remote
from gatekeeper.adapters.vault import Connection, VaultAddress
from gatekeeper.ports.errors import PortError, Rejected, Unavailable
from tests.fakes import signing
from tests.fakes.api import CI, running_api
from tests.fakes.house import COMPONENT, ENVIRONMENT

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
INSIDE = [
    "http://127.0.0.1:{port}/", "https://localhost:{port}/", "http://169.254.169.254/latest/meta-data/", "http://[::ffff:127.0.0.1]:{port}/",
    "http://2130706433:{port}/", "http://0x7f.1:{port}/", "http://0:{port}/", "file:///etc/passwd", "gopher://127.0.0.1:{port}/_x",
    "ext::sh -c 'touch owned'", "//127.0.0.1:{port}/", "http://evil.example@127.0.0.1:{port}/",
]  # fmt: skip


@pytest.fixture
def inside():
    """Something that must never be asked; `asked` are the connections it got."""
    asked, stop = [], threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def take():
        while not stop.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                asked.append(connection.getpeername())
                connection.close()

    thread = threading.Thread(target=take)
    thread.start()
    yield listener.getsockname()[1], asked
    stop.set()
    thread.join()
    listener.close()


async def test_no_text_of_a_caller_is_ever_opened_as_an_address(inside):
    port, asked = inside
    async with running_api() as api:
        token = api.token()
        for form in INSIDE:
            url = form.format(port=port)
            for member in ("environment", "component", "artifact", "config", "reason"):
                await api.post("/v1/pings", token, {"environment": ENVIRONMENT, "component": COMPONENT, member: url}, key="k")
            for path in (f"/v1/artifacts?project={url}", f"/v1/pings/{url.replace('/', '%2F')}"):
                if " " not in path:
                    await api.get(path, token)
            run = api.house.ca.run()
            source = {"repository": url, "commit": signing.COMMIT, "tree": signing.TREE}
            await api.post("/v1/artifacts", api.run_token(), run.sign(signing.manifest_statement(source=source)))
            await api.post("/v1/artifacts", api.run_token(), run.sign(signing.provenance_statement(repository=url)))
            now = int(api.house.clock().timestamp())
            for changes in ({"iss": url}, {"builder_id": url}, {"project": url}):
                await api.get("/v1/whoami", CI.token(signing.run_claims(now, **{"aud": "pingee:production", **changes})))
            for header in ({"jku": url}, {"x5u": url}, {"kid": url}):
                head = {"alg": "ES256", "kid": "k1", **header}
                (await api.get("/v1/whoami", CI.token(signing.run_claims(now, aud="pingee:production"), header=head))).refused(401, "unauthenticated")
            if " " not in url:
                await api.get("/v1/running", token, x_forwarded_host=url, forwarded=f"host={url}", referer=url, origin=url, callback=url)
        assert (await api.get("/v1/running")).status == 200
    assert asked == []


# redirects


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    make_certificate(directory, "a CA of the test")
    return directory


@contextmanager
def redirecting(certificates, to, status=302):
    """A server with a good certificate that sends everybody elsewhere; the requests it got."""
    seen = []

    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append(self.path)
            self.send_response(status)
            self.send_header("Location", to)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = do_LIST = do_GET

        def log_message(self, *_):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "tls.pem", certificates / "tls.key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Redirect)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_vaults_client_follows_no_redirect_with_its_token(certificates, inside, status):
    port, asked = inside
    with redirecting(certificates, f"http://127.0.0.1:{port}/", status) as (url, seen):
        connection = Connection(VaultAddress(url, certificates / "ca.pem"), "canary-token")
        for call in (lambda: connection.read("secret/x"), lambda: connection.write("secret/x", {"a": "b"})):
            with pytest.raises(PortError, match="redirect") as caught:
                call()
            assert "canary" not in str(caught.value)
        connection.close()
    assert len(seen) == 2
    assert asked == []


def test_the_command_line_follows_no_redirect_with_its_token(certificates, inside):
    port, asked = inside
    with redirecting(certificates, f"http://127.0.0.1:{port}/") as (url, seen):
        server = Server(Access(url=url, ca_file=certificates / "ca.pem", token="canary-token", token_file=None, timeout_s=5))
        for call in (lambda: server.get("/v1/running"), lambda: server.post("/v1/pings", b"{}", headers={"Idempotency-Key": "k"})):
            with pytest.raises(Failure, match="HTTP 302"):
                call()
        server.__exit__()
    assert len(seen) == 2
    assert asked == []


def test_the_builders_client_follows_no_redirect_with_its_token(certificates, inside):
    port, asked = inside
    with redirecting(certificates, f"http://127.0.0.1:{port}/") as (url, seen):
        instance = Instance(name="test", url=url, ca_file=certificates / "ca.pem", token="a.canary.token")
        with pytest.raises(BuildFault, match="302"):
            submit((instance,), Submission(manifest=b"{}", provenance=None, results=(), blobs={}), pause=lambda _: None)
    assert seen
    assert asked == []


async def test_git_follows_no_redirect_and_speaks_three_transports(certificates, inside, tmp_path):
    port, asked = inside
    git = open_git(tmp_path / "state", GitAccess(ca_file=certificates / "ca.pem"))
    with redirecting(certificates, f"http://127.0.0.1:{port}/x.git/info/refs?service=git-upload-pack") as (url, seen):
        mirror = Mirror(git, f"{url}/x.git", ("+refs/heads/*:refs/heads/*",), clock=trio.current_time, interval_s=0)
        with pytest.raises(Unavailable, match="vcs-unavailable"):
            await mirror.fetch()
    assert seen
    # Past our own reading of addresses: git itself is told which transports there are.
    await mirror._make()
    for remote in (f"ext::sh -c 'touch {tmp_path}/owned'", f"fd::{0}", f"http://127.0.0.1:{port}/x.git", f"git://127.0.0.1:{port}/x.git"):
        result = await git.run("fetch", "--", remote, "refs/heads/main", git_dir=mirror._path)
        assert result.status != 0
        assert b"not allowed" in result.stderr, result.stderr
    assert not (tmp_path / "owned").exists()
    assert asked == []


ADDRESSES = [
    "ext::sh -c id", "fd::17", "git://127.0.0.1/x", "http://169.254.169.254/x", "ftp://host/x", "file://host/x", "-oProxyCommand=id", "host:path",
    "ssh://-oProxyCommand=id/x", "ssh://-l@host/x", "https://user@host/x", "https://user:secret@host/x", "https:///x", "https://host", "https://host/x?y",
    "https://host/x#y", "https://host/a b", "https://host/a\nb", "https://host:99999/x", "", "file://", "https://[::1/x", "ext::https://host/x",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_repository_of_another_form_is_refused(address):
    with pytest.raises(Rejected, match="vcs-unavailable") as caught:
        parse_remote(address)
    assert "secret" not in str(caught.value)


def test_whoever_opens_connections_is_known_and_told_not_to_follow():
    """A new client shows up here, and gets its test above."""
    opened = {}
    for room in ("gatekeeper", "builder", "clients"):
        for file in (ROOT / room).rglob("*.py"):
            name = str(file.relative_to(ROOT))
            if name.startswith("clients/demo/"):
                continue
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in CLIENTS:
                    told = {word.arg: ast.unparse(word.value) for word in node.keywords}
                    opened.setdefault(ast.unparse(node.func), []).append((name, told))
    assert {what: {name for name, _ in places} for what, places in opened.items()} == {
        "httpx2.Client": {"builder/submit.py", "clients/cli/reach.py", "clients/cli/server.py"},
        "hvac.Client": {"gatekeeper/adapters/vault.py"},
        # the registry's follows nothing by itself: test_hostile_registry.py shows where it goes, and that no credential goes with it
        "requests.Session": {"gatekeeper/adapters/oci.py", "gatekeeper/adapters/vault.py"},
        "asyncssh.connect": {"gatekeeper/adapters/ssh.py"},
        # no clients that could follow: one request to one address; test_witness_process.py and test_https_fetch.py show that a redirect is no answer
        "trio.open_tcp_stream": {"gatekeeper/adapters/https_fetch.py", "gatekeeper/adapters/witness.py"},
        "http.client.HTTPConnection": {"clients/doorkeeper/workload.py"},
        # to the one deployment that the order of an acceptance stage names; and the doctor's, to the server that its user names
        "socket.create_connection": {"builder/forward.py", "clients/cli/reach.py"},
    }
    for _, told in opened["httpx2.Client"]:
        assert (told["follow_redirects"], told["trust_env"]) == ("False", "False")
    assert all(told["allow_redirects"] == "False" for _, told in opened["hvac.Client"])
    assert all(told["config"] == "None" for _, told in opened["asyncssh.connect"]), "no ProxyCommand of a user's file"
    text = (ROOT / "clients/doorkeeper/workload.py").read_text()
    assert 'HTTPConnection("127.0.0.1", port' in text, "the health check asks this machine, at the port that the target's own file names"


CLIENTS = {
    "httpx2.Client", "httpx2.AsyncClient", "httpx2.get", "httpx2.post", "httpx2.stream", "hvac.Client", "requests.Session", "requests.get", "requests.post",
    "asyncssh.connect", "http.client.HTTPConnection", "http.client.HTTPSConnection", "urllib.request.urlopen", "urlopen", "socket.create_connection",
    "trio.open_tcp_stream", "trio.open_ssl_over_tcp_stream", "asyncio.open_connection",
}  # fmt: skip
