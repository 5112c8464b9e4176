"""A registry that lies, stalls, points elsewhere and asks for passwords: what is refused, with which reason, and what never leaves."""

from __future__ import annotations

import gzip
import json
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from functools import partial
from types import SimpleNamespace

import pytest
import trio

from clients.demo.certificate import make_certificate
from gatekeeper.adapters import registry
from gatekeeper.adapters.disk import Disk
from gatekeeper.adapters.oci import OciLink, Transient
from gatekeeper.adapters.registry import RegistryStore, open_registry
from gatekeeper.model.digest import digest_hex, digest_of
from gatekeeper.model.uris import OCI_INDEX, OCI_MANIFEST
from gatekeeper.ports.artifacts import BlobDiffers, BlobMissing, BlobTooLarge
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.registry import RegistryAddress, origin_of
from tests.fakes.oci_registry import TOKEN, address_of, index_of, running_registry

pytestmark = pytest.mark.anyio

HELLO = b"hello, world\n"
DIGEST = digest_of(HELLO)
MEGA = 1024 * 1024
SECRET = "secret"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    make_certificate(directory, "a CA of the test")
    return directory


@pytest.fixture
def fake(certificates):
    with running_registry(certificates, blobs={DIGEST: HELLO}) as running:
        yield running


@pytest.fixture
def elsewhere(certificates):
    """Another host, as far as we are concerned: another port."""
    with running_registry(certificates, blobs={DIGEST: HELLO}) as running:
        yield running


@pytest.fixture
def opened(fake, certificates, tmp_path):
    """Opens the store; tries that follow a failure wait for nothing."""

    def open_it(**settings: object) -> RegistryStore:
        (tmp_path / "files").mkdir(exist_ok=True)
        link = OciLink(address_of(fake, certificates, **settings))
        return RegistryStore(link, tmp_path / "files", Disk("the directory for the registry\'s files", code="registry-unavailable", threads=4), max_blob=MEGA, pauses=(0, 0))

    return open_it


@pytest.fixture
def store(opened):
    return opened()


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def for_blob(answer):
    """A fault that answers whatever asks for a blob's bytes."""

    def fault(request) -> bool:
        if request.command != "GET" or "/blobs/sha256:" not in request.path:
            return False
        answer(request)
        return True

    return fault


def raw(request, head: dict[str, str], body: bytes, status: int = 200) -> None:
    """Headers and a body that need not fit each other; the connection ends."""
    request.send_response(status)
    for name, value in head.items():
        request.send_header(name, value)
    request.send_header("Connection", "close")
    request.end_headers()
    request.wfile.write(body)
    request.close_connection = True


def names(store) -> list[str]:
    return sorted(path.name for path in store._directory.iterdir())


async def read(store):
    return await store.read(DIGEST, max_bytes=MEGA)


# what it says about bytes


async def test_other_bytes_on_the_second_read_are_refused(store, fake):
    """Row 53: what was read once proves nothing about the next answer."""
    assert await read(store) == HELLO
    fake.blobs[DIGEST] = b"evil, world!\n"
    with pytest.raises(BlobDiffers, match="digest-mismatch: the registry has other bytes"):
        await read(store)
    with pytest.raises(BlobDiffers, match="digest-mismatch: the registry has other bytes"):
        await store.local(DIGEST)
    assert names(store) == []


async def test_a_file_that_was_downloaded_once_is_hashed_on_every_use_and_fetched_again_when_it_is_another(store, fake):
    path = await store.local(DIGEST)
    assert await store.local(DIGEST) == path
    assert len(fake.asked) == 1
    path.chmod(0o600)
    path.write_bytes(b"evil, world!\n")
    assert (await store.local(DIGEST)).read_bytes() == HELLO
    assert len(fake.asked) == 2


async def test_a_header_that_names_another_digest_is_refused(store, fake):
    """Row 54."""
    fake.fault = lambda request: "/sha256:" in request.path and (request.answer(200, HELLO, {"Docker-Content-Digest": digest_of(b"other")}) or True)
    for ask in (read(store), store.local(DIGEST), store.size(DIGEST)):
        with pytest.raises(BlobDiffers, match="digest-mismatch: the registry itself says"):
            await ask


