"""Attack matrix 61, 99, 115 at a real TLS port: one GET of an issuer's keys, bounded, never redirected, with no credential; then the API on it."""

import ipaddress
import ssl
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from clients.demo.certificate import make_certificate
from gatekeeper.adapters import https_fetch
from gatekeeper.adapters.https_fetch import MAX_ANSWER, HttpsFetch
from gatekeeper.deploy.keysets import KeySets
from gatekeeper.ports.errors import Unavailable
from tests.fakes import signing
from tests.fakes.api import CI, running_api
from tests.fakes.house import House
from tests.fakes.issuers import HandClock
from tests.fakes.platforms import changed, our_key

pytestmark = pytest.mark.anyio
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("issuer")
    make_certificate(directory, "issuer CA")
    return directory


class Issuer:
    """Answers each connection with `answer`; None: says nothing."""

    def __init__(self):
        self.answer, self.heard, self.port = OK, [], 0

    @property
    def url(self):
        return f"https://localhost:{self.port}/keys"

    async def serve(self, tls, task_status=trio.TASK_STATUS_IGNORED):
        listeners = await trio.open_ssl_over_tcp_listeners(0, tls, host="127.0.0.1", https_compatible=True)
        self.port = listeners[0].transport_listener.socket.getsockname()[1]
        await trio.serve_listeners(self._one, listeners, task_status=task_status)

    async def _one(self, stream):
        try:
            self.heard.append(await stream.receive_some(65536))
            if self.answer is None:
                await trio.sleep_forever()
            await stream.send_all(self.answer)
            await stream.aclose()
        except (trio.BrokenResourceError, ssl.SSLError, OSError):
            return


@asynccontextmanager
async def issuer(certificates):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "tls.pem", certificates / "tls.key")
    found = Issuer()
    async with trio.open_nursery() as nursery:
        await nursery.start(found.serve, context)
        yield found
        nursery.cancel_scope.cancel()


async def unavailable(fetch, url, words):
    with pytest.raises(Unavailable, match=words) as caught:
        await fetch.fetch(url)
    assert caught.value.cause_code == "identity-unavailable"


async def test_one_get_without_any_credential(certificates):
    async with issuer(certificates) as at:
        assert await HttpsFetch(certificates / "ca.pem").fetch(at.url) == b"{}"
        head = at.heard[0].decode().lower()
        assert head.startswith("get /keys http/1.1\r\n")
        assert "authorization" not in head
        assert "cookie" not in head


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
        (b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n", "HTTP 307"),
        (b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n", "HTTP 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", "encoded"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000, f"more than {MAX_ANSWER}"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000_000, f"more than {MAX_ANSWER}"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}", "cut"),
        (b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"y" * 100_000 + b"\r\n\r\n{}", "cut"),
        (b"not HTTP at all\r\n\r\n", "cut"),
        (b"", "cut"),
    ],
    ids=["302", "307", "503", "gzip", "too long", "without end", "truncated", "long head", "no HTTP", "nothing"],
)
async def test_every_other_answer_is_unavailable_and_followed_nowhere(certificates, answer, words):
    async with issuer(certificates) as at:
        at.answer = answer
        await unavailable(HttpsFetch(certificates / "ca.pem"), at.url, words)
        assert len(at.heard) == 1


async def test_an_issuer_that_says_nothing_is_left_in_time(certificates, monkeypatch):
    monkeypatch.setattr(https_fetch, "TIMEOUT_S", 0.2)
    async with issuer(certificates) as at:
        at.answer = None
        await unavailable(HttpsFetch(certificates / "ca.pem"), at.url, "no answer in time")


async def test_a_certificate_of_another_authority_or_name_is_no_connection(certificates):
    async with issuer(certificates) as at:
        await unavailable(HttpsFetch(None), at.url, "no connection")
        await unavailable(HttpsFetch(certificates / "ca.pem"), at.url.replace("localhost", "127.0.0.2"), "no connection")
        assert at.heard in ([], [b""])


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), ("none", "holds no certificate in PEM")])
def test_a_ca_file_that_cannot_be_used_is_named(tmp_path, content, words):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(OSError, match=words) as caught:
        HttpsFetch(file)
    assert caught.value.filename == str(file)


@pytest.mark.parametrize("url", ["http://localhost/keys", "file:///etc/passwd", "https:///keys"])
async def test_nothing_but_https_is_asked(certificates, url):
    await unavailable(HttpsFetch(certificates / "ca.pem"), url, "no connection")


async def test_another_scheme_asks_nobody_even_where_somebody_speaks_tls(certificates):
    async with issuer(certificates) as at:
        await unavailable(HttpsFetch(certificates / "ca.pem"), at.url.replace("https:", "http:"), "no connection, or it was cut: ValueError")
        assert at.heard == []


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0", "::", "224.0.0.1", "fe80::1%lo"])  # row 115
def test_addresses_that_are_never_asked(address):
    assert https_fetch._refused(address)
    assert not https_fetch._refused("10.0.0.5")
    assert ipaddress.ip_address(address.partition("%")[0])


