"""Requests and answers of the JSON API: strict bodies in, canonical bytes with an ETag out (interfaces, 2.2)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from quart import Response, request

from gatekeeper.deploy.calls import CallRefused
from gatekeeper.deploy.ping import CallKey
from gatekeeper.model.canonical import encode_canonical
from gatekeeper.model.digest import Digest, MalformedDigest, digest_of, parse_digest
from gatekeeper.model.fields import FieldError, Fields
from gatekeeper.model.strictjson import JsonValue, MalformedJson, parse_object
from gatekeeper.ports.artifacts import BlobDiffers, BlobMissing, BlobTooLarge
from gatekeeper.ports.errors import Denied, PortError, Rejected, Unavailable
from gatekeeper.ports.log import LogFull
from gatekeeper.ports.pings import IdempotencyConflict, StalePing
from gatekeeper.ports.vault import Unauthenticated as VaultUnauthenticated
from gatekeeper.verify.errors import Malformed

from .problem import CODES, ApiError, FieldProblem

JSON_TYPE: Final = "application/json"
MAX_BUNDLE: Final = 16 * 1024 * 1024

_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")


def answer_json(document: Mapping[str, JsonValue], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer; 304 where the caller has these very bytes already."""
    body = encode_canonical(document)
    etag = hashlib.sha256(body).hexdigest()[:32]
    fields = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Accept", **(headers or {})}
    if status == 200:
        fields["ETag"] = f'"{etag}"'
        if request.if_none_match.contains_weak(etag):  # a list of tags, compared weakly (RFC 9110, 13.1.2)
            return Response(b"", status=304, headers=fields)
    return Response(body, status=status, headers=fields, content_type=JSON_TYPE)


async def read_body(max_bytes: int) -> bytes:
    """The request's whole body, of the JSON media type; more bytes are `too-large`."""
    if request.mimetype != JSON_TYPE:
        raise ApiError("unsupported-media-type", f"send {JSON_TYPE}")
    # Bounded in bytes by the edge, chunk by chunk, before it gets here; and `get_data`, unlike `request.body`, has a deadline.
    body = bytes(await request.get_data(cache=True, as_text=False, parse_form_data=False))
    if len(body) > max_bytes:
        raise ApiError("too-large", f"at most {max_bytes} bytes")
    return body


async def read_fields(max_bytes: int = 64 * 1024) -> tuple[Fields, Digest]:
    """The body as a strict JSON object, and the digest of its bytes."""
    body = await read_body(max_bytes)
    return Fields(parse_object(body, max_bytes=max_bytes)), digest_of(body)


def call_key(body: Digest) -> CallKey:
    """The caller's `Idempotency-Key`, which every such call needs."""
    key = request.headers.get("Idempotency-Key", "")
    if _KEY.fullmatch(key) is None:
        raise ApiError("ping-malformed", "send an Idempotency-Key of 1 to 128 printable ASCII characters, the same one when you repeat the call")
    return CallKey(key, body)


def path_digest(text: str) -> Digest:
    """A digest in a path; anything else does not exist."""
    try:
        return parse_digest(text)
    except MalformedDigest:
        raise ApiError("unknown-manifest") from None


def translate(error: Exception) -> ApiError:
    """The one table from what use cases raise to what callers are told; what is not in it is a bug of ours."""
    match error:
        case ApiError():
            return error
        case CallRefused():
            return ApiError(error.code, error.detail)
        case FieldError():
            return ApiError("ping-malformed", str(error), errors=[FieldProblem(error.pointer, error.detail)])
        case MalformedJson() | Malformed():
            return ApiError("ping-malformed", str(error))
        case IdempotencyConflict():
            return ApiError("idempotency-conflict", "this Idempotency-Key was used with another body; choose a new one")
        case StalePing():
            return ApiError("conflict", "the ping is being worked on; look again", retry_after=1)
        case VaultUnauthenticated():
            return ApiError("unauthenticated", "the vault does not accept this token")
        case BlobDiffers():
            return ApiError("digest-mismatch", "the bytes are not those of the digest")
        case BlobTooLarge():
            return ApiError("too-large", "the blob is larger than this environment takes")
        case BlobMissing():
            return ApiError("not-found")
        case LogFull():
            return ApiError("log-unavailable", "the log's queue is full", retry_after=error.retry_after_s)
        case Unavailable():
            code = error.cause_code if error.cause_code in CODES else "unavailable"
            return ApiError(code, error.detail, retry_after=2)
        case Denied() | Rejected():
            code = error.cause_code if error.cause_code in CODES else "not-authorised"
            return ApiError(code, error.detail)
        case PortError():
            return ApiError("unavailable", error.detail, retry_after=2)
        case _:
            raise error