async def test_a_header_that_names_the_right_digest_proves_nothing(store, fake):
    """Row 54, the other way."""
    fake.fault = for_blob(lambda request: request.answer(200, b"evil, world!\n", {"Docker-Content-Digest": DIGEST}))
    with pytest.raises(BlobDiffers, match="digest-mismatch: the registry has other bytes"):
        await read(store)


@pytest.mark.parametrize("size", ["9223372036854775808", "-1", "1e3", "0x10", "12,12", ""])
async def test_an_impossible_size_is_refused(store, fake, size):
    """Row 57, as the registry tells it."""
    fake.fault = lambda request: "/blobs/" in request.path and (raw(request, {"Content-Length": size}, b"") or True)
    with pytest.raises(Unavailable, match=r"registry-unavailable: (the registry names no possible size|no answer)"):
        await store.size(DIGEST)
    with pytest.raises(Unavailable, match="registry-unavailable"):
        await read(store)


async def test_a_size_beyond_the_limit_is_refused_before_a_byte_is_read(store, fake):
    """Row 57: the size comes first."""
    fake.fault = for_blob(lambda request: raw(request, {"Content-Length": str(1024**4)}, HELLO))
    with pytest.raises(BlobTooLarge, match="too-large: more than"):
        await read(store)
    with pytest.raises(BlobTooLarge, match="too-large: more than"):
        await store.local(DIGEST)
    assert len(fake.asked) == 2  # and nothing is tried again


async def test_a_body_without_end_is_cut_at_the_limit(store, fake):
    def endless(request) -> None:
        request.send_response(200)
        request.send_header("Connection", "close")
        request.end_headers()
        while True:
            request.wfile.write(b"x" * 65536)

    fake.fault = for_blob(endless)
    with pytest.raises(BlobTooLarge, match="too-large: more than"):
        await read(store)
    with pytest.raises(BlobTooLarge, match="too-large: more than"):
        await store.local(DIGEST)
    assert names(store) == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
async def test_an_encoded_answer_is_refused_and_not_unpacked(store, fake, encoding):
    """Row 60, the bomb in transit: nobody unpacks anything here."""
    bomb = gzip.compress(b"\0" * 50 * MEGA)
    fake.fault = for_blob(lambda request: request.answer(200, bomb, {"Content-Encoding": encoding}))
    with pytest.raises(Unavailable, match="registry-unavailable: the registry encodes what it was asked for as it is"):
        await read(store)


@pytest.mark.parametrize("cut", [0, 1, len(HELLO) - 1])
async def test_a_body_that_is_cut_short_is_asked_for_three_times_and_never_taken(store, fake, cut):
    """Row 62."""
    fake.fault = for_blob(lambda request: raw(request, {"Content-Length": str(len(HELLO))}, HELLO[:cut]))
    with pytest.raises(Unavailable, match="registry-unavailable: the registry's answer was cut short"):
        await store.local(DIGEST)
    assert len(fake.asked) == 3
    assert names(store) == []


@pytest.mark.parametrize(("said", "words"), [("11", "was cut short"), ("9", None)])
def test_the_length_is_counted_by_us_also_where_the_library_does_not(fake, certificates, said, words):
    body = iter([b"hello", b"four", b""])
    answer = SimpleNamespace(headers={"Content-Length": said}, raw=SimpleNamespace(read1=lambda *_, **__: next(body)))
    provider = OciLink(address_of(fake, certificates))._provider
    with provider.within(10):
        if words is None:
            assert b"".join(provider.pieces(answer, MEGA)) == b"hellofour"
        else:
            with pytest.raises(Transient, match=words):
                b"".join(provider.pieces(answer, MEGA))