async def test_a_name_that_leads_to_the_clouds_own_address_is_not_asked(certificates, monkeypatch):
    async def look_up(*_, **__):
        return [(2, 1, 6, "", ("127.0.0.1", 443)), (2, 1, 6, "", ("169.254.169.254", 443))]

    monkeypatch.setattr(trio.socket, "getaddrinfo", look_up)
    await unavailable(HttpsFetch(certificates / "ca.pem"), "https://issuer.example/keys", "never asked")


@pytest.mark.parametrize("first", ["refuses", "is silent"])
async def test_the_next_address_of_a_name_is_asked_where_one_does_not_answer(certificates, monkeypatch, first):
    asked, connect = [], trio.open_tcp_stream

    async def look_up(*_, **__):
        return [(2, 1, 6, "", (address, 443)) for address in ("127.0.0.9", "127.0.0.1")]

    async def open_stream(address, port):
        asked.append(address)
        if address == "127.0.0.9":
            if first == "refuses":
                raise OSError("refused")
            await trio.sleep_forever()
        return await connect(address, port)

    monkeypatch.setattr(trio.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(trio, "open_tcp_stream", open_stream)
    async with issuer(certificates) as at:
        assert await HttpsFetch(certificates / "ca.pem").fetch(at.url) == b"{}"
    assert asked == ["127.0.0.9", "127.0.0.1"]


async def test_a_name_without_an_address_that_answers_is_no_connection(certificates, monkeypatch):
    async def look_up(*_, **__):
        return [(2, 1, 6, "", (f"127.0.0.{number}", 443)) for number in range(1, 9)]

    async def refuse(address, _port):
        asked.append(address)
        raise OSError("refused")

    asked = []
    monkeypatch.setattr(trio.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(trio, "open_tcp_stream", refuse)
    await unavailable(HttpsFetch(certificates / "ca.pem"), "https://issuer.example/keys", "no connection")
    assert len(asked) == https_fetch.ADDRESSES


# the API on fetched keys


GITLAB = """[issuers.gitlab]
kind = "gitlab"
url = "https://gitlab.example.com"
jwks_url = "{url}"
algorithms = ["RS256"]
triggers = ["push"]
[issuers.gitlab.projects]
"20" = "hello"
[issuers.gitlab.builders]
"gitlab.example.com/my-group/my-project//.gitlab-ci.yml@refs/heads/main" = "https://builders.example/gitlab"
"""
BUILDER = '[builders."https://builders.example/gitlab"]\nsigner = "x509:builder-ca"\nissuer = "gitlab"\nprojects = ["hello"]\n'


def in_time(house):
    now = int(house.clock().timestamp())
    return lambda claims: claims.update(iat=now, nbf=now, exp=now + 300)


async def test_fetched_keys_from_the_first_token_to_an_issuer_that_stays_away(certificates):
    house, clock = House(), HandClock()
    async with issuer(certificates) as at:
        files = house.policy.files
        files["issuers.toml"] += GITLAB.format(url=at.url).encode()
        files["builders.toml"] += BUILDER.encode()
        at.answer = b"HTTP/1.1 200 OK\r\n\r\n" + our_key("gitlab").jwks()
        async with running_api(house, keys=KeySets(HttpsFetch(certificates / "ca.pem"), clock=clock)) as api:
            good = changed("gitlab", in_time(house))
            ask = partial(api.get, "/v1/whoami")
            assert (await ask(good)).status == 200
            assert (await ask(CI.token(signing.run_claims(int(house.clock().timestamp()), aud="pingee:production")))).status == 200
            assert len(at.heard) == 1, "a pinned issuer's token asks nobody"
            other = changed("gitlab", lambda claims: (in_time(house)(claims), claims.update(project_id="21")))
            assert "names no project" in (await ask(other)).refused(403, "not-authorised")["detail"]
            unknown = our_key("gitlab").token({"iss": "https://gitlab.example.com"}, header={"alg": "RS256", "kid": "unknown"})
            assert "key is not one of" in (await ask(unknown)).refused(401, "unauthenticated")["detail"]
            at.answer = b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n"
            clock.now += 3599
            assert (await ask(good)).status == 200, "the last good set, while the issuer is away"
            assert "HTTP 503" in (await ask(unknown)).refused(503, "identity-unavailable")["detail"]
            clock.now += 1
            problem = (await ask(good)).refused(503, "identity-unavailable")
            assert "issuer gitlab" in problem["detail"]
            assert "HTTP 503" in problem["detail"]
            assert len(at.heard) == 2, "asked again after ten seconds, not sooner"


async def test_an_upload_with_a_token_of_fetched_keys_fetches_them_too(certificates):
    house = House()
    async with issuer(certificates) as at:
        house.policy.files["issuers.toml"] += GITLAB.format(url=at.url).encode()
        house.policy.files["builders.toml"] += BUILDER.encode()
        at.answer = b"HTTP/1.1 200 OK\r\n\r\n" + our_key("gitlab").jwks()
        async with running_api(house, keys=KeySets(HttpsFetch(certificates / "ca.pem"), clock=HandClock())) as api:
            digest = "sha256:" + "0" * 64
            answer = await api.ask("PUT", f"/v1/artifacts/{digest}/uploads/{digest}", changed("gitlab", in_time(house)), body=b"x")
            answer.refused(404, "unknown-manifest")
