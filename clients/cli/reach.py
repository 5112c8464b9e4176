"""What the doctor reaches: our own token, the server's TLS and clock, a vault's seal, and what a replica says of its parts."""

from __future__ import annotations

import base64
import binascii
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx2

from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.readiness import Part, Word, parse_readiness
from gatekeeper.model.strictjson import MalformedJson, parse_object

from .check import Check, untold, utc, well, wrong
from .findings import FINDINGS, Finding
from .server import Access

SKEW: Final = timedelta(seconds=10)
EXPIRING: Final = timedelta(days=14)
CONNECT_S: Final = 5.0
ANSWER_S: Final = 15.0
"""for a whole answer"""
MAX_ANSWER: Final = 256 * 1024
MAX_TOKEN: Final = 16 * 1024


def own_token(access: Access, now: datetime) -> Iterator[Check]:
    """What can be seen of our own token without asking anybody."""
    name = "token"
    if access.token is None and access.token_file is None:
        yield well(name, "token-none", "no token is named: you read as everybody may, and can ask for nothing")
        return
    if access.token is None and access.token_file is not None:
        file = access.token_file
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_TOKEN + 1)
            mode = file.stat().st_mode
        except OSError as error:
            yield wrong(
                name, "token-file", f"the token file {file} cannot be read: {error.strerror}", "log in again, or name another file with --token-file"
            )
            return
        if mode & 0o077:
            yield wrong(
                "token-file",
                "token-file-open",
                f"others can read the token file {file}",
                f"chmod 600 {file}, and get a new token: this one may be known",
            )
    else:
        data = (access.token or "").encode("utf-8", "replace")
    yield _claims(data.decode("ascii", "replace").strip(), now)


def _claims(token: str, now: datetime) -> Check:
    again = "get a new token: people from the vault or their issuer, a pipeline from its CI platform, one for each run and audience"
    try:
        middle = token.split(".")[1]
        fields = Fields(parse_object(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)), max_bytes=MAX_TOKEN))
        expires = datetime.fromtimestamp(fields.integer("exp"), UTC)
        begins = fields.optional("nbf", fields.integer)
        audience = fields.raw("aud")
    except (IndexError, binascii.Error, MalformedJson, FieldError, ValueError, OverflowError, OSError):
        return wrong("token", "token-malformed", "the token is no JSON Web Token with exp and aud", again)
    if expires <= now:
        return wrong("token", "token-expired", f"your token expired at {utc(expires)}", again)
    if begins is not None and datetime.fromtimestamp(begins, UTC) - now > timedelta(seconds=60):
        return wrong(
            "token", "token-not-yet", f"your token is valid only from {utc(datetime.fromtimestamp(begins, UTC))}", "set this machine's clock"
        )
    if not isinstance(audience, str) or not audience.startswith("pingee:") or audience.startswith("pingee:certificates:"):
        return wrong("token", "token-audience", f"your token is for {str(audience)[:80]!r}, and a gatekeeper takes pingee:<instance>", again)
    return well("token", "token", f"your token is for {audience} and expires at {utc(expires)}")


def server(access: Access, now: datetime) -> Iterator[Check]:
    """Whether it is there, is itself, answers, takes our token, and has our time."""
    name, url = "server", access.url
    if url is None:
        yield wrong(name, "server-unnamed", "no server is named", "give --server URL or set PINGEE_SERVER")
        return
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        yield wrong(name, "server-url", f"{url} is no https:// URL", "give the gatekeeper's public https:// URL")
        return
    certificate = _handshake(parts.hostname, parts.port or 443, access.ca_file, now)
    yield certificate
    if certificate.ok is False and certificate.code != "certificate-expiring":
        yield untold("clock", "the server's clock is known only from an answer of its own")
        return
    try:
        answer = get(url, "/v1/whoami", access)
    except (httpx2.HTTPError, ssl.SSLError, OSError) as error:
        yield wrong(name, "server-silent", f"{url} took the connection and gave no answer: {type(error).__name__}", "look at the gatekeeper's log")
        return
    yield well(name, "server", f"{url} answers")
    yield from _accepted(answer, access)
    yield _clock("clock", answer, now)


def _handshake(host: str, port: int, ca_file: Path | None, now: datetime) -> Check:
    name = "tls"
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:
        return wrong(name, "ca-file", f"the CA file {ca_file} cannot be used: {error.strerror}", "name the PEM file of the CA with --ca-file")
    try:
        with socket.create_connection((host, port), timeout=CONNECT_S) as plain, context.wrap_socket(plain, server_hostname=host) as spoken:
            ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(str((spoken.getpeercert() or {})["notAfter"])), UTC)
    except socket.gaierror:
        return wrong("server", "server-name", f"no address is known for {host}", "check the name, and this machine's name service")
    except ssl.SSLCertVerificationError as error:
        return _untrusted(error)
    except ssl.SSLError:
        return wrong(name, "server-tls", f"{host}:{port} does not speak TLS as a gatekeeper does", "check the port, and what stands between")
    except (OSError, TimeoutError) as error:
        why = error.strerror or type(error).__name__
        return wrong("server", "server-unreachable", f"no gatekeeper answers at {host}:{port}: {why}", "start it, or see its log for why it ended")
    if ends - now <= EXPIRING:
        return wrong(name, "certificate-expiring", f"the server's certificate ends at {utc(ends)}", "give the gatekeeper a new one and restart it")
    return well(name, "certificate", f"the server's certificate is trusted and ends at {utc(ends)}")