async def test_a_connection_that_is_reset_in_the_middle_is_tried_again_and_works(store, fake):
    def reset_once(request) -> bool:
        if len(fake.asked) > 1:
            return False
        linger = struct.pack("ii", 1, 0)  # close sends RST
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.connection.close()
        request.close_connection = True
        return True

    fake.fault = reset_once
    assert await read(store) == HELLO
    assert len(fake.asked) == 2


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_passes_is_tried_again_and_no_more_than_three_times(store, fake, status):
    """Row 62."""
    fake.fault = lambda request: request.answer(status, b"busy: canary") or True
    for ask in (read(store), store.size(DIGEST), store.put(DIGEST, chunks(HELLO), max_bytes=MEGA), store.referrers(DIGEST)):
        fake.asked.clear()
        with pytest.raises(Unavailable, match=f"registry-unavailable: the registry answers with HTTP {status}$"):
            await ask
        assert len(fake.asked) == 3


@pytest.mark.parametrize("status", [400, 405, 416, 418, 501])
async def test_what_does_not_pass_is_not_tried_again(store, fake, status):
    fake.fault = lambda request: request.answer(status, b"canary") or True
    with pytest.raises(Unavailable, match=f"registry-unavailable: the registry answers with HTTP {status}$"):
        await read(store)
    assert len(fake.asked) == 1


async def test_a_success_that_came_late_is_a_success(store, fake):
    fake.fault = lambda request: len(fake.asked) < 3 and (request.answer(503, b"") or True)
    assert await read(store) == HELLO


