"""One repository of an OCI 1.1 registry over HTTPS, through oras: blocking requests that are bounded in bytes and in time.

oras by itself reads the user's docker configuration, sends a password to whatever realm a registry names, follows redirects with it, waits for
ever, sleeps between tries, reads whole answers into memory, logs the registry's own words and checks no digest. Of it serve here the names of
things (`Container`) and the steps of a chunked upload; each of its requests goes through `_Provider.do_request`, which is ours. Bytes
that come back are worth nothing until the caller has hashed them.

Specification: OCI distribution 1.1; token authentication as in distribution's docs/spec/auth/token.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urljoin

import requests
import urllib3
from oras.container import Container
from oras.provider import Registry
from requests.adapters import HTTPAdapter

from gatekeeper.model.digest import Digest
from gatekeeper.model.strictjson import MalformedJson, parse_object
from gatekeeper.model.uris import OCI_INDEX, OCI_MANIFEST
from gatekeeper.ports.artifacts import BlobDiffers, BlobTooLarge
from gatekeeper.ports.errors import Unavailable
from gatekeeper.ports.registry import RegistryAddress, origin_of

from .manifests import MAX_MANIFEST

CONNECT_S: Final = 5.0
READ_S: Final = 15.0
"""Between two pieces of an answer."""
CHUNK: Final = 256 * 1024
UPLOAD_CHUNK: Final = 8 * 1024 * 1024
"""Bytes of one PATCH. Registries on object storage refuse less than 5 MiB (distribution 1.1, OCI-Chunk-Min-Length)."""
MAX_ANSWER: Final = 64 * 1024
"""Bytes read of an answer that is no content: a token, or what follows an upload."""
MAX_CHALLENGE: Final = 4096
MAX_REDIRECTS: Final = 3
MAX_PAGES: Final = 20
CONNECTIONS: Final = 8

_CHALLENGE: Final = re.compile(r'([a-z]+)="([^"]*)"')
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,16384}")
_LENGTH: Final = re.compile(r"[0-9]{1,15}")
_NEXT: Final = re.compile(r'<([!-;=?-~]+)>\s*;\s*rel="?next"?')


class Transient(Unavailable):
    """Overloaded, cut short or unreachable: the same question may be answered a moment later."""


@dataclass(frozen=True)
class Manifest:
    """What stands at a name: its bytes, not yet hashed, and what the registry calls them."""

    data: bytes
    content_type: str


@dataclass(frozen=True)
class Page:
    """One answer of the referrers API, and where the next one is."""

    index: bytes
    next: str | None


class OciLink:
    """Blocking requests to one repository; safe to use from several threads. Raises `Unavailable`, and what each method names."""

    def __init__(self, address: RegistryAddress) -> None:
        self._provider = _Provider(address)
        self._container = Container(f"{address.url.removeprefix('https://')}/{address.repository}")
        self._base = f"{address.url}/v2/{address.repository}"

    def within(self, seconds: float) -> Any:
        """A context manager: what this thread asks inside it ends by then."""
        return self._provider.within(seconds)

    def size(self, digest: Digest) -> int | None:
        """Bytes of a blob or manifest, as the registry says; None where it has neither."""
        for url in (self._url("blobs", digest), self._url("manifests", digest)):
            response = self._provider.do_request(url, "HEAD", headers=_ACCEPT)
            if response.status_code != 404:
                _demand_digest(response, digest)
                length = _length(response)
                if length is None:
                    raise Unavailable("registry-unavailable", "the registry names no size")
                return length
        return None

    def blob(self, digest: Digest, take: Callable[[bytes], object], *, max_bytes: int) -> bool:
        """Pass the bytes that the registry has for a digest to `take`, piece by piece; False where it has none.

        Raises `BlobTooLarge`, before anything is read where the registry names the size.
        """
        response = self._provider.do_request(self._url("blobs", digest), stream=True)
        if response.status_code == 404:
            response = self._provider.do_request(self._url("manifests", digest), headers=_ACCEPT, stream=True)
        with response:
            if response.status_code == 404:
                return False
            _demand_digest(response, digest)
            for piece in self._provider.pieces(response, max_bytes):
                take(piece)
        return True

    def upload(self, digest: Digest, file: Path) -> None:
        """Store the bytes of a file in chunks; the file was hashed. Raises `BlobDiffers` where the registry stored something else."""
        try:
            response = self._provider.chunked_upload(str(file), self._container, {"digest": digest}, chunk_size=UPLOAD_CHUNK)
        except ValueError:  # oras puts the registry's words and its session URL into them
            raise Unavailable("registry-unavailable", "the registry does not continue an upload that it began") from None
        _demand_created(response, digest)

    def manifest(self, name: str, *, max_bytes: int = MAX_MANIFEST) -> Manifest | None:
        """What stands at a tag or digest; None where nothing does. Raises `BlobTooLarge`."""
        with self._provider.do_request(self._url("manifests", name), headers=_ACCEPT, stream=True) as response:
            if response.status_code == 404:
                return None
            return Manifest(b"".join(self._provider.pieces(response, max_bytes)), _content_type(response))

    def put_manifest(self, name: str, digest: Digest, data: bytes, media_type: str) -> bool:
        """Store a manifest at a tag or at its digest; whether the registry says that it keeps its subject's referrers itself."""
        response = self._provider.do_request(self._url("manifests", name), "PUT", data=data, headers={"Content-Type": media_type})
        _demand_created(response, digest)
        return "OCI-Subject" in response.headers

    def referrers(self, subject: Digest) -> Iterator[Page] | None:
        """The pages of the referrers API; None where the registry has none. Raises `BlobTooLarge`."""
        first = self._page(self._url("referrers", subject))
        return None if first is None else self._pages(first)

    def _pages(self, page: Page) -> Iterator[Page]:
        yield page
        for _ in range(MAX_PAGES):
            following = None if page.next is None else self._page(page.next)
            if following is None:
                return
            yield following
            page = following
        raise Unavailable("registry-unavailable", f"the registry has more than {MAX_PAGES} pages of referrers")

    def _page(self, url: str) -> Page | None:
        with self._provider.do_request(url, headers={"Accept": OCI_INDEX}, stream=True) as response:
            if response.status_code == 404 or _content_type(response) != OCI_INDEX:
                return None  # "if the response does not have this content type, the client SHOULD behave as if 404" (distribution 1.1)
            link = _NEXT.search(response.headers.get("Link", "")[:MAX_CHALLENGE])
            return Page(b"".join(self._provider.pieces(response, MAX_MANIFEST)), None if link is None else urljoin(url, link[1]))

    def _url(self, kind: str, name: str) -> str:
        return f"{self._base}/{kind}/{name}"


