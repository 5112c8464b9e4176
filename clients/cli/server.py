"""The gatekeeper as the command sees it: JSON over TLS, problems turned into failures with an exit code."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from gatekeeper.model.strictjson import JsonValue, MalformedJson, parse_object

from .exits import Exit, Failure

MAX_ANSWER: Final = 64 * 1024 * 1024
_RETRIES: Final = 3


@dataclass(frozen=True)
class Access:
    """Where the server is, how it proves itself, and who we are."""

    url: str | None
    ca_file: Path | None
    token_file: Path | None
    token: str | None
    timeout_s: float


class Server:
    """One command's connection. Redirects are not followed, proxies of the environment are not used."""

    def __init__(self, access: Access) -> None:
        if access.url is None:
            raise Failure(Exit.USAGE, "no server named: give --server URL or set PINGEE_SERVER")
        if not access.url.startswith("https://"):
            raise Failure(Exit.USAGE, "the server's URL must begin with https://; a token is never sent in the clear")
        self._access = access
        try:
            context = ssl.create_default_context(cafile=None if access.ca_file is None else str(access.ca_file))
        except OSError as error:
            raise Failure(Exit.USAGE, f"the CA file {access.ca_file} cannot be read: {error.strerror}") from None
        try:
            self._client = httpx2.Client(base_url=access.url, verify=context, timeout=access.timeout_s, trust_env=False, follow_redirects=False)
        except httpx2.InvalidURL:
            raise Failure(Exit.USAGE, f"{access.url} is no URL") from None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def url(self) -> str:
        """The server's URL, for links."""
        return str(self._access.url).rstrip("/")

    @property
    def longest_wait_s(self) -> int:
        """How long the server may be asked to hold an answer back, so that it still comes within one request's time."""
        return min(20, int(self._access.timeout_s / 2))

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> dict[str, JsonValue]:
        """A JSON document."""
        return self._document(self._send("GET", path, None, headers))

    def get_bytes(self, path: str, *, most: int | None = None) -> bytes:
        """Raw bytes: a note, a tile, a receipt; a failure where there are more than `most`. Threads may call it at the same time."""
        return self._send("GET", path, None, None, most)

    def post(self, path: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> dict[str, JsonValue]:
        """Send a JSON body. Calls that carry an Idempotency-Key are repeated by us where the answer was lost."""
        return self._document(self._send("POST", path, body, headers))

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None, most: int | None = None) -> bytes:
        fields = {**self._authorization(), **(headers or {})}
        if body is not None:
            fields["Content-Type"] = "application/json"
        may_repeat = method == "GET" or "Idempotency-Key" in fields
        for attempt in range(1, _RETRIES + 1):
            try:
                with self._client.stream(method, path, content=body, headers=fields) as response:
                    status, content = response.status_code, _bounded(response, MAX_ANSWER if most is None else most)
            except httpx2.HTTPError as error:
                if not may_repeat or attempt == _RETRIES:
                    raise Failure(Exit.REMOTE, f"the server {self.url} cannot be reached: {type(error).__name__}") from None
            else:
                if status != 503 or not may_repeat or attempt == _RETRIES:
                    _check(status, content)
                    return content
            time.sleep(attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _authorization(self) -> dict[str, str]:
        token = self._access.token
        if token is None and self._access.token_file is not None:
            try:
                token = self._access.token_file.read_text().strip()
            except OSError as error:
                raise Failure(Exit.USAGE, f"the token file {self._access.token_file} cannot be read: {error.strerror}") from None
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    def _document(self, content: bytes) -> dict[str, JsonValue]:
        try:
            return parse_object(content, max_bytes=MAX_ANSWER)
        except MalformedJson as error:
            raise Failure(Exit.REMOTE, f"the server's answer is no strict JSON: {error}") from None


def _bounded(response: httpx2.Response, most: int) -> bytes:
    content = bytearray()
    for part in response.iter_bytes():
        content += part
        if len(content) > most:
            raise Failure(Exit.REMOTE, f"the server's answer has more than {most} bytes")
    return bytes(content)


def _check(status: int, content: bytes) -> None:
    if 200 <= status < 300:
        return
    try:
        problem: dict[str, object] = dict(parse_object(content))
    except MalformedJson:
        problem = {"code": "internal", "detail": f"HTTP {status} without a problem document"}
    exits = {401: Exit.AUTHENTICATION, 403: Exit.DENIED}
    # What a status means stands in the problem document too; who asks for a missing tile looks there (`logs`), so the true one goes in.
    raise Failure(exits.get(status, Exit.REMOTE), f"{problem.get('code')}: {problem.get('detail')}", {**problem, "status": status})