async def test_a_registry_that_drips_is_left_at_the_deadline(store, fake, monkeypatch):
    monkeypatch.setattr(RegistryStore._ask, "__kwdefaults__", {"deadline_s": 0.5})

    def drip(request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        for _ in range(40):
            request.wfile.write(b"x")
            time.sleep(0.05)

    fake.fault = for_blob(drip)
    started = trio.current_time()
    with pytest.raises(Unavailable, match=r"registry-unavailable: .*too slow"):
        await read(store)
    assert trio.current_time() - started < 2


def test_every_piece_and_every_request_is_within_the_time_that_is_left(fake, certificates):
    answer = SimpleNamespace(headers={}, raw=SimpleNamespace(read1=lambda *_, **__: b"drip"))
    provider = OciLink(address_of(fake, certificates))._provider
    with provider.within(0):
        with pytest.raises(Unavailable, match="the registry is too slow"):
            next(provider.pieces(answer, MEGA))
        with pytest.raises(Unavailable, match="the registry is too slow"):
            provider.do_request(fake.url)
    assert fake.asked == []


async def test_a_closed_port_is_unavailable(certificates, tmp_path):
    address = RegistryAddress("https://127.0.0.1:1", "team/app", certificates / "ca.pem")
    (tmp_path / "files").mkdir()
    store = RegistryStore(OciLink(address), tmp_path / "files", Disk("the directory for the registry\'s files", code="registry-unavailable", threads=2), max_blob=MEGA, pauses=())
    with pytest.raises(Unavailable, match="registry-unavailable: no answer from the registry"):
        await store.size(DIGEST)


async def test_a_certificate_of_another_ca_is_refused(fake, tmp_path):
    make_certificate(tmp_path / "other", "another CA")
    store = await open_registry(address_of(fake, tmp_path / "other"), tmp_path / "files", max_blob=MEGA)
    with pytest.raises(Unavailable, match="registry-unavailable: the registry's certificate is not one of its CA"):
        await store.size(DIGEST)
    assert fake.asked == []


async def test_a_ca_file_that_is_missing_is_told_at_the_start(fake, tmp_path):
    with pytest.raises(Unavailable, match=r"registry-unavailable: .*No such file"):
        await open_registry(address_of(fake, tmp_path / "absent"), tmp_path / "files", max_blob=MEGA)


# where it points


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_is_refused_and_not_asked(opened, fake, elsewhere, status):
    """Row 61."""
    fake.scheme = "Basic"
    store = opened(username="user", password=SECRET)
    fake.fault = lambda request: (
        request.headers.get("Authorization") is not None and (request.answer(status, b"", {"Location": elsewhere.url + request.path}) or True)
    )
    with pytest.raises(Unavailable, match="registry-unavailable: the registry redirects to a host that is not listed in blob_hosts"):
        await read(store)
    assert elsewhere.asked == []


async def test_a_redirect_to_a_listed_host_is_followed_without_a_credential_and_hashed(opened, fake, elsewhere):
    """Row 61 and 64: a mirror may hold the bytes, and is believed no more than the registry."""
    fake.scheme = "Bearer"
    store = opened(username="user", password=SECRET, blob_hosts=(elsewhere.url.removeprefix("https://"),))
    fake.fault = lambda request: (
        "/blobs/" in request.path and request.authorised() and (request.answer(307, b"", {"Location": f"{elsewhere.url}{request.path}?signed=1"}) or True)
    )
    assert await read(store) == HELLO
    assert [asked.headers.get("Authorization") for asked in elsewhere.asked] == [None]
    elsewhere.blobs[DIGEST] = b"evil, world!\n"
    with pytest.raises(BlobDiffers, match="digest-mismatch"):
        await read(store)


async def test_redirects_that_never_end_are_left(store, fake):
    fake.fault = lambda request: request.answer(302, b"", {"Location": request.path}) or True
    with pytest.raises(Unavailable, match="registry-unavailable: the registry redirects more than 3 times"):
        await read(store)
    assert len(fake.asked) == 4


LOCATIONS = ["{other}/v2/x", "http://{own}/v2/x", "//{otherhost}/x", "https://{own}@{otherhost}/x", "https://{own}.evil.example/x", ".evil.example/x", "1/x", "file:///etc/passwd"]


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("step", ["POST", "PATCH"])
async def test_an_upload_that_is_sent_to_another_host_is_refused(opened, fake, elsewhere, location, step):
    """Row 61: oras joins a Location to the registry's name as text."""
    fake.scheme = "Basic"
    store = opened(username="user", password=SECRET)
    own, other = fake.url.removeprefix("https://"), elsewhere.url.removeprefix("https://")
    target = location.format(other=elsewhere.url, otherhost=other, own=own)
    fake.fault = lambda request: request.command == step and request.authorised() and (request.answer(202, b"", {"Location": target}) or True)
    with pytest.raises(Unavailable, match=r"registry-unavailable: the registry (points to another host|answers|does not)"):
        await store.put(DIGEST, chunks(HELLO), max_bytes=MEGA)
    assert elsewhere.asked == []
    assert names(store) == []


async def test_an_upload_without_a_place_to_continue_is_refused_without_the_registrys_words(store, fake):
    fake.fault = lambda request: request.command == "POST" and (request.answer(202, b'{"canary":1}') or True)
    with pytest.raises(Unavailable, match="registry-unavailable: the registry does not continue an upload") as caught:
        await store.put(DIGEST, chunks(HELLO), max_bytes=MEGA)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_an_upload_that_is_stored_as_something_else_is_refused(store, fake):
    fake.fault = lambda request: request.command == "PUT" and (request.answer(201, b"", {"Docker-Content-Digest": digest_of(b"x")}) or True)
    with pytest.raises(BlobDiffers, match="digest-mismatch: the registry itself says"):
        await store.put(DIGEST, chunks(HELLO), max_bytes=MEGA)


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_an_upload_that_is_not_called_stored_is_not(store, fake, status):
    fake.fault = lambda request: request.command == "PUT" and (request.answer(status, b"") or True)
    with pytest.raises(Unavailable, match=f"registry-unavailable: the registry does not store: HTTP {status}"):
        await store.put(DIGEST, chunks(HELLO), max_bytes=MEGA)


# what it asks for


async def test_a_realm_at_another_host_gets_neither_password_nor_request(opened, fake, elsewhere):
    """Row 61."""
    fake.scheme, fake.realm = "Bearer", elsewhere.url + "/token"
    with pytest.raises(Unavailable, match="registry-unavailable: the registry's token realm is at a host that is not listed in token_hosts"):
        await read(opened(username="user", password=SECRET))
    assert elsewhere.asked == []


REALMS = ["http://{own}/token", "https://{own}@{other}/token", "https://{own}\\@{other}/token", "//{other}/token", "{other}", "file:///etc/passwd", "https://{own}.evil.example/t"]


@pytest.mark.parametrize("realm", REALMS)
async def test_a_realm_that_readers_may_read_differently_is_refused(opened, fake, elsewhere, realm):
    own, other = fake.url.removeprefix("https://"), elsewhere.url.removeprefix("https://")
    fake.scheme, fake.realm = "Bearer", realm.format(own=own, other=other)
    with pytest.raises(Unavailable, match="not listed in token_hosts"):
        await read(opened(username="user", password=SECRET))
    assert elsewhere.asked == []


async def test_a_listed_realm_gets_the_password_and_our_own_scope(opened, fake, elsewhere):
    fake.scheme, fake.realm = "Bearer", elsewhere.url + "/token"
    store = opened(username="user", password=SECRET, token_hosts=(elsewhere.url.removeprefix("https://"),))
    assert await read(store) == HELLO
    assert await read(store) == HELLO
    assert len(elsewhere.asked) == 1  # the token is kept
    assert elsewhere.asked[0].query == {"service": ["registry"], "scope": ["repository:team/app:pull,push"]}
    assert elsewhere.asked[0].headers["Authorization"].startswith("Basic ")
    assert all(asked.headers.get("Authorization") in (None, f"Bearer {TOKEN}") for asked in fake.asked)


async def test_without_credentials_a_token_is_asked_for_anonymously(opened, fake):
    fake.scheme = "Bearer"
    assert await read(opened()) == HELLO
    assert all(asked.headers.get("Authorization") is None for asked in fake.asked if asked.path == "/token")


async def test_basic_credentials_are_sent_only_when_asked_for(opened, fake):
    store = opened(username="user", password=SECRET)
    assert await read(store) == HELLO
    fake.scheme = "Basic"
    assert await read(store) == HELLO
    assert [asked.headers.get("Authorization") is None for asked in fake.asked] == [True, True, False]


async def test_no_cookie_is_kept_or_sent(opened, fake, elsewhere):
    def set_one(request):
        send = request.answer
        request.answer = lambda status, body, headers=None: send(status, body, {**(headers or {}), "Set-Cookie": "who=us; Path=/"})
        if "/blobs/sha256:" in request.path:
            request.answer(307, b"", {"Location": elsewhere.url + request.path})
            return True
        return False

    fake.fault = set_one
    store = opened(blob_hosts=(elsewhere.url.removeprefix("https://"),))
    await store.put(DIGEST, chunks(HELLO), max_bytes=MEGA)
    assert await read(store) == HELLO
    assert len(fake.asked) > 3
    assert not [asked.path for asked in (*fake.asked, *elsewhere.asked) if "Cookie" in asked.headers], "Harbor takes who has cookies for a browser"


async def test_a_token_that_ran_out_is_renewed_once(opened, fake):
    fake.scheme = "Bearer"
    store = opened()
    assert await read(store) == HELLO
    refused = []
    fake.fault = lambda request: (
        not refused
        and "/blobs/" in request.path
        and (refused.append(1) or request.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{fake.url}/token"'}) or True)
    )
    assert await read(store) == HELLO
    assert len([asked for asked in fake.asked if asked.path == "/token"]) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_credentials_that_are_refused_are_not_sent_again_and_again(opened, fake, status):
    fake.fault = lambda request: request.path != "/token" and (request.answer(status, b"", {"WWW-Authenticate": "Basic realm=x"}) or True)
    with pytest.raises(Unavailable, match="registry-unavailable: the registry refuses our credentials") as caught:
        await read(opened(username="user", password=SECRET))
    assert SECRET not in str(caught.value)
    assert len(fake.asked) <= 2


@pytest.mark.parametrize("challenge", ["", "Basic", "Negotiate", "Digest realm=x", "Bearer", 'Bearer scope="x"', "Bearer " + 'a="b",' * 2000])
async def test_a_challenge_that_cannot_be_answered_is_told(opened, fake, challenge):
    fake.fault = lambda request: request.answer(401, b"", {"WWW-Authenticate": challenge}) or True
    with pytest.raises(Unavailable, match="registry-unavailable: the registry asks for credentials that this gatekeeper has not got"):
        await read(opened())
    assert len(fake.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"{}", b'{"token":1}', b'{"token":"a b"}', b'{"token":"a\\r\\nX: y"}', b'{"token":"' + b"a" * 20000 + b'"}', b'{"token":"t"}' + b" " * 70000],
)
async def test_a_token_that_is_none_is_refused(opened, fake, answer):
    fake.scheme = "Bearer"
    fake.fault = lambda request: request.path.startswith("/token") and (request.answer(200, answer) or True)
    with pytest.raises(Unavailable, match="registry-unavailable: the registry's token realm gives no token"):
        await read(opened())


async def test_a_token_realm_that_redirects_is_refused(opened, fake, elsewhere):
    fake.scheme = "Bearer"
    fake.fault = lambda request: request.path.startswith("/token") and (request.answer(302, b"", {"Location": elsewhere.url + "/token"}) or True)
    with pytest.raises(Unavailable, match="registry-unavailable: the registry answers with HTTP 302"):
        await read(opened(username="user", password=SECRET))
    assert elsewhere.asked == []


async def test_nothing_of_the_environment_or_the_home_directory_counts(opened, fake, elsewhere, monkeypatch, tmp_path):
    """No docker configuration, no .netrc, no proxy, no CA bundle of somebody else."""
    auths = {"auths": {fake.url.removeprefix("https://"): {"auth": "Y2FuYXJ5OmNhbmFyeQ=="}}}
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(json.dumps(auths))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login canary password canary\n")
    for name, value in {
        "HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / ".docker"), "NETRC": str(tmp_path / ".netrc"),
        "HTTPS_PROXY": elsewhere.url, "https_proxy": elsewhere.url, "REQUESTS_CA_BUNDLE": "/nonexistent", "CURL_CA_BUNDLE": "/nonexistent",
    }.items():
        monkeypatch.setenv(name, value)
    fake.scheme = "Basic"
    with pytest.raises(Unavailable, match="the registry asks for credentials that this gatekeeper has not got"):
        await read(opened())
    assert all(asked.headers.get("Authorization") is None for asked in fake.asked)
    assert elsewhere.asked == []


def test_the_password_is_in_no_text_of_the_address(certificates):
    assert SECRET not in repr(RegistryAddress("https://r.example", "team/app", username="user", password=SECRET))


# referrers


def referring(number: int, subject: str) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "number": number, "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1}}).encode()


def descriptor(data: bytes) -> dict[str, object]:
    return {"mediaType": OCI_MANIFEST, "digest": digest_of(data), "size": len(data)}


def for_referrers(body: bytes, media_type: str = OCI_INDEX, **headers: str):
    return lambda request: "/referrers/" in request.path and (request.answer(200, body, {"Content-Type": media_type, **headers}) or True)


@pytest.fixture
def referrer(fake):
    """One manifest that does name `DIGEST`."""
    manifest = referring(1, DIGEST)
    fake.blobs[digest_of(manifest)] = manifest
    return manifest


async def test_a_listed_manifest_of_another_subject_is_left_out_wherever_it_stands(store, fake, referrer):
    """Row 59: the attacker's comes first."""
    stranger = referring(2, digest_of(b"other"))
    fake.blobs[digest_of(stranger)] = stranger
    fake.fault = for_referrers(index_of([descriptor(stranger), {"digest": digest_of(b"not there")}, {"digest": "sha512:" + "a" * 128}, 5, descriptor(referrer)]))
    assert await store.referrers(DIGEST) == [digest_of(referrer)]


async def test_what_is_listed_under_no_digest_of_ours_is_not_asked_for(store, fake, referrer):
    names = [{}, {"digest": None}, {"digest": "sha512:" + "a" * 128}, {"digest": "../../other/blobs/" + DIGEST}, {"digest": DIGEST.upper()}]
    fake.fault = for_referrers(index_of([*names, descriptor(referrer)]))
    assert await store.referrers(DIGEST) == [digest_of(referrer)]
    assert {asked.path.rpartition("/blobs/")[2] for asked in fake.asked if "/blobs/" in asked.path} == {digest_of(referrer)}


async def test_a_listed_manifest_with_other_bytes_is_an_alarm(store, fake, referrer):
    fake.blobs[digest_of(referrer)] = referring(3, DIGEST)
    fake.fault = for_referrers(index_of([descriptor(referrer)]))
    with pytest.raises(BlobDiffers, match="digest-mismatch"):
        await store.referrers(DIGEST)


async def test_ten_thousand_referrers_are_refused_and_none_is_read(store, fake):
    """Row 59."""
    fake.fault = for_referrers(index_of([{"digest": digest_of(b"%d" % number)} for number in range(10_000)]))
    with pytest.raises(Unavailable, match="registry-unavailable: the registry lists more than 1000 referrers"):
        await store.referrers(DIGEST)
    assert [asked.path for asked in fake.asked if "/blobs/" in asked.path] == []


async def test_pages_are_followed_and_bounded(store, fake, referrer):
    def pages(request) -> bool:
        if "/referrers/" not in request.path:
            return False
        number = int(request.asked.query.get("page", ["0"])[0])
        link = {"Link": f'<{request.asked.path}?page={number + 1}>; rel="next"'} if endless or number < 2 else {}
        request.answer(200, index_of([descriptor(referrer)] if number == 2 else []), {"Content-Type": OCI_INDEX, **link})
        return True

    endless, fake.fault = False, pages
    assert await store.referrers(DIGEST) == [digest_of(referrer)]
    endless = True
    with pytest.raises(Unavailable, match="registry-unavailable: the registry has more than 20 pages"):
        await store.referrers(DIGEST)


async def test_a_page_at_another_host_is_not_asked(store, fake, elsewhere):
    fake.fault = for_referrers(index_of([]), Link=f'<{elsewhere.url}/v2/x>; rel="next"')
    with pytest.raises(Unavailable, match="registry-unavailable: the registry points to another host"):
        await store.referrers(DIGEST)
    assert elsewhere.asked == []


async def test_a_page_beyond_the_limit_is_refused(store, fake):
    fake.fault = for_referrers(b" " * (4 * MEGA + 1))
    with pytest.raises(BlobTooLarge, match="too-large"):
        await store.referrers(DIGEST)


async def test_an_answer_of_another_type_is_no_referrers_api(store, fake, referrer):
    fake.manifests[f"sha256-{digest_hex(DIGEST)}"] = (OCI_INDEX, index_of([descriptor(referrer)]))
    fake.fault = for_referrers(b"<html>", "text/html")
    assert await store.referrers(DIGEST) == [digest_of(referrer)]


@pytest.mark.parametrize("index", [b"", b"[]", b"null", b'{"manifests":{}}', b'{"manifests":[[]]}', b"[" * 100_000, b"\xff"])
async def test_a_list_that_is_none_lists_nothing(store, fake, index):
    fake.fault = for_referrers(index)
    assert await store.referrers(DIGEST) == []


async def test_the_tag_keeps_what_others_wrote_into_it(opened, fake, referrer):
    fake.referrers_api = False
    foreign = {**descriptor(b"another's"), "annotations": {"weight": 1.5}}
    fake.manifests[f"sha256-{digest_hex(DIGEST)}"] = (OCI_INDEX, index_of([foreign]))
    await opened().list_manifest(digest_of(referrer), media_type=OCI_MANIFEST, artifact_type="application/x", subject=DIGEST)
    listed = json.loads(fake.manifests[f"sha256-{digest_hex(DIGEST)}"][1])["manifests"]
    assert listed == [foreign, {**descriptor(referrer), "artifactType": "application/x"}]


async def test_a_tag_that_is_overwritten_each_time_is_told_after_three_tries(opened, fake, referrer):
    fake.referrers_api = False
    fake.fault = lambda request: request.command == "PUT" and "sha256-" in request.path and (request.answer(201, b"") or True)
    with pytest.raises(Unavailable, match="registry-unavailable: the registry does not keep the list of referrers"):
        await opened().list_manifest(digest_of(referrer), media_type=OCI_MANIFEST, artifact_type=None, subject=DIGEST)
    assert len(fake.of("PUT")) == 1 + registry.TAG_TRIES


# files


async def test_a_cancelled_download_leaves_nothing_and_the_store_works_on(store, fake):
    waiting = trio.Event()
    token = trio.lowlevel.current_trio_token()

    def stuck(request) -> bool:
        if "/blobs/" not in request.path or fake.of("GET")[1:]:
            return False
        request.send_response(200)
        request.send_header("Content-Length", str(len(HELLO)))
        request.end_headers()
        token.run_sync_soon(waiting.set)
        request.rfile.read(1)  # until the client hangs up
        return True

    fake.fault = stuck
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(store.read, DIGEST, max_bytes=MEGA))
        await waiting.wait()
        nursery.cancel_scope.cancel()
    assert await read(store) == HELLO