_ACCEPT: Final = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}, application/vnd.docker.distribution.manifest.v2+json, */*"}
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class _Provider(Registry):  # type: ignore[misc]  # oras has no types
    def __init__(self, address: RegistryAddress) -> None:
        super().__init__(hostname=address.url.removeprefix("https://"), insecure=False, tls_verify=True)
        del self.auth  # it reads the docker configuration and trusts any realm; whoever calls it fails here
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy, no .netrc, no REQUESTS_CA_BUNDLE
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # Harbor takes who has cookies for a browser
        if address.ca_file is not None:
            self.session.verify = str(address.ca_file)
        self.session.mount("https://", HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=0))
        self._address = address
        self._origin = origin_of(address.url)
        self._authorization = ""
        self._until = threading.local()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        self._until.value = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._until.value

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """What every request of oras comes to: an answer with 2xx or 404, its body unread where `stream`, else read to its end and dropped."""
        if origin_of(url) != self._origin:
            raise Unavailable("registry-unavailable", "the registry points to another host than itself")
        response = self._send(method, url, headers or {}, data, self._authorization)
        if response.status_code == 401:
            self._drop(response)
            self._authorization = self._authorise(response.headers.get("WWW-Authenticate", ""))
            response = self._send(method, url, headers or {}, data, self._authorization)
        if response.status_code in _REDIRECTS and method in {"GET", "HEAD"}:
            response = self._follow(response, method, url, headers or {})
        _demand_answered(response)
        if not stream:
            self._drop(response)
        return response

    def pieces(self, response: requests.Response, max_bytes: int) -> Iterator[bytes]:
        """The body, bounded and as sent. Raises `BlobTooLarge`, `Transient` where it ends before its length."""
        declared, taken = _length(response), 0
        if declared is not None and declared > max_bytes:
            raise BlobTooLarge("too-large", f"more than {max_bytes} bytes")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Unavailable("registry-unavailable", "the registry encodes what it was asked for as it is")
        while piece := self._piece(response):
            taken += len(piece)
            if taken > max_bytes:
                raise BlobTooLarge("too-large", f"more than {max_bytes} bytes")
            yield piece
        if declared is not None and taken != declared:
            raise Transient("registry-unavailable", "the registry's answer was cut short")

    def _piece(self, response: requests.Response) -> bytes:
        self._left()
        try:
            piece: bytes = response.raw.read1(CHUNK, decode_content=False)
        except (OSError, urllib3.exceptions.HTTPError):
            raise Transient("registry-unavailable", "the registry's answer was cut short") from None
        return piece

    def _left(self) -> float:
        left: float = self._until.value - time.monotonic()
        if left <= 0:
            raise Unavailable("registry-unavailable", "the registry is too slow")
        return left

    def _send(self, method: str, url: str, headers: dict[str, str], data: bytes | None, authorization: str) -> requests.Response:
        sent = {"User-Agent": "pingee", "Accept": "*/*", **headers, "Accept-Encoding": "identity"}
        if authorization:
            sent["Authorization"] = authorization
        left = self._left()
        try:
            return self.session.request(
                method, url, data=data, headers=sent, stream=True, allow_redirects=False, timeout=(min(CONNECT_S, left), min(READ_S, left))
            )
        except requests.exceptions.SSLError:
            raise Unavailable("registry-unavailable", "the registry's certificate is not one of its CA for this name") from None
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Transient("registry-unavailable", f"no answer from the registry: {type(error).__name__}") from None

    def _follow(self, response: requests.Response, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        for _ in range(MAX_REDIRECTS):
            self._drop(response)
            url = urljoin(url, response.headers.get("Location", ""))
            origin = origin_of(url)
            if origin is None or (origin != self._origin and origin not in _origins(self._address.blob_hosts)):
                raise Unavailable("registry-unavailable", "the registry redirects to a host that is not listed in blob_hosts")
            response = self._send(method, url, headers, None, self._authorization if origin == self._origin else "")
            if response.status_code not in _REDIRECTS:
                return response
        raise Unavailable("registry-unavailable", f"the registry redirects more than {MAX_REDIRECTS} times")

    def _authorise(self, challenge: str) -> str:
        """The Authorization that answers a challenge; raises `Unavailable` where there is none that we would send."""
        scheme, _, rest = challenge[:MAX_CHALLENGE].partition(" ")
        if scheme.lower() == "basic" and self._address.password:
            return self._basic()
        realm = dict(_CHALLENGE.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in realm:
            raise Unavailable("registry-unavailable", "the registry asks for credentials that this gatekeeper has not got")
        origin = origin_of(realm["realm"])
        if origin is None or (origin != self._origin and origin not in _origins(self._address.token_hosts)):
            raise Unavailable("registry-unavailable", "the registry's token realm is at a host that is not listed in token_hosts")
        return f"Bearer {self._token(realm['realm'], realm.get('service', ''))}"

    def _token(self, realm: str, service: str) -> str:
        # The scope is ours: a challenge may ask for more than this repository.
        query = urlencode({"service": service, "scope": f"repository:{self._address.repository}:pull,push"})
        url = f"{realm}{'&' if '?' in realm else '?'}{query}"
        with self._send("GET", url, {"Accept": "application/json"}, None, self._basic() if self._address.password else "") as response:
            _demand_answered(response)
            try:
                answer = parse_object(b"".join(self.pieces(response, MAX_ANSWER)))
            except (MalformedJson, BlobTooLarge):
                answer = {}
        token = answer.get("token") or answer.get("access_token")
        if response.status_code != 200 or not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
            raise Unavailable("registry-unavailable", "the registry's token realm gives no token")
        return token

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self._address.username}:{self._address.password}".encode()).decode("ascii")

    def _drop(self, response: requests.Response) -> None:
        """Read a short body to its end, so that the connection serves again; a longer one ends the connection."""
        taken = 0
        with response:
            while taken <= MAX_ANSWER and (piece := self._piece(response)):
                taken += len(piece)

    def _parse_response_errors(self, response: requests.Response) -> None:
        """Not logged: they are a foreign system's words."""


def _demand_answered(response: requests.Response) -> None:
    status = response.status_code
    if 200 <= status < 300 or status == 404:
        return
    response.close()
    if status in _AGAIN:
        raise Transient("registry-unavailable", f"the registry answers with HTTP {status}")
    if status in {401, 403}:
        raise Unavailable("registry-unavailable", "the registry refuses our credentials")
    raise Unavailable("registry-unavailable", f"the registry answers with HTTP {status}")


def _demand_created(response: requests.Response, digest: Digest) -> None:
    if response.status_code != 201:
        raise Unavailable("registry-unavailable", f"the registry does not store: HTTP {response.status_code}")
    _demand_digest(response, digest)


def _demand_digest(response: requests.Response, digest: Digest) -> None:
    if response.headers.get("Docker-Content-Digest", digest) != digest:
        raise BlobDiffers("digest-mismatch", f"the registry itself says that it has other bytes for {digest}")


def _length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length")
    if text is not None and _LENGTH.fullmatch(text) is None:
        raise Unavailable("registry-unavailable", "the registry names no possible size")
    return None if text is None else int(text)


def _content_type(response: requests.Response) -> str:
    return str(response.headers.get("Content-Type", "")).partition(";")[0].strip()


def _origins(hosts: tuple[str, ...]) -> frozenset[str | None]:
    return frozenset(origin_of(f"https://{host}") for host in hosts)
