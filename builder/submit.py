"""Submission: one certificate, then every statement to every instance, and the blobs each one says it lacks.

TLS goes to the pinned CA file alone, no redirect is followed, no proxy or credential is taken from the environment. Retries are bounded
and made for what may pass: connection errors, and 503 with its `Retry-After`. A token appears in one header and nowhere else.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx2

from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import Digest
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .fault import BuildFault
from .outputs import Blob

ATTEMPTS: Final = 5
ROUNDS: Final = 4
"""POST, OCI manifest, config and layer, and once more: an intake that still misses something then will not be content."""
PART: Final = 16 << 20
"""Bytes of a part; what is larger goes in parts."""
_ANSWER: Final = 1 << 20
_CHUNK: Final = 1 << 18
_LONGEST_WAIT_S: Final = 10.0
_ANSWER_S: Final = 30.0
_STORED_S: Final = 60.0
"""Until a blob is answered: the gatekeeper hashes and stores all of it first, and closes a connection that is silent for longer."""
_MAX_CHAIN: Final = 64 * 1024


@dataclass(frozen=True)
class Instance:
    """One gatekeeper: its name, base URL (https), the CA file that is pinned for it (None: the system's), and the run's token for it."""

    name: str
    url: str
    ca_file: Path | None
    token: str = field(repr=False)


@dataclass(frozen=True)
class Submission:
    """What goes to every instance, in this order: artifact manifest, provenance, test results; `blobs` are sent where they are missing."""

    manifest: bytes | None
    provenance: bytes | None
    results: Sequence[bytes]
    blobs: Mapping[Digest, Blob]


Pause = Callable[[float], None]


def check_instance(name: str, url: str) -> None:
    """Raise `BuildFault` unless the URL is https with a host and nothing but a path."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise BuildFault("instance-invalid", f"instance {name} must have an https:// URL without credentials or query")


def request_certificate(instance: Instance, token: str, request_pem: str, pause: Pause = time.sleep) -> str:
    """Ask for the run's certificate with its certificate token; returns the leaf's PEM. One attempt per token: the gatekeeper spends it."""
    with _connection(instance, token) as door:
        # A second attempt after a lost answer would be refused as a replay, so only a refusal to connect is retried.
        answer = door.send("POST", "/v1/builder-certificates", encode_canonical({"csr": request_pem}), pause=pause, once=True)
    try:
        chain = Fields(parse_object(answer.content, max_bytes=_MAX_CHAIN)).array("chain", max_items=8)
    except (MalformedJson, FieldError) as error:
        raise BuildFault("certificate-refused", f"instance {instance.name} answered no certificate chain: {error}") from None
    if not chain or not isinstance(chain[0], str):
        raise BuildFault("certificate-refused", f"instance {instance.name} answered an empty certificate chain")
    return chain[0]


def submit(instances: Sequence[Instance], submission: Submission, pause: Pause = time.sleep) -> None:
    """Submit to each instance in turn; raises `BuildFault` with the instance's own code and words at the first refusal."""
    for instance in instances:
        with _connection(instance, instance.token) as door:
            for bundle in (submission.manifest, submission.provenance):
                if bundle is not None:
                    _complete(door, bundle, submission.blobs, pause)
            for bundle in submission.results:
                door.send("POST", "/v1/results", bundle, pause=pause)


def _complete(door: _Door, bundle: bytes, blobs: Mapping[Digest, Blob], pause: Pause) -> None:
    """POST, upload what is missing, POST again, until nothing is."""
    for _ in range(ROUNDS):
        answer = door.send("POST", "/v1/artifacts", bundle, pause=pause)
        if answer.status_code == 201:
            return
        for digest, path in _missing(door.name, answer.content):
            blob = blobs.get(digest)
            if blob is None:
                raise BuildFault("submission-failed", f"instance {door.name} asks for {digest}, which this run did not make")
            _upload(door, path, blob, pause)
    raise BuildFault("submission-failed", f"instance {door.name} still misses blobs after {ROUNDS} rounds")


def _upload(door: _Door, path: str, blob: Blob, pause: Pause) -> None:
    """A small blob at once, a larger one in parts, of which none is sent again that arrived."""
    if blob.size <= PART:
        door.send("PUT", path, blob, pause=pause)
        return
    first, astray = 0, 0
    while astray < ATTEMPTS:
        end = min(first + PART, blob.size)
        try:
            answer = door.send("PATCH", path, blob, pause=pause, part=(first, end))
        except BuildFault as fault:
            # A connection that broke may have left a piece of the part there, or another replica answers that has none of it.
            if fault.code != "range-not-satisfiable":
                raise
            answer = door.send("GET", path, b"", pause=pause)
        if answer.status_code == 201:
            return
        offset = _offset(door.name, answer.content, blob.size)
        astray += offset <= first
        first = offset
    raise BuildFault("submission-failed", f"instance {door.name} does not take the parts of {blob.digest} in order")


def _offset(name: str, body: bytes, size: int) -> int:
    try:
        return Fields(parse_object(body, max_bytes=_ANSWER)).integer("offset", maximum=size)
    except (MalformedJson, FieldError) as error:
        raise BuildFault("submission-failed", f"instance {name} answered something unreadable: {error}") from None


def _missing(name: str, body: bytes) -> list[tuple[Digest, str]]:
    try:
        missing = []
        for item in Fields(parse_object(body, max_bytes=_ANSWER)).objects("missing", max_items=64):
            path = item.text("upload", max_length=512)
            if not path.startswith("/v1/artifacts/") or ".." in path:
                raise item.error("upload", "is no path of the intake")
            missing.append((item.digest("digest"), path))
    except (MalformedJson, FieldError) as error:
        raise BuildFault("submission-failed", f"instance {name} answered something unreadable: {error}") from None
    return missing


class _Door:
    """One instance's HTTP door with one token."""

    def __init__(self, name: str, client: httpx2.Client) -> None:
        self.name = name
        self._client = client

    def send(
        self, method: str, path: str, body: bytes | Blob, *, pause: Pause, once: bool = False, part: tuple[int, int] | None = None
    ) -> httpx2.Response:
        """Send until there is an answer that is not 503, at most `ATTEMPTS` times; raises `BuildFault` for every refusal.

        `part` is where a part of a blob begins and ends; an empty one asks to finish what is complete.
        """
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                answer = self._client.request(method, path, content=_content(body, part), headers=_headers(body, part), timeout=_timeout(body))
            except httpx2.TransportError as error:
                if _untrusted(error):
                    raise BuildFault("instance-untrusted", f"instance {self.name} shows a certificate that its CA file does not hold for") from None
                if last or (once and not isinstance(error, httpx2.ConnectError)):
                    raise BuildFault("instance-unreachable", f"instance {self.name} cannot be reached: {type(error).__name__}") from None
                pause(min(0.2 * 2**attempt, _LONGEST_WAIT_S))
                continue
            except httpx2.HTTPError as error:
                raise BuildFault("instance-unreachable", f"instance {self.name} cannot be reached: {type(error).__name__}") from None
            if answer.status_code == 503 and not last and not once:
                pause(_retry_after(answer))
                continue
            if answer.status_code not in {200, 201, 202}:
                raise _refusal(self.name, answer)
            return answer
        raise AssertionError("the last attempt returns or raises")


@contextlib.contextmanager
def _connection(instance: Instance, token: str) -> Iterator[_Door]:
    check_instance(instance.name, instance.url)
    try:
        context = ssl.create_default_context(cafile=None if instance.ca_file is None else str(instance.ca_file))
    except (OSError, ssl.SSLError):
        raise BuildFault("instance-invalid", f"the CA file of instance {instance.name} cannot be read") from None
    with httpx2.Client(
        base_url=instance.url.rstrip("/"),
        verify=context,
        trust_env=False,
        follow_redirects=False,
        headers={"Authorization": f"Bearer {token}", "User-Agent": "pingee-builder"},
    ) as client:
        yield _Door(instance.name, client)


def _content(body: bytes | Blob, part: tuple[int, int] | None) -> bytes | Iterator[bytes]:
    if isinstance(body, bytes):
        return body
    first, end = part or (0, body.size)
    return body.source[first:end] if isinstance(body.source, bytes) else _chunks(body.source, first, end)


def _timeout(body: bytes | Blob) -> httpx2.Timeout:
    return httpx2.Timeout(_ANSWER_S, connect=10.0, read=_STORED_S if isinstance(body, Blob) else _ANSWER_S)


def _headers(body: bytes | Blob, part: tuple[int, int] | None) -> dict[str, str]:
    if isinstance(body, bytes):
        return {"Content-Type": "application/json"}
    first, end = part or (0, body.size)
    # Stated, so that a file is not sent in chunked encoding.
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(end - first)}
    if part is not None:
        headers["Content-Range"] = f"bytes {f'{first}-{end - 1}' if first < end else '*'}/{body.size}"
    return headers


def _chunks(path: Path, first: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(first)
        while first < end and (chunk := stream.read(min(_CHUNK, end - first))):
            first += len(chunk)
            yield chunk


def _untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _retry_after(answer: httpx2.Response) -> float:
    text = answer.headers.get("retry-after", "1")
    return min(float(text), _LONGEST_WAIT_S) if text.isascii() and text.isdecimal() else 1.0


def _refusal(name: str, answer: httpx2.Response) -> BuildFault:
    """The instance's problem document (RFC 9457) as our fault; whatever else came is named by its status alone."""
    code, detail = "submission-failed", f"status {answer.status_code}"
    with contextlib.suppress(MalformedJson, FieldError):
        problem = Fields(parse_object(answer.content, max_bytes=_ANSWER))
        code = problem.text("code", max_length=64)
        detail = problem.optional("detail", lambda key: problem.text(key, max_length=2000)) or detail
    return BuildFault(code, f"instance {name} refused ({answer.status_code}): {detail}")