async def test_what_nobody_asks_for_any_more_is_removed_and_leftovers_go_at_the_start(store, fake, certificates):
    path = await store.local(DIGEST)
    os.utime(path, (1, 1))
    other = b"another"
    fake.blobs[digest_of(other)] = other
    (store._directory / ".incoming-dead").write_bytes(b"half")
    kept = await store.local(digest_of(other))
    assert names(store) == [".incoming-dead", kept.name]
    await open_registry(address_of(fake, certificates), store._directory, max_blob=MEGA)
    assert names(store) == [kept.name]


async def test_nothing_is_sent_that_is_not_what_it_is_called(store, fake):
    with pytest.raises(BlobDiffers, match="digest-mismatch: the bytes are not those of the digest"):
        await store.put(digest_of(b"something else"), chunks(HELLO), max_bytes=MEGA)
    assert fake.asked == []
    assert names(store) == []


async def test_a_directory_that_cannot_be_written_is_unavailable(fake, certificates, tmp_path):
    (tmp_path / "files").write_text("a file")
    with pytest.raises(Unavailable, match="registry-unavailable: the registry or the directory for its files cannot be used"):
        await open_registry(address_of(fake, certificates), tmp_path / "files", max_blob=MEGA)


async def test_what_is_listed_by_a_foreign_tool_is_read_as_a_manifest(store, fake):
    """A registry keeps what others pushed as a manifest apart from blobs."""
    data = referring(7, DIGEST)
    fake.manifests[digest_of(data)] = (OCI_MANIFEST, data)
    assert await store.read(digest_of(data), max_bytes=MEGA) == data
    assert await store.size(digest_of(data)) == len(data)
    fake.manifests[digest_of(data)] = (OCI_MANIFEST, data + b" ")
    with pytest.raises(BlobDiffers, match="digest-mismatch"):
        await store.read(digest_of(data), max_bytes=MEGA)