def _untrusted(error: ssl.SSLCertVerificationError) -> Check:
    # OpenSSL's X509_V_ERR codes (x509_vfy.h): 9 not yet valid, 10 expired, 62 and 64 another name or address.
    match error.verify_code:
        case 10:
            return wrong("tls", "certificate-expired", "the server's certificate has expired", "give the gatekeeper a new one and restart it")
        case 9:
            return wrong("tls", "certificate-not-yet", "the server's certificate is not valid yet", "compare the two machines' clocks")
        case 62 | 64:
            return wrong(
                "tls", "certificate-name", "the server's certificate is for another name", "use the name in it, or have it made anew"
            )
        case _:
            sentence = f"the server's certificate is not trusted here: {error.verify_message}"
            return wrong("tls", "certificate-untrusted", sentence, "name its CA with --ca-file; do not go on without")


def get(url: str, path: str, access: Access | None) -> httpx2.Response:
    """One answer, its body bounded. Raises `httpx2.HTTPError` and what TLS raises."""
    verify = ssl.create_default_context(cafile=str(access.ca_file) if access is not None and access.ca_file is not None else None)
    headers = {}
    if access is not None:
        token = access.token
        if token is None and access.token_file is not None and access.token_file.is_file():
            token = access.token_file.read_text("ascii", "replace").strip()[:MAX_TOKEN]
        headers = {} if not token or not (token.isascii() and token.isprintable()) else {"Authorization": f"Bearer {token}"}
    timeout = CONNECT_S * 2
    until = time.monotonic() + ANSWER_S
    with (
        httpx2.Client(base_url=url, verify=verify, timeout=timeout, trust_env=False, follow_redirects=False) as client,
        client.stream("GET", path, headers=headers) as answer,
    ):
        body = bytearray()
        for part in answer.iter_bytes():
            body += part
            if len(body) > MAX_ANSWER:
                raise httpx2.DecodingError("the answer is too long")
            if time.monotonic() > until:
                # Each read has a timeout of its own; a byte every few seconds would never meet it.
                raise httpx2.ReadTimeout("the answer drips")
        return httpx2.Response(
            answer.status_code, headers={n: v for n, v in answer.headers.items() if n in ("date", "content-type")}, content=bytes(body)
        )


def _accepted(answer: httpx2.Response, access: Access) -> Iterator[Check]:
    if access.token is None and access.token_file is None:
        return
    if answer.status_code == 401:
        try:
            detail = str(parse_object(answer.content).get("detail", ""))
        except MalformedJson:
            detail = ""
        yield wrong("login", "unauthenticated", f"the server refuses your token: {detail[:300]}", "get a new token for this server's audience")
    elif answer.status_code == 200:
        yield well("login", "login", "the server accepts your token")
    else:
        sentence = f"the server answers {answer.status_code} where it says who you are"
        yield untold("login", sentence, "look at what the operator's listener says: --operator URL")


def _clock(name: str, answer: httpx2.Response, now: datetime) -> Check:
    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError, TypeError):
        return untold(name, "the server's answer has no date")
    if abs(theirs - now) > SKEW:
        seconds = abs((theirs - now).total_seconds())
        way = "ahead of" if theirs > now else "behind"
        sentence = f"the server's clock is {seconds:.0f} s {way} this machine's"
        return wrong(name, "clock-skew", sentence, "find out which is wrong (both should follow NTP): tokens and approvals are refused by the clock")
    return well(name, "clock", "the server's clock agrees with ours")


def vault(url: str, ca_file: Path | None) -> Check:
    """The vault's own word, as anybody who reaches it may ask: sealed or not."""
    access = Access(url, ca_file, None, None, CONNECT_S)
    try:
        answer = get(url, "/v1/sys/seal-status", access)
        sealed = parse_object(answer.content).get("sealed")
    except ssl.SSLError:
        return _found("vault-seal", Part.VAULT, Word.UNTRUSTED)
    except (httpx2.HTTPError, OSError, MalformedJson) as error:
        untrusted = "CERTIFICATE_VERIFY_FAILED" in str(error)
        return _found("vault-seal", Part.VAULT, Word.UNTRUSTED if untrusted else Word.UNREACHABLE)
    return _found("vault-seal", Part.VAULT, Word.OK if sealed is False else Word.SEALED)


def operator(url: str | None, now: datetime) -> Iterator[Check]:
    """What the operator's listener says of the replica's parts."""
    if url is None:
        return
    remedy = "ask it from where it may be reached (its own bind, never the public one), or start the gatekeeper"
    if urlsplit(url).scheme not in ("http", "https"):
        yield wrong("operator", "operator-url", f"{url} is no http:// URL", "give the operator's listener: http://HOST:PORT")
        return
    try:
        answer = get(url, "/readyz?verbose", None)
    except (httpx2.HTTPError, OSError) as error:
        yield wrong("operator", "operator-unreachable", f"the operator's listener {url} does not answer: {type(error).__name__}", remedy)
        yield untold("parts", "vault, database, log, policy and targets are known only from a gatekeeper that runs")
        return
    if answer.status_code not in (200, 503):
        yield wrong("operator", "operator-other", f"{url} answers /readyz with HTTP {answer.status_code}: that is no operator's listener", remedy)
        return
    yield _clock("operator-clock", answer, now)
    for name, part, word in parse_readiness(answer.text):
        yield _found(name, part, word)


def _found(name: str, part: Part, word: Word) -> Check:
    if word is Word.OK:
        return well(name, "ok", f"the {part} is well")
    finding = FINDINGS.get((part, word)) or Finding(f"the gatekeeper says of its {part}: {word}", "see the gatekeeper's own log for the cause")
    code = f"{part}-{word}" if not word.startswith("config-") else word.value
    if word is Word.CANNOT_TELL:
        return untold(name, finding.sentence, finding.remedy)
    subject = name.partition(":")[2]
    return wrong(name, code, finding.sentence.replace("{name}", subject), finding.remedy.replace("{name}", subject))
