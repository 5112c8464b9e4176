"""C2SP tlog-witness over HTTPS. The addresses are those of the log policy file; nothing else is asked, and no redirect is followed."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2
import trio

from gatekeeper.ports.errors import Denied, PortError, Rejected, Unavailable
from gatekeeper.ports.witness import Cosignatures, OtherRoot, OtherSize, WitnessAnswer, WitnessBusy
from gatekeeper.tlog.errors import MalformedNote
from gatekeeper.tlog.signature import parse_signature_lines
from gatekeeper.tlog.spelling import parse_decimal

MAX_ANSWER: Final = 64 * 1024
MAX_LINES: Final = 16
TIMEOUT_S: Final = 5.0
"""For each step of a request; the publisher's budget is shorter."""
MAX_PAUSE_S: Final = 60


class HttpsWitnesses:
    """`ports.witness.WitnessLink`. Made by `open_witnesses`; keeps connections open between checkpoints."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def add_checkpoint(self, url: str, body: bytes) -> WitnessAnswer:
        """See `WitnessLink`."""
        problem: PortError
        try:
            headers = {"Content-Type": "text/plain; charset=utf-8"}
            async with self._client.stream("POST", f"{url.rstrip('/')}/add-checkpoint", content=body, headers=headers) as answer:
                told = await _bounded(answer)
                return _read(answer.status_code, answer.headers, told)
        except httpx2.TimeoutException:
            problem = Unavailable("timeout", "the witness did not answer in time")
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError, OSError) as error:
            problem = Unavailable("witness-unreachable", f"no connection to the witness, or it was cut: {type(error).__name__}")
        # Outside the except block: as its context, the vendor's error would carry the answer.
        raise problem


@asynccontextmanager
async def open_witnesses(ca_file: Path | None) -> AsyncIterator[HttpsWitnesses]:
    """The way to witnesses, trusting the CAs of a PEM file, or the system's where there is none. Raises `OSError` where it cannot be read."""
    verify = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    # No answer may be compressed: what is bounded is what arrives.
    headers = {"Accept-Encoding": "identity", "User-Agent": "pingee"}
    limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64, keepalive_expiry=30)
    async with httpx2.AsyncClient(
        verify=verify, timeout=TIMEOUT_S, trust_env=False, follow_redirects=False, headers=headers, limits=limits
    ) as client:
        yield HttpsWitnesses(client)


async def _bounded(answer: httpx2.Response) -> bytes:
    told = bytearray()
    # Cancelled, not left: the library's nested generators end at their next read, and none waits for the garbage collector.
    with trio.CancelScope() as reading:
        async for part in answer.aiter_raw():
            told += part
            if len(told) > MAX_ANSWER:
                reading.cancel()
    if len(told) > MAX_ANSWER:
        raise Unavailable("witness-answer", "the witness's answer is too long")
    return bytes(told)


def _read(status: int, headers: httpx2.Headers, body: bytes) -> WitnessAnswer:
    match status:
        case 200:
            try:
                return Cosignatures(parse_signature_lines(body, limit=MAX_LINES))
            except MalformedNote:
                raise Unavailable("witness-answer", "the witness's answer is not signature lines") from None
        case 409:
            # An empty body is how transparency-dev's witness tells another root at the same size.
            size = parse_decimal(body.removesuffix(b"\n"))
            return OtherRoot() if size is None else OtherSize(size)
        case 422:
            return OtherRoot()
        case 429:
            told = parse_decimal(headers.get("retry-after", "").encode())
            raise WitnessBusy(None if told is None else min(told, MAX_PAUSE_S))
        case 403 | 404:
            raise Denied("witness-unknown-log", "the witness does not know this log or its key")
        case 400 | 405 | 413:
            raise Rejected("witness-rejected", "the witness finds the request malformed")
        case _:
            raise Unavailable("witness-answer", f"the witness answers with HTTP {status}")