async def test_a_missing_thing_is_missing_and_not_tried_again(store, fake):
    with pytest.raises(BlobMissing, match="artifact-missing"):
        await store.read(digest_of(b"never"), max_bytes=MEGA)
    assert len(fake.asked) == 2


ORIGINS = [
    ("https://r.example", "r.example:443"), ("https://R.example:443/x?y", "r.example:443"), ("https://[::1]:5000/", "[::1]:5000"), ("https://10.0.0.1:1", "10.0.0.1:1"),
    ("http://r.example", None), ("https://u@r.example", None), ("https://u:p@r.example/", None), ("https://r.example\\@evil.example/", None), ("https://r.example#x", None),
    ("https://r.example:0", None), ("https://r.example:65536", None), ("https://r.example:", None), ("https://", None), ("https:///x", None), ("//r.example/x", None),
    ("https://r.example\n", None), ("https://r.exam ple", None), ("https://r.еxample", None), ("https://r%2eexample", None), ("HTTPS://r.example", None),
]


@pytest.mark.parametrize(("url", "origin"), ORIGINS)
def test_an_origin_is_read_in_one_way_or_not_at_all(url, origin):
    assert origin_of(url) == origin


def test_oras_never_sees_its_own_authentication(fake, certificates):
    """What oras would do about a 401, or the user's configuration, ends where it begins."""
    link = OciLink(address_of(fake, certificates))
    with pytest.raises(AttributeError, match="auth"):
        link._provider.login("user", "password")
